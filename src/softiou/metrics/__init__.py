"""Metrics: IoU and Dice for hard and soft truth, calibration, disagreement (needs torchmetrics)."""

from softiou.metrics.calibration import ExpectedCalibrationError
from softiou.metrics.counts import OverlapCounts, overlap_counts
from softiou.metrics.disagreement import (
    GeneralizedEnergyDistance,
    generalized_energy_distance,
    sample_levels,
)
from softiou.metrics.images import mean_score
from softiou.metrics.iou import (
    MeanDice,
    MeanIoU,
    OverlapMetric,
    PixelAccuracy,
    SegmentationScores,
)
from softiou.metrics.soft import (
    OverlapMasses,
    SoftDice,
    SoftIoU,
    SoftOverlapMetric,
    SoftScores,
    overlap_masses,
)

__all__ = [
    "ExpectedCalibrationError",
    "GeneralizedEnergyDistance",
    "MeanDice",
    "MeanIoU",
    "OverlapCounts",
    "OverlapMasses",
    "OverlapMetric",
    "PixelAccuracy",
    "SegmentationScores",
    "SoftDice",
    "SoftIoU",
    "SoftOverlapMetric",
    "SoftScores",
    "generalized_energy_distance",
    "mean_score",
    "overlap_counts",
    "overlap_masses",
    "sample_levels",
]
