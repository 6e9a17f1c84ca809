"""Sums of each image of an evaluation, and the bootstrap over images."""

from softiou.resampling.bootstrap import (
    LEVEL,
    RESAMPLES,
    WORST_IMAGES,
    Interval,
    Intervals,
    bootstrap_metrics,
    intervals,
    mirrored_interval,
    percentile_interval,
    resample,
)
from softiou.resampling.image_statistics import (
    ImageStatistics,
    gather_image_statistics,
    weighted_metrics,
)

__all__ = [
    "LEVEL",
    "RESAMPLES",
    "WORST_IMAGES",
    "ImageStatistics",
    "Interval",
    "Intervals",
    "bootstrap_metrics",
    "gather_image_statistics",
    "intervals",
    "mirrored_interval",
    "percentile_interval",
    "resample",
    "weighted_metrics",
]
