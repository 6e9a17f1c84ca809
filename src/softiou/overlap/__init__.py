"""Overlap statistics: gathered in one pass over the pixels, scored by small formulae."""

from softiou.overlap.door import ACTIVATIONS, IMPLS, gather_statistics, overlap_statistics
from softiou.overlap.processes import gather_images
from softiou.overlap.scores import (
    CLASS_RULES,
    FORMS,
    Form,
    active_classes,
    mean_over,
    parse_per,
    tversky_distance,
    tversky_log_distance,
)
from softiou.overlap.statistics import OverlapStatistics

__all__ = [
    "ACTIVATIONS",
    "CLASS_RULES",
    "FORMS",
    "IMPLS",
    "Form",
    "OverlapStatistics",
    "active_classes",
    "gather_images",
    "gather_statistics",
    "mean_over",
    "overlap_statistics",
    "parse_per",
    "tversky_distance",
    "tversky_log_distance",
]
