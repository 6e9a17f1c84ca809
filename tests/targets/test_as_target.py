"""How a plain tensor is read as a target, and the short names that make targets."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from torch import Tensor

from reference.cases import Case, cases
from softiou import targets
from softiou.losses import JaccardMetricLoss
from softiou.overlap import overlap_statistics
from softiou.targets import (
    ConfidentTarget,
    DenseTarget,
    GaussianTarget,
    HardTarget,
    MixedTarget,
    RegionTarget,
    SmoothedTarget,
    SoftTile,
    SparseTarget,
    Target,
    TeacherTarget,
    VotesTarget,
    as_target,
)
from softiou.tiles import Tile

INTEGERS = [torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64]


# Values by hand


@pytest.mark.parametrize("dtype", [*INTEGERS, torch.bool])
def test_integers_are_hard(dtype: torch.dtype) -> None:
    target = as_target(torch.zeros(2, 4, 4, dtype=dtype), logits_shape=(2, 3, 4, 4), ignore_index=7)
    assert isinstance(target, HardTarget)
    assert target.ignore_index == 7


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_floats_are_dense(dtype: torch.dtype) -> None:
    target = as_target(torch.zeros(2, 3, 4, dtype=dtype), logits_shape=(2, 3, 4), ignore_index=7)
    assert isinstance(target, DenseTarget)
    assert (target.ignore_index, target.independent) == (7, False)


@pytest.mark.parametrize("dtype", [*INTEGERS, torch.bool])
def test_independent_integers_are_read_as_zero_and_one(dtype: torch.dtype) -> None:
    values = torch.tensor([[[1, 0], [1, 1]]], dtype=dtype)
    target = as_target(values, logits_shape=(1, 2, 2), independent=True)
    assert target.dense(2, torch.float32).y.tolist() == [[[1, 0], [1, 1]]]
    target.validate(2)


def test_independent_integers_can_ignore_zero() -> None:
    """Positive and unlabelled: only what is marked counts."""
    values = torch.tensor([[[1, 0], [0, 1]]])
    target = as_target(values, logits_shape=(1, 2, 2), ignore_index=0, independent=True)
    counts = target.dense(2, torch.float32).valid
    assert counts is not None
    assert counts.flatten().tolist() == [True, False, False, True]


def test_a_target_is_handed_through() -> None:
    target = HardTarget(torch.zeros(2, 4, dtype=torch.long), ignore_index=3)
    assert as_target(target, logits_shape=(2, 3, 4), ignore_index=255) is target


def test_a_target_is_completed_by_the_loss() -> None:
    hard = HardTarget(torch.zeros(2, 4, 6, dtype=torch.long))
    teacher = targets.teacher(torch.zeros(2, 3, 2, 2))
    found = as_target(
        targets.mix((0.5, hard), (0.5, teacher)), logits_shape=(2, 3, 4, 6), ignore_index=9
    )
    assert isinstance(found, MixedTarget)
    one, other = found.parts
    assert isinstance(one, HardTarget)
    assert isinstance(other, TeacherTarget)
    assert (one.ignore_index, other.size) == (9, (4, 6))
    assert hard.ignore_index is None  # a new one was made


# Short names

LABELS, PROBS = torch.tensor([[0, 1, 7]]), torch.full((1, 2, 3), 0.5)
VOTES, REGION = LABELS.unsqueeze(1), torch.tensor([[True, False, True]])


@pytest.mark.parametrize(
    ("made", "meant"),
    [
        (targets.smooth(LABELS), SmoothedTarget(LABELS, 0.1)),
        (targets.smooth(LABELS, 0.3, ignore_index=7), SmoothedTarget(LABELS, 0.3, None, 7)),
        (targets.boundary(LABELS), SmoothedTarget(LABELS, 0.5, 1)),
        (targets.boundary(LABELS, 0.2, 1, ignore_index=7), SmoothedTarget(LABELS, 0.2, 1, 7)),
        (targets.gaussian(LABELS), GaussianTarget(LABELS, 1.0, 1)),
        (
            targets.gaussian(LABELS, sigma=0.5, width=2, ignore_index=7),
            GaussianTarget(LABELS, 0.5, 2, 7),
        ),
        (targets.votes(VOTES), VotesTarget(VOTES)),
        (targets.votes(VOTES, ignore_index=7), VotesTarget(VOTES, 7)),
        (targets.sparse(VOTES, PROBS[:, :1]), SparseTarget(VOTES, PROBS[:, :1])),
        (targets.teacher(PROBS), TeacherTarget(PROBS)),
        (
            targets.teacher(PROBS[..., None], size=(4, 2), temperature=2.0, align_corners=True),
            TeacherTarget(PROBS[..., None], (4, 2), 2.0, True),
        ),
        (
            targets.teacher(PROBS[..., None], valid=torch.ones(1, 4, 2) > 0),
            TeacherTarget(PROBS[..., None], (4, 2), valid=torch.ones(1, 4, 2) > 0),
        ),
        (targets.confident(LABELS), ConfidentTarget(HardTarget(LABELS))),
        (
            targets.confident(PROBS, threshold=0.7, temperature=0.5, keep=2),
            ConfidentTarget(DenseTarget(PROBS, None, None), 0.7, 0.5, 2),
        ),
        (
            targets.mix((0.25, LABELS), (2.0, PROBS), (1.0, VotesTarget(VOTES))),
            MixedTarget(
                (0.25, 2.0, 1.0),
                (HardTarget(LABELS), DenseTarget(PROBS, None, None), VotesTarget(VOTES)),
            ),
        ),
        (
            targets.paste(LABELS, PROBS, REGION),
            RegionTarget(HardTarget(LABELS), DenseTarget(PROBS, None, None), REGION),
        ),
    ],
)
def test_short_names(made: Target, meant: Target) -> None:
    assert repr(made) == repr(meant)


# The slow reference


def read(case: Case) -> Target:
    logits, target = case.tensors()
    return as_target(
        target,
        logits_shape=tuple(logits.shape),
        ignore_index=case.ignore_index,
        independent=case.activation == "sigmoid" or case.num_classes == 1,
    )


@given(cases())
def test_agrees_with_loops(case: Case) -> None:
    data, target = case.reference(), read(case)
    shape = tuple(case.logits.shape)
    found = target.dense(case.num_classes, torch.float64)
    valid = found.valid
    valid = torch.ones(shape, dtype=torch.bool) if valid is None else valid.expand(shape)
    for given_map in (case.valid, None if case.weights is None else case.weights > 0):
        if given_map is not None:
            valid = valid & torch.from_numpy(given_map).unsqueeze(1)
    counted = valid.reshape(data.w.shape).numpy()
    np.testing.assert_array_equal(counted, data.w > 0)
    y = found.y.reshape(data.y.shape).numpy()
    np.testing.assert_array_equal(y[counted], data.y[counted])


# Properties


@given(cases(activations=("softmax",)))
def test_a_target_means_what_its_tensor_means(case: Case) -> None:
    logits, tensor = case.tensors()
    kind: Any = DenseTarget if tensor.is_floating_point() else HardTarget
    settings: dict[str, Any] = {"cross_entropy": 0.25, "validate": False}
    loss = JaccardMetricLoss(ignore_index=case.ignore_index, **settings)
    wrapped = JaccardMetricLoss(**settings)(logits, kind(tensor, case.ignore_index), **case.maps())
    assert torch.equal(wrapped, loss(logits, tensor, **case.maps()))


@given(cases())
def test_valid_batches_pass(case: Case) -> None:
    """Every target that is drawn is right but for labels that are no class."""
    logits, target = case.tensors()
    real = max(case.num_classes, 2)
    if target.ndim < logits.ndim and target.dtype != torch.bool:
        wrong = (target.long() < 0) | (target.long() >= real)
        if case.ignore_index is not None:
            wrong &= target.long() != case.ignore_index
        target = torch.where(wrong, 1, target.long())
    checked, unchecked = (
        overlap_statistics(
            logits, target, **(case.settings() | case.maps() | {"validate": validate})
        )
        for validate in (True, False)
    )
    assert torch.equal(checked.D, unchecked.D)


@dataclass(frozen=True)
class Constant(Target):
    """A target of the user's own: every pixel is of one class, the first one is unknown."""

    label: int
    covers: tuple[int, ...]

    @property
    def shape(self) -> tuple[int, ...]:
        return self.covers

    def read(self, tile: Tile, num_classes: int, dtype: torch.dtype) -> SoftTile:
        y = torch.zeros(num_classes, tile.pixels, dtype=dtype)
        y[self.label] = 1
        # Pixels are numbered from the start of the last dimension.
        first = torch.arange(self.covers[-1])[tile.box[-1]] == 0
        return SoftTile(torch.where(first, torch.nan, y), ~first)

    def validate(self, num_classes: int, valid: Tensor | None = None) -> None:
        if self.label >= num_classes:
            raise ValueError(f"label {self.label} is no class")


@pytest.mark.parametrize("impl", ["torch", "chunked", "auto"])
def test_a_target_of_ones_own_is_enough(impl: str) -> None:
    logits = torch.randn(2, 3, 5)
    labels = torch.full((2, 5), 2)
    labels[:, 0] = -1
    own = overlap_statistics(
        logits, Constant(2, (2, 5)), cross_entropy=True, validate=True, impl=impl, tile=2
    )
    plain = overlap_statistics(logits, labels, cross_entropy=True, validate=False)
    torch.testing.assert_close(own.D, plain.D)
    torch.testing.assert_close(own.cross_entropy, plain.cross_entropy)
    with pytest.raises(ValueError, match=r"label 3 is no class"):
        overlap_statistics(logits, Constant(3, (2, 5)), validate=True)


# Shapes that do not fit

HALF = torch.zeros(2, 4, 16)


@pytest.mark.parametrize(
    ("target", "way_out"),
    [
        (HALF.long(), r"got \(2, 4, 16\) of torch.int64. Resize the target"),
        (HALF, r"got \(2, 4, 16\) of torch.float32. Resize the target"),
        (torch.zeros(2, 1, 8, 8), r"got \(2, 1, 8, 8\) of torch.float32. Use target.long\(\)"),
        (torch.zeros(2, 8, 8), r"got \(2, 8, 8\) of torch.float32. Use target.long\(\)"),
        (torch.zeros(2, 3, 8, 8).long(), r"to sum to 1 over the classes, .* with the sum 0"),
        (torch.zeros(2, 4, 8, 8), r"\(N, C, \*S\) = \(2, 3, 8, 8\) .* Resize the target"),
        (torch.zeros(1, 8, 8).long(), r"\(N, \*S\) = \(2, 8, 8\) \(integer\)"),
        (torch.zeros(8, 8).long(), r"got \(8, 8\)"),
    ],
)
def test_wrong_shapes_raise_with_the_way_out(target: Tensor, way_out: str) -> None:
    with pytest.raises(ValueError, match=way_out):
        overlap_statistics(torch.zeros(2, 3, 8, 8), target)


def test_masks_as_people_have_them() -> None:
    """A class dimension of one, one-hot integers, binary floats without a class dimension."""
    logits, labels = torch.randn(2, 3, 8, 8), torch.randint(0, 3, (2, 8, 8))
    loss = JaccardMetricLoss(cross_entropy=0.5)
    expected = loss(logits, labels)
    one_hot = torch.nn.functional.one_hot(labels, 3).movedim(-1, 1)
    for target in (labels.unsqueeze(1), one_hot, one_hot.bool(), one_hot.to(torch.uint8)):
        torch.testing.assert_close(loss(logits, target), expected)
    binary = JaccardMetricLoss(cross_entropy=0.5, activation="sigmoid")
    mask = labels > 0
    for target in (mask.unsqueeze(1), mask.float(), mask.unsqueeze(1).float()):
        torch.testing.assert_close(binary(logits[:, :1], target), binary(logits[:, :1], mask))


def test_one_hot_integers_are_ignored_by_the_pixel() -> None:
    logits, labels = torch.randn(1, 3, 9), torch.randint(0, 3, (1, 9))
    one_hot = torch.nn.functional.one_hot(labels, 3).movedim(-1, 1)
    one_hot[..., :2] = 255
    expected = overlap_statistics(logits[..., 2:], labels[:, 2:])
    for impl in ("torch", "chunked", "native"):
        found = overlap_statistics(logits, one_hot, ignore_index=255, impl=impl)
        torch.testing.assert_close(found.D, expected.D)
        one_hot_of_two = one_hot.clone()
        one_hot_of_two[0, 0, 5] = 2
        with pytest.raises(ValueError, match=r"`target` to be in \[0.0, 1.0\], but got 2.0"):
            overlap_statistics(logits, one_hot_of_two, ignore_index=255, impl=impl)


@pytest.mark.parametrize("ignored", [0, 2, [0, 2], [1, 255]])
def test_a_class_of_one_hot_integers_is_ignored(ignored: int | list[int]) -> None:
    logits, labels = torch.randn(2, 3, 40), torch.randint(0, 3, (2, 40))
    one_hot = torch.nn.functional.one_hot(labels, 3).movedim(-1, 1)
    loss = JaccardMetricLoss(cross_entropy=0.5, ignore_index=ignored)
    for target in (one_hot, one_hot.bool(), one_hot.to(torch.uint8)):
        assert loss(logits, target) == loss(logits, labels) != loss(logits, labels.roll(1))
    one_hot[0, :, 0] = 1
    with pytest.raises(ValueError, match=r"class indices in \[0, 2\] or .*, but found \[3\]"):
        loss(logits, one_hot)


def test_several_labels_are_ignored() -> None:
    logits, labels = torch.randn(1, 4, 40), torch.randint(0, 4, (1, 40))
    valid = (labels != 0) & (labels != 3)
    expected = overlap_statistics(logits, labels, valid=valid)
    kinds: list[Any] = [[0, 3], (3, 0), torch.tensor([0, 3]), np.array([0, 3])]
    for ignored in kinds:
        torch.testing.assert_close(
            overlap_statistics(logits, labels.to(torch.uint8), ignore_index=ignored).D, expected.D
        )
    with pytest.raises(ValueError, match=r"one `ignore_index` for probabilities"):
        overlap_statistics(logits, logits.softmax(1), ignore_index=[0, 3])
    with pytest.raises(ValueError, match=r"one `ignore_index` for a HardTarget"):
        overlap_statistics(logits, HardTarget(labels), ignore_index=[0, 3])


def test_a_target_of_another_space_raises() -> None:
    with pytest.raises(ValueError, match=r"to have shape \(N, \*S\) = \(2, 8\), but got \(2, 4\)"):
        overlap_statistics(torch.zeros(2, 3, 8), HardTarget(torch.zeros(2, 4).long()))


def test_something_else_raises() -> None:
    with pytest.raises(
        TypeError, match=r"`target` to be a tensor, but got builtins.list. Make it one"
    ):
        overlap_statistics(torch.zeros(1, 3, 2), [[0, 1]])  # type: ignore[arg-type]
    with pytest.raises(
        TypeError, match=r"`target` to be a tensor, but got builtins.list. Make it one"
    ):
        targets.mix((1.0, [[0, 1]]))  # type: ignore[arg-type]


@pytest.mark.parametrize("ignore_index", [0, 1])
def test_an_ignore_index_that_is_a_probability_raises(ignore_index: int) -> None:
    with pytest.raises(ValueError, match=rf"ignore_index={ignore_index} is also a probability"):
        as_target(
            torch.rand(1, 2, 3), logits_shape=(1, 2, 3), ignore_index=ignore_index, independent=True
        )


def test_a_channel_of_size_1_has_its_way_out() -> None:
    from softiou import JaccardMetricLoss, targets

    logits, labels = torch.randn(2, 3, 4, 4), torch.randint(0, 3, (2, 1, 4, 4))
    loss, valid = JaccardMetricLoss(), torch.ones(2, 1, 4, 4, dtype=torch.bool)
    for target in (targets.smooth(labels), targets.boundary(labels), targets.mix((1.0, labels))):
        with pytest.raises(ValueError, match=r"\(2, 1, 4, 4\). Use `squeeze\(1\)`"):
            loss(logits, target)
    for maps in ({"valid": valid}, {"weights": valid.float()}):
        with pytest.raises(ValueError, match=r"\(2, 1, 4, 4\). Use `squeeze\(1\)`"):
            loss(logits, labels, **maps)
