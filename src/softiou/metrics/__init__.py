"""Metrics: fine-grained IoU and calibration as torchmetrics classes (needs torchmetrics)."""

from softiou.metrics.calibration import ExpectedCalibrationError
from softiou.metrics.counts import OverlapCounts, overlap_counts
from softiou.metrics.iou import (
    MeanDice,
    MeanIoU,
    OverlapMetric,
    PixelAccuracy,
    SegmentationScores,
    mean_score,
)

__all__ = [
    "ExpectedCalibrationError",
    "MeanDice",
    "MeanIoU",
    "OverlapCounts",
    "OverlapMetric",
    "PixelAccuracy",
    "SegmentationScores",
    "mean_score",
    "overlap_counts",
]
