"""Logits given as probabilities are refused; what rounds, and NaN, is not."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor

from metrics.test_native import plain_only
from softiou import targets
from softiou.metrics import (
    BoundaryCalibrationError,
    BrierScore,
    CalibrationScores,
    ClasswiseCalibrationError,
    EvaluationScores,
    ExpectedCalibrationError,
    NegativeLogLikelihood,
    classwise_bins,
    confidence_sums,
    pixel_sums,
)

OF_LARGEST = (ExpectedCalibrationError, BrierScore, NegativeLogLikelihood, BoundaryCalibrationError)
OF_CLASSES = (CalibrationScores, EvaluationScores, ClasswiseCalibrationError)
FUNCTIONS: list[Callable[..., Any]] = [pixel_sums, classwise_bins, confidence_sums]
HALVES = (torch.bfloat16, torch.float16)


def logits_and_labels() -> tuple[Tensor, Tensor]:
    return 5 * torch.randn(2, 4, 20, 20), torch.randint(0, 4, (2, 20, 20))


@pytest.mark.parametrize("metric", OF_LARGEST + OF_CLASSES)
@pytest.mark.parametrize("kind", ["labels", "soft", "independent"])
def test_logits_are_refused(metric: Any, kind: str) -> None:
    logits, target = logits_and_labels()
    given: Any = {"labels": target, "soft": targets.votes(target.unsqueeze(1)),
                  "independent": (torch.rand(logits.shape) < 0.5).long()}[kind]  # fmt: skip
    with pytest.raises(
        ValueError, match=r"`probs` to be probabilities .*For logits, use `logits\.sof"
    ):
        metric(4, independent=kind == "independent").update(logits, given)


@pytest.mark.parametrize("function", FUNCTIONS[:2])
def test_classes_must_sum_to_one(function: Callable[..., Any]) -> None:
    logits, target = logits_and_labels()
    message = r"that sum to 1 over the classes, but found [0-2]\.\d+ in the mean of an image"
    with pytest.raises(ValueError, match=message):
        function(logits.sigmoid(), target, num_classes=4)
    with plain_only(), pytest.raises(ValueError, match=message):
        function(logits.sigmoid(), target, num_classes=4)


@pytest.mark.parametrize(
    ("value", "message"),
    [
        (-0.1, "of at least 0, but found -0.1 "),
        (1.1, "of at most 1, but found 1.1 "),
        (0.2, "whose largest is at least 0.5, but found 0.2 "),
    ],
)
def test_largest_probability_has_a_range(value: float, message: str) -> None:
    probs, target = torch.full((1, 2, 9), value), torch.zeros(1, 9, dtype=torch.int64)
    with pytest.raises(ValueError, match=message):
        confidence_sums(probs, target, num_classes=2)
    if value == 0.2:  # a probability of yes may be as low as it likes
        confidence_sums(probs, torch.zeros(1, 2, 9), num_classes=2, independent=True)


@pytest.mark.parametrize("function", FUNCTIONS)
@pytest.mark.parametrize("dtype", HALVES)
@pytest.mark.parametrize("C", [2, 19, 300])
@pytest.mark.parametrize("scale", [0.0, 1.0, 20.0])
def test_half_precision_is_let_through(
    function: Callable[..., Any], dtype: torch.dtype, C: int, scale: float
) -> None:
    probs = (scale * torch.randn(1, C, 400)).to(dtype).softmax(1)
    target = torch.randint(0, C, (1, 400))
    function(probs, target, num_classes=C)
    function(probs, (torch.rand(1, C, 400) < 0.5).long(), num_classes=C, independent=True)
    with plain_only():
        function(probs, target, num_classes=C)


@pytest.mark.parametrize("metric", OF_LARGEST + OF_CLASSES)
def test_nan_and_images_without_pixels_are_let_through(metric: Any) -> None:
    logits, target = logits_and_labels()
    probs = logits.softmax(1)
    probs[0, 1, 3, 3] = torch.nan
    target[0, 3, 3], target[1] = 1, 255
    found = metric(4, ignore_index=255)
    found.update(probs, target)
    values = found.compute()
    values = values if isinstance(values, dict) else {"nll": values}
    assert all(values[name].isnan() for name in ("nll", "ece_d", "cece_d") if name in values)


def test_pixels_that_do_not_count_may_hold_anything() -> None:
    logits, target = logits_and_labels()
    probs = logits.softmax(1)
    expected = pixel_sums(probs[:, :, 5:], target[:, 5:], num_classes=4)
    probs[:, :, :5] = logits[:, :, :5]
    target[:, :5] = 255
    found = pixel_sums(probs, target, num_classes=4, ignore_index=255)
    assert torch.equal(found.overlap.predicted, expected.overlap.predicted)
    torch.testing.assert_close(found.calibration.nll, expected.calibration.nll)
