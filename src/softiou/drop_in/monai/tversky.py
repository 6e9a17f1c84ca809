"""TverskyLoss as MONAI calls it."""

from torch import Tensor

from softiou import _checks
from softiou.drop_in.distance import smoothed_distance
from softiou.drop_in.monai.base import MonaiLoss
from softiou.drop_in.settings import settings
from softiou.overlap import OverlapStatistics
from softiou.overlap.scores import overlap_and_errors


@settings
class TverskyLoss(MonaiLoss):
    """`monai.losses.TverskyLoss`, in one pass over the pixels and right for soft labels.

        1 - (tp + smooth_nr) / (tp + alpha fp + beta fn + smooth_dr)

    for each image and class. For new code: `softiou.TverskyLoss`.

    Args:
        include_background: See `MonaiLoss`, as all that is not named here.
        alpha: Price of false positives, at least 0.
        beta: Price of false negatives, at least 0.
        reduction: "mean", "sum" or "none", which returns (N, C), with `batch` (C,).
    """

    alpha: float = 0.5
    beta: float = 0.5
    reduction: str = "mean"
    smooth_nr: float = 1e-5
    smooth_dr: float = 1e-5
    batch: bool = False
    soft_label: bool = False
    ignore_index: int | None = None

    broadcasts = False

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        _checks.in_range("alpha", self.alpha, 0.0)
        _checks.in_range("beta", self.beta, 0.0)

    def distance(self, statistics: OverlapStatistics) -> Tensor:
        """Return the loss of each image and class (n, c)."""
        tp, errors = overlap_and_errors(statistics, alpha=self.alpha, beta=self.beta, form=1)
        return smoothed_distance(tp, errors, numerator=self.smooth_nr, denominator=self.smooth_dr)
