"""Metrics: IoU and Dice for hard and soft truth, calibration, disagreement (needs torchmetrics).

Names are imported on first use: `softiou.metrics.registry` needs neither torch nor torchmetrics.
"""

from typing import TYPE_CHECKING

from softiou._lazy import lazy_names as _lazy_names

if TYPE_CHECKING:
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
    "MetricInfo",
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
    "higher_is_better",
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

__getattr__, __dir__ = _lazy_names(
    __name__,
    {
        "bins": "CalibrationBins",
        "bootstrap": "Intervals bootstrap_figures intervals percentile_interval resample",
        "boundary": "BoundaryCalibrationError BoundaryIoU boundary_counts",
        "calibration": "BrierScore CalibrationMetric ExpectedCalibrationError "
        "MaximumCalibrationError NegativeLogLikelihood",
        "calibration_sums": "CalibrationSums PixelSums classwise_error",
        "classwise": "ClasswiseCalibrationError",
        "counts": "AnswerCounts OverlapCounts confusion_counts overlap_counts",
        "disagreement": "GeneralizedEnergyDistance generalized_energy_distance sample_levels",
        "figures": "Figures weighted_figures",
        "image_statistics": "ImageStatistics",
        "images": "mean_score worst_mean",
        "iou": "MeanAccuracy MeanDice MeanIoU OverlapMetric PixelAccuracy SegmentationScores",
        "pixels": "boundary_confidence_sums classwise_bins confidence_sums pixel_sums",
        "registry": "METRICS MetricInfo higher_is_better",
        "scores": "CalibrationScores EvaluationScores",
        "soft": "OverlapMasses SoftDice SoftIoU SoftOverlapMetric SoftScores overlap_masses",
    },
)
