"""Overlap statistics: gathered in one pass over the pixels, scored by small formulae."""

from softiou.overlap.plain import ACTIVATIONS, overlap_statistics
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
    "Form",
    "OverlapStatistics",
    "active_classes",
    "mean_over",
    "overlap_statistics",
    "parse_per",
    "tversky_distance",
    "tversky_log_distance",
]
