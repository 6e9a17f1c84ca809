"""Compare evaluated runs on the same images, with confidence intervals."""

from softiou.comparison.contrasts import compare, resampled_means
from softiou.comparison.pairing import groups_of
from softiou.comparison.results import Comparison, Contrast, Difference, Estimate, Group

__all__ = [
    "Comparison",
    "Contrast",
    "Difference",
    "Estimate",
    "Group",
    "compare",
    "groups_of",
    "resampled_means",
]
