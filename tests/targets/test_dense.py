import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from softiou.overlap import overlap_statistics
from softiou.targets import DenseTarget, Target

NAN, INF = math.nan, math.inf


def counts(target: Target, num_classes: int) -> list[bool]:
    """What counts, flattened."""
    valid = target.dense(num_classes, torch.float32).valid
    assert valid is not None
    return [bool(c) for c in valid.flatten()]


# Values by hand


def test_by_hand() -> None:
    values = torch.tensor([[[0.25, 255.0, 255.0], [0.75, 255.0, 0.0]]])
    target = DenseTarget(values, ignore_index=255)
    assert target.shape == (1, 3)
    assert torch.equal(target.dense(2, torch.float32).y, values)
    assert counts(target, 2) == [True, False, True]  # one entry of 255 is a mistake, not a mark


def test_independent_classes_are_ignored_entry_by_entry() -> None:
    values = torch.tensor([[[0.25, 255.0], [255.0, 1.0]]])
    target = DenseTarget(values, ignore_index=255, independent=True)
    assert counts(target, 2) == [True, False, False, True]


def test_without_ignore_index_everything_counts() -> None:
    assert DenseTarget(torch.rand(1, 2, 3)).dense(2, torch.float32).valid is None


def test_ready_probabilities_of_independent_classes() -> None:
    values = torch.tensor([[[1.0, 255.0], [0.5, 0.0]]])
    target = DenseTarget(values, ignore_index=255, independent=True)
    for impl in ("torch", "chunked"):
        s = overlap_statistics(torch.full((1, 2, 2), 0.5), target, activation="none", impl=impl)
        assert s.P.tolist() == [[0.5, 1.0]]
        assert s.Y.tolist() == [[1.0, 0.5]]
        assert s.weight.tolist() == [3.0]


# Dtypes


def test_comes_in_the_dtype_that_is_asked_for() -> None:
    values = torch.rand(1, 2, 3)
    assert DenseTarget(values.half()).dense(2, torch.float64).y.dtype == torch.float64


@pytest.mark.parametrize("ignore_index", [-1, 255])
def test_independent_integers_do_not_wrap_around(ignore_index: int) -> None:
    values = torch.tensor([[[1, 0, 255]]], dtype=torch.uint8)
    target = DenseTarget(values, ignore_index, independent=True)
    assert counts(target, 1) == [True, True, False]
    if ignore_index == -1:
        with pytest.raises(ValueError, match=r"in \[0.0, 1.0\], but got 255.0"):
            target.validate(1)
    else:
        target.validate(1)


# Errors


@pytest.mark.parametrize("impl", ["torch", "chunked", "auto"])
@pytest.mark.parametrize("num_classes", [1, 2, 4])
def test_other_classes_raise(num_classes: int, impl: str) -> None:
    """One class would be spread over all of them in silence."""
    target = DenseTarget(torch.ones(2, num_classes, 8))
    with pytest.raises(ValueError, match=rf"to have 3 classes.*\(2, {num_classes}, 8\)"):
        overlap_statistics(torch.zeros(2, 3, 8), target, impl=impl)


def test_independent_classes_under_a_softmax_raise() -> None:
    target = DenseTarget(torch.rand(1, 3, 4), ignore_index=255, independent=True)
    with pytest.raises(ValueError, match=r"to ignore all classes of a pixel together"):
        overlap_statistics(torch.zeros(1, 3, 4), target)


# Contents, under validate


def check(target: Tensor, num_classes: int = 3, **options: Any) -> None:
    activation = "softmax" if num_classes > 1 else "sigmoid"
    logits = torch.zeros(target.shape[0], num_classes, *target.shape[2:])
    overlap_statistics(logits, target, **{"activation": activation, "validate": True, **options})


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_target_that_is_not_finite_raises(value: float) -> None:
    target = torch.full((1, 3, 4), 1 / 3)
    target[0, 1, 2] = value
    with pytest.raises(ValueError, match=r"`target` to be finite, but found NaN or infinity"):
        check(target)


@pytest.mark.parametrize("value", [-0.25, 1.25])
def test_probabilities_outside_zero_and_one_raise(value: float) -> None:
    target = torch.tensor([value, 1 - value, 0.0]).view(1, 3, 1)
    with pytest.raises(ValueError, match=r"`target` to be in \[0.0, 1.0\], but got (-0.25|1.25)"):
        check(target)


def test_probabilities_that_do_not_sum_to_one_raise() -> None:
    with pytest.raises(ValueError, match=r"sum to 1 over the classes, .* with the sum 0.9. Divide"):
        check(torch.full((1, 3, 4), 0.3))


def test_a_probability_that_was_rounded_up_passes() -> None:
    check(torch.tensor([1 + 4e-7, 0, 0]).view(1, 3, 1))


def test_what_is_ignored_is_not_checked() -> None:
    target = torch.full((1, 3, 4), 1 / 3)
    target[..., 1] = 255
    check(target, ignore_index=255)
    with pytest.raises(ValueError, match=r"in \[0.0, 1.0\], but got 255.0"):
        check(target)


def test_independent_probabilities_need_no_sum() -> None:
    check(torch.rand(1, 3, 4), activation="sigmoid")
    check(torch.rand(1, 1, 4), num_classes=1)


@given(st.sampled_from([torch.float16, torch.bfloat16]), st.integers(2, 64))
def test_rounded_probabilities_pass(dtype: torch.dtype, num_classes: int) -> None:
    check(torch.randn(1, num_classes, 16).softmax(1).to(dtype), num_classes)


def test_an_empty_target_passes() -> None:
    check(torch.rand(0, 3, 4))
    check(torch.rand(2, 3, 0))
