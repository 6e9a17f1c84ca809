"""Metrics: IoU and Dice for hard and soft labels, calibration, disagreement (needs torchmetrics).

Names are imported on first use: `softiou.metrics.registry` needs neither torch nor torchmetrics.
"""

from typing import TYPE_CHECKING

from softiou._lazy import lazy_names as _lazy_names

if TYPE_CHECKING:
    from softiou.metrics.bins import CalibrationBins
    from softiou.metrics.boundary import BoundaryCalibrationError, BoundaryIoU, boundary_counts
    from softiou.metrics.calibration import (
        BrierScore,
        CalibrationMetric,
        ClasswiseCalibrationError,
        ExpectedCalibrationError,
        MaximumCalibrationError,
        NegativeLogLikelihood,
    )
    from softiou.metrics.calibration_sums import CalibrationSums, PixelSums, classwise_error
    from softiou.metrics.counts import AnswerCounts, OverlapCounts, confusion_counts, overlap_counts
    from softiou.metrics.decoding import DecodedTarget, decode_target
    from softiou.metrics.disagreement import (
        GeneralizedEnergyDistance,
        generalized_energy_distance,
        sample_levels,
    )
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
    from softiou.metrics.registry import METRICS, MetricInfo, higher_is_better
    from softiou.metrics.scores import CalibrationScores, EvaluationScores
    from softiou.metrics.soft import (
        OverlapMasses,
        SoftDice,
        SoftIoU,
        SoftOverlapMetric,
        SoftScores,
        overlap_masses,
    )
    from softiou.metrics.weighted import MetricValues, mean_score, worst_mean

__all__ = [
    "METRICS",
    "AnswerCounts",
    "BoundaryCalibrationError",
    "BoundaryIoU",
    "BrierScore",
    "CalibrationBins",
    "CalibrationMetric",
    "CalibrationScores",
    "CalibrationSums",
    "ClasswiseCalibrationError",
    "DecodedTarget",
    "EvaluationScores",
    "ExpectedCalibrationError",
    "GeneralizedEnergyDistance",
    "MaximumCalibrationError",
    "MeanAccuracy",
    "MeanDice",
    "MeanIoU",
    "MetricInfo",
    "MetricValues",
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
    "boundary_confidence_sums",
    "boundary_counts",
    "classwise_bins",
    "classwise_error",
    "confidence_sums",
    "confusion_counts",
    "decode_target",
    "generalized_energy_distance",
    "higher_is_better",
    "mean_score",
    "overlap_counts",
    "overlap_masses",
    "pixel_sums",
    "sample_levels",
    "worst_mean",
]

__getattr__, __dir__ = _lazy_names(
    __name__,
    {
        "bins": "CalibrationBins",
        "boundary": "BoundaryCalibrationError BoundaryIoU boundary_counts",
        "calibration": "BrierScore CalibrationMetric ClasswiseCalibrationError "
        "ExpectedCalibrationError MaximumCalibrationError NegativeLogLikelihood",
        "calibration_sums": "CalibrationSums PixelSums classwise_error",
        "counts": "AnswerCounts OverlapCounts confusion_counts overlap_counts",
        "decoding": "DecodedTarget decode_target",
        "disagreement": "GeneralizedEnergyDistance generalized_energy_distance sample_levels",
        "iou": "MeanAccuracy MeanDice MeanIoU OverlapMetric PixelAccuracy SegmentationScores",
        "pixels": "boundary_confidence_sums classwise_bins confidence_sums pixel_sums",
        "registry": "METRICS MetricInfo higher_is_better",
        "scores": "CalibrationScores EvaluationScores",
        "soft": "OverlapMasses SoftDice SoftIoU SoftOverlapMetric SoftScores overlap_masses",
        "weighted": "MetricValues mean_score worst_mean",
    },
    moved={
        "softiou.metrics": "Figures:MetricValues",
        "softiou.resampling": "ImageStatistics Intervals bootstrap_figures:bootstrap_metrics "
        "intervals percentile_interval resample weighted_figures:weighted_metrics",
    },
)
