import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from softiou.targets import SparseTarget

# Values by hand


def test_by_hand() -> None:
    indices = torch.tensor([[[2, 0], [0, 0]]])  # (1, 2, 2)
    weights = torch.tensor([[[0.5, 0.25], [0.2, 0.15]]], dtype=torch.float64)
    target = SparseTarget(indices, weights)
    assert target.shape == (1, 2)
    found = target.dense(3, torch.float64)
    expected = torch.tensor([[0.3, 0.6], [0.1, 0.2], [0.6, 0.2]], dtype=torch.float64)
    torch.testing.assert_close(found.y[0], expected)
    assert found.valid is not None
    assert found.valid.all()


def test_bytes_are_steps_of_one_in_255_by_hand() -> None:
    indices, weights = torch.tensor([[[1], [0]]]), torch.tensor([[[204], [0]]], dtype=torch.uint8)
    y = SparseTarget(indices, weights).dense(2, torch.float64).y
    expected = torch.tensor([[[0.1], [0.9]]], dtype=torch.float64)
    torch.testing.assert_close(y, expected, rtol=0, atol=1e-15)


def test_an_index_that_is_no_class_leaves_the_pixel_out() -> None:
    indices = torch.tensor([[[0, 3, -1, 2], [1, 0, 0, 255]]])
    found = SparseTarget(indices, torch.full((1, 2, 4), 0.5)).dense(3, torch.float32)
    assert found.valid is not None
    assert found.valid.tolist() == [[[True, False, False, False]]]


def test_one_class_takes_everything() -> None:
    target = SparseTarget(torch.tensor([[[0, 0]]]), torch.tensor([[[1.0, 0.5]]]))
    assert target.dense(1, torch.float32).y.tolist() == [[[1.0, 1.0]]]


# Properties


@given(st.integers(1, 3), st.integers(0, 2**32 - 1))
def test_all_classes_kept_are_the_probabilities(images: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    probs = torch.from_numpy(rng.dirichlet(np.ones(4), (images, 5))).movedim(-1, 1)
    weights, indices = probs.sort(1, descending=True)
    found = SparseTarget(indices, weights).dense(4, torch.float64).y
    torch.testing.assert_close(found, probs, rtol=0, atol=1e-14)


@given(st.integers(2, 6), st.integers(0, 2**32 - 1))
@example(5, 1208)  # the divided weights sum to more than 1 by a rounding error
def test_rounded_bytes_stay_probabilities(num_classes: int, seed: int) -> None:
    """Rounded to nearest they may sum to more than 1, and the rest must not become negative."""
    rng = np.random.default_rng(seed)
    probs = torch.from_numpy(rng.dirichlet(np.ones(num_classes), (1, 64))).movedim(-1, 1)
    weights, indices = probs.sort(1, descending=True)
    kept = (weights * 255).round().to(torch.uint8)
    target = SparseTarget(indices, kept)
    target.validate(num_classes)
    y = target.dense(num_classes, torch.float64).y
    assert y.min() >= 0
    torch.testing.assert_close(y.sum(1), torch.ones(1, 64, dtype=torch.float64))
    assert (y - probs).abs().max() < num_classes / 255


def test_bytes_may_all_be_rounded_up() -> None:
    """Eight of them by half a step each, for instance."""
    weights = torch.tensor([31, 32, 32, 32, 33, 33, 33, 33], dtype=torch.uint8).view(1, 8, 1)
    indices = torch.arange(8).view(1, 8, 1)
    SparseTarget(indices, weights).validate(8)  # 259 steps
    with pytest.raises(ValueError, match=r"sum of at most 1 over K"):
        SparseTarget(indices, weights + (indices == 0)).validate(8)
    with pytest.raises(ValueError, match=r"sum of at most 1 over K"):
        SparseTarget(indices, weights.double() / 255).validate(8)


def test_bytes_of_more_than_one_by_hand() -> None:
    weights = torch.tensor([[[128], [129]]], dtype=torch.uint8)
    y = SparseTarget(torch.tensor([[[0], [1]]]), weights).dense(3, torch.float64).y
    expected = torch.tensor([128 / 257, 129 / 257, 0.0], dtype=torch.float64)
    torch.testing.assert_close(y.flatten(), expected, rtol=0, atol=1e-15)


@given(st.integers(0, 2**32 - 1))
def test_the_order_of_the_classes_kept_does_not_matter(seed: int) -> None:
    rng = np.random.default_rng(seed)
    indices = torch.from_numpy(rng.integers(0, 4, (2, 3, 5)))
    weights = torch.from_numpy(rng.dirichlet(np.ones(4), (2, 5))).movedim(-1, 1)[:, :3]
    one, other = (
        SparseTarget(i, w).dense(4, torch.float64).y
        for i, w in ((indices, weights), (indices.flip(1), weights.flip(1)))
    )
    torch.testing.assert_close(one, other, rtol=0, atol=1e-15)


# Dtypes


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int16, torch.int32, torch.int64])
def test_integer_dtypes_agree(dtype: torch.dtype) -> None:
    target = SparseTarget(torch.tensor([[[1, 0]]], dtype=dtype), torch.tensor([[[0.5, 1.0]]]))
    assert target.dense(2, torch.float32).y.tolist() == [[[0.25, 1.0], [0.75, 0.0]]]


# Errors


def test_shapes_that_differ_raise() -> None:
    indices = torch.zeros(1, 2, 3, dtype=torch.long)
    with pytest.raises(
        ValueError, match=r"the same shape \(N, K, \*S\), but got \(1, 2, 3\) and \(1, 1"
    ):
        SparseTarget(indices, torch.zeros(1, 1, 3))
    with pytest.raises(ValueError, match=r"\(N, K, \*S\), but got \(2, 3\) and \(2, 3\)"):
        SparseTarget(indices[0], torch.zeros(2, 3))


def test_wrong_dtypes_raise() -> None:
    indices, weights = torch.zeros(1, 2, 3, dtype=torch.long), torch.zeros(1, 2, 3)
    with pytest.raises(TypeError, match=r"`indices` to have an integer dtype, but got torch.float"):
        SparseTarget(weights, weights)
    with pytest.raises(TypeError, match=r"`weights` to be floating or uint8, but got torch.int64"):
        SparseTarget(indices, indices)


# Contents, under validate


def test_mistakes_outside_of_valid_are_not_looked_for() -> None:
    indices = torch.tensor([[[0, 9, 1], [1, 0, 0]]])
    weights = torch.tensor([[[1.0, 0.5, 7.0], [0.0, 0.25, 0.0]]])
    target = SparseTarget(indices, weights)
    target.validate(2, torch.tensor([[True, False, False]]))
    with pytest.raises(ValueError, match=r"classes in \[0, 1\], but found \[9\]"):
        target.validate(2, torch.tensor([[True, True, False]]))
    with pytest.raises(ValueError, match=r"sum of at most 1 over K, .* a pixel with \[7.0, 0.0\]"):
        target.validate(2, torch.tensor([[True, False, True]]))
