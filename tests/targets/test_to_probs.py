"""How targets are written out as plain tensors."""

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from softiou import targets
from softiou.overlap import overlap_statistics
from softiou.targets import DenseTarget, HardTarget, TeacherTarget, to_probs

IGNORE = 255

# Values by hand


def test_labels_by_hand() -> None:
    probs, valid = to_probs(torch.tensor([[1, 0, IGNORE]]), num_classes=2, ignore_index=IGNORE)
    assert probs.tolist() == [[[0, 1, 0], [1, 0, 0]]]
    assert probs.dtype == torch.float32
    assert valid.tolist() == [[True, True, False]]


def test_a_band_by_hand() -> None:
    masks = torch.tensor([[0, 0, 0, 1, IGNORE]], dtype=torch.uint8)
    target = targets.boundary(masks, epsilon=0.5, width=1)
    probs, valid = to_probs(target, num_classes=2, ignore_index=IGNORE)
    assert probs.tolist() == [[[1, 1, 0.75, 0.25, 0], [0, 0, 0.25, 0.75, 0]]]
    assert valid.tolist() == [[True, True, True, True, False]]


def test_probabilities_are_themselves() -> None:
    values = torch.tensor([[[0.25, 7.0], [0.75, 7.0]]], dtype=torch.float64)
    probs, valid = to_probs(values, num_classes=2, ignore_index=7)
    assert probs.tolist() == [[[0.25, 0], [0.75, 0]]]
    assert probs.dtype == torch.float32
    assert valid.tolist() == [[True, False]]


def test_one_class_by_hand() -> None:
    probs, valid = to_probs(torch.tensor([[0, 1, 5]]), num_classes=1)
    assert probs.tolist() == [[[0, 1, 0]]]
    assert valid.tolist() == [[True, True, False]]


def test_where_everything_counts() -> None:
    probs, valid = to_probs(TeacherTarget(torch.zeros(2, 4, 3)), num_classes=4)
    assert probs.tolist() == [[[0.25] * 3] * 4] * 2
    assert valid.tolist() == [[True] * 3] * 2


def test_a_target_keeps_the_label_that_it_ignores() -> None:
    target = HardTarget(torch.tensor([[0, 1, 2]]), 0)
    assert to_probs(target, num_classes=3, ignore_index=1)[1].tolist() == [[False, True, True]]


# The size of the image


def test_a_teacher_has_its_own_size_or_that_of_its_company() -> None:
    logits, masks = torch.randn(1, 3, 2, 2), torch.zeros(1, 4, 6, dtype=torch.long)
    teacher = targets.teacher(logits)
    mixture = targets.mix((0.5, teacher), (0.5, masks))
    region = torch.ones(1, 4, 6, dtype=torch.bool)
    pasted = targets.paste(teacher, targets.confident(teacher, keep=2), region)
    for target, space in (
        (teacher, (2, 2)),
        (targets.teacher(logits, size=(5, 5)), (5, 5)),
        (targets.confident(teacher), (2, 2)),
        (mixture, (4, 6)),
        (targets.confident(mixture), (4, 6)),
        (pasted, (4, 6)),
    ):
        probs, valid = to_probs(target, num_classes=3)
        assert probs.shape == (1, 3, *space)
        assert valid.shape == (1, *space)


# Properties


@given(st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_the_loss_is_the_same(dimensions: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    labels = torch.from_numpy(rng.choice([0, 1, 2, IGNORE], (2, *[4] * dimensions)))
    logits = torch.randn(2, 3, *[4] * dimensions)
    for target in (
        labels,
        targets.smooth(labels),
        targets.boundary(labels, width=1),
        targets.gaussian(labels),
        targets.votes(torch.stack([labels, labels.flip(-1)], 1)),
        targets.confident(targets.gaussian(labels), threshold=0.7, temperature=0.5),
        targets.mix((0.3, labels), (0.7, targets.teacher(torch.randn(2, 3, *[4] * dimensions)))),
    ):
        probs, valid = to_probs(target, num_classes=3, ignore_index=IGNORE)
        torch.testing.assert_close(probs.sum(1), valid.float())
        found = overlap_statistics(logits, probs, valid=valid)
        expected = overlap_statistics(logits, target, ignore_index=IGNORE)
        torch.testing.assert_close(found.D, expected.D)


@pytest.mark.parametrize("shape", [(0, 3), (2, 0)])
def test_nothing_is_written_as_nothing(shape: tuple[int, int]) -> None:
    probs, valid = to_probs(torch.zeros(shape, dtype=torch.long), num_classes=4)
    assert probs.shape == (shape[0], 4, shape[1])
    assert valid.shape == shape


# Errors


def test_something_else_raises() -> None:
    with pytest.raises(TypeError, match=r"`target` to be a tensor, but got builtins.list"):
        to_probs([[0, 1]], num_classes=2)  # type: ignore[arg-type]


def test_another_number_of_classes_raises() -> None:
    with pytest.raises(ValueError, match=r"`target` to have 4 classes, .* got 3"):
        to_probs(torch.rand(1, 3, 2), num_classes=4)
    with pytest.raises(ValueError, match=r"`num_classes` to be at least 1, but got 0"):
        to_probs(torch.zeros(1, 3).long(), num_classes=0)


def test_classes_that_are_ignored_one_by_one_raise() -> None:
    target = DenseTarget(torch.rand(1, 3, 2), IGNORE, independent=True)
    with pytest.raises(ValueError, match=r"to be ignored together, .* activation='sigmoid'"):
        to_probs(target, num_classes=3)
