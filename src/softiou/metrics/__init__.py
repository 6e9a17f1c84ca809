"""Metrics: IoU and Dice for hard and soft truth, calibration, disagreement (needs torchmetrics)."""

from softiou.metrics.bins import CalibrationBins
from softiou.metrics.bootstrap import (
    Intervals,
    bootstrap_figures,
    intervals,
    percentile_interval,
    resample,
)
from softiou.metrics.boundary import BoundaryCalibrationError, BoundaryIoU, boundary_counts
from softiou.metrics.calibration import (
    BrierScore,
    CalibrationMetric,
    ExpectedCalibrationError,
    MaximumCalibrationError,
    NegativeLogLikelihood,
)
from softiou.metrics.calibration_sums import CalibrationSums, PixelSums, classwise_error
from softiou.metrics.classwise import ClasswiseCalibrationError
from softiou.metrics.counts import (
    AnswerCounts,
    OverlapCounts,
    confusion_counts,
    overlap_counts,
)
from softiou.metrics.disagreement import (
    GeneralizedEnergyDistance,
    generalized_energy_distance,
    sample_levels,
)
from softiou.metrics.figures import Figures, weighted_figures
from softiou.metrics.image_statistics import ImageStatistics
from softiou.metrics.images import mean_score, worst_mean
from softiou.metrics.iou import (
    MeanAccuracy,
    MeanDice,
    MeanIoU,
    OverlapMetric,
    PixelAccuracy,
    SegmentationScores,
)
from softiou.metrics.pixels import (
    boundary_confidence_sums,
    classwise_bins,
    confidence_sums,
    pixel_sums,
)
from softiou.metrics.scores import CalibrationScores, EvaluationScores
from softiou.metrics.soft import (
    OverlapMasses,
    SoftDice,
    SoftIoU,
    SoftOverlapMetric,
    SoftScores,
    overlap_masses,
)

__all__ = [
    "AnswerCounts",
    "BoundaryCalibrationError",
    "BoundaryIoU",
    "BrierScore",
    "CalibrationBins",
    "CalibrationMetric",
    "CalibrationScores",
    "CalibrationSums",
    "ClasswiseCalibrationError",
    "EvaluationScores",
    "ExpectedCalibrationError",
    "Figures",
    "GeneralizedEnergyDistance",
    "ImageStatistics",
    "Intervals",
    "MaximumCalibrationError",
    "MeanAccuracy",
    "MeanDice",
    "MeanIoU",
    "NegativeLogLikelihood",
    "OverlapCounts",
    "OverlapMasses",
    "OverlapMetric",
    "PixelAccuracy",
    "PixelSums",
    "SegmentationScores",
    "SoftDice",
    "SoftIoU",
    "SoftOverlapMetric",
    "SoftScores",
    "bootstrap_figures",
    "boundary_confidence_sums",
    "boundary_counts",
    "classwise_bins",
    "classwise_error",
    "confidence_sums",
    "confusion_counts",
    "generalized_energy_distance",
    "intervals",
    "mean_score",
    "overlap_counts",
    "overlap_masses",
    "percentile_interval",
    "pixel_sums",
    "resample",
    "sample_levels",
    "weighted_figures",
    "worst_mean",
]
