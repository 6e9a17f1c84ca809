"""Overlap statistics, computed in one pass over the pixels, and the scores computed from them."""

from softiou.overlap.dispatch import gather_statistics, overlap_statistics
from softiou.overlap.processes import gather_images
from softiou.overlap.scores import (
    CLASS_RULES,
    FORMS,
    LEAST_MASS,
    Form,
    active_classes,
    mean_by_class,
    mean_over,
    needs_maxima,
    parse_per,
    tversky_distance,
    tversky_log_distance,
)
from softiou.overlap.settings import ACTIVATIONS, IMPLS, UPSAMPLES, PassSettings
from softiou.overlap.statistics import OverlapStatistics

__all__ = [
    "ACTIVATIONS",
    "CLASS_RULES",
    "FORMS",
    "IMPLS",
    "LEAST_MASS",
    "UPSAMPLES",
    "Form",
    "OverlapStatistics",
    "PassSettings",
    "active_classes",
    "gather_images",
    "gather_statistics",
    "mean_by_class",
    "mean_over",
    "needs_maxima",
    "overlap_statistics",
    "parse_per",
    "tversky_distance",
    "tversky_log_distance",
]
