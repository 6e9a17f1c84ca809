"""Metrics in a `torchmetrics.MetricCollection`, which merges those whose first states are equal."""

from collections.abc import Callable
from typing import Any

import pytest
import torch
from torch import Tensor
from torchmetrics import Metric, MetricCollection

from softiou.metrics import (
    BoundaryCalibrationError,
    BoundaryIoU,
    CalibrationScores,
    ClasswiseCalibrationError,
    EvaluationScores,
    ExpectedCalibrationError,
    GeneralizedEnergyDistance,
    MaximumCalibrationError,
    MeanDice,
    MeanIoU,
    SegmentationScores,
    SoftIoU,
)

Makers = dict[str, Callable[[], Metric]]

# Every pair that differs in what is kept of an image, and pairs that do not.
HARD: Makers = {
    "iou": lambda: MeanIoU(3, ignore_index=255),
    "iou of images": lambda: MeanIoU(3, per="image", ignore_index=255),
    "worst iou": lambda: MeanIoU(3, per="image", worst=10, ignore_index=255),
    "dice": lambda: MeanDice(3, ignore_index=255),
    "scores": lambda: SegmentationScores(3, ignore_index=255),
    "iou without 0": lambda: MeanIoU(3, ignore_index=0),
    "rim": lambda: BoundaryIoU(3, width=1, ignore_index=255),
    "wide rim": lambda: BoundaryIoU(3, width=3, ignore_index=255),
    "rim by ratio": lambda: BoundaryIoU(3, ratio=0.3, ignore_index=255),
    "ece": lambda: ExpectedCalibrationError(3, ignore_index=255),
    "adaptive ece": lambda: ExpectedCalibrationError(3, adaptive=True, ignore_index=255),
    "mce": lambda: MaximumCalibrationError(3, ignore_index=255),
    "ece in five bins": lambda: ExpectedCalibrationError(3, num_bins=5, ignore_index=255),
    "ece without 0": lambda: ExpectedCalibrationError(3, ignore_index=0),
    "ece of the band": lambda: BoundaryCalibrationError(3, width=1, ignore_index=255),
    "ece of a wide band": lambda: BoundaryCalibrationError(3, width=3, ignore_index=255),
    "cece": lambda: ClasswiseCalibrationError(3, ignore_index=255),
    "cece without 0": lambda: ClasswiseCalibrationError(3, ignore_index=0),
    "soft iou": lambda: SoftIoU(3, ignore_index=255),
    "calibration": lambda: CalibrationScores(3, ignore_index=255),
    "evaluation": lambda: EvaluationScores(3, ignore_index=255),
}
SHARED = [
    {"iou", "iou of images", "worst iou", "dice", "scores"},
    {"ece", "adaptive ece", "mce"},
    {"calibration", "evaluation"},
]


def batches() -> list[tuple[Tensor, ...]]:
    """Of the first one no pixel counts; two labels are to be ignored in some metrics."""
    probs = (2 * torch.randn(3, 3, 12, 12)).softmax(1)
    target = torch.randint(0, 3, (3, 4, 4)).repeat_interleave(3, 1).repeat_interleave(3, 2)
    nothing = torch.zeros(1, 12, 12, dtype=torch.bool)
    return [(probs[:1], target[:1], nothing), (probs[1:2], target[1:2]), (probs[2:], target[2:])]


def assert_as_alone(makers: Makers, seen: list[tuple[Any, ...]]) -> MetricCollection:
    together = MetricCollection({name: make() for name, make in makers.items()})
    alone = {name: make() for name, make in makers.items()}
    for batch in seen:
        together.update(*batch)
        for metric in alone.values():
            metric.update(*batch)
    for name, metric in alone.items():
        torch.testing.assert_close(together[name].compute(), metric.compute(), rtol=0, atol=0,
                                   equal_nan=True, msg=name)  # fmt: skip
    return together


def test_metrics_of_a_collection_are_what_they_are_alone() -> None:
    together = assert_as_alone(HARD, batches())
    groups = [set(group) for group in together.compute_groups.values() if len(group) > 1]
    assert sorted(groups, key=min) == sorted(SHARED, key=min)  # their pixels are read once


def test_independent_classes_are_kept_apart() -> None:
    makers: Makers = {
        "exclusive": lambda: ExpectedCalibrationError(2, ignore_index=255),
        "independent": lambda: ExpectedCalibrationError(2, independent=True, ignore_index=255),
    }
    probs, soft = torch.rand(2, 2, 2, 5).softmax(2), torch.rand(2, 2, 5).softmax(1)
    seen = [(probs[0], torch.full((2, 2, 5), 255.0)), (probs[1], soft)]
    together = assert_as_alone(makers, seen)
    assert len(together.compute_groups) == 2


def test_distances_over_other_classes_are_kept_apart() -> None:
    makers: Makers = {
        "all": lambda: GeneralizedEnergyDistance(3, ignore_index=255),
        "foreground": lambda: GeneralizedEnergyDistance(3, classes=[1, 2], ignore_index=255),
        "foreground again": lambda: GeneralizedEnergyDistance(3, classes=(1, 2), ignore_index=255),
    }
    samples, masks = torch.randint(0, 3, (2, 2, 9)), torch.randint(0, 3, (2, 2, 9))
    seen = [(samples[:1], torch.full((1, 2, 9), 255)), (samples[1:], masks[1:])]
    together = assert_as_alone(makers, seen)
    assert list(together.compute_groups.values()) == [["all"], ["foreground", "foreground again"]]


@pytest.mark.parametrize("name", ["iou", "rim", "ece", "evaluation"])
def test_what_keeps_them_apart_outlives_forward_and_reset(name: str) -> None:
    metric, alone = HARD[name](), HARD[name]()
    for batch in batches():
        metric(*batch)  # adds up the states
        alone.update(*batch)
    torch.testing.assert_close(metric.compute(), alone.compute(), equal_nan=True)
    names = set(metric.metric_state)
    assert sum(state.startswith("settings_") for state in names) == 1
    metric.reset()
    assert set(metric.metric_state) == names == set(HARD[name]().metric_state)
