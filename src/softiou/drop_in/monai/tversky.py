"""TverskyLoss as MONAI calls it."""

from collections.abc import Callable

from torch import Tensor

from softiou import _checks
from softiou.drop_in.distance import smoothed_distance
from softiou.drop_in.monai.base import MonaiLoss
from softiou.overlap import OverlapStatistics
from softiou.overlap.scores import overlap_and_errors


class TverskyLoss(MonaiLoss):
    """`monai.losses.TverskyLoss`, in one pass over the pixels and right for soft labels.

        1 - (tp + smooth_nr) / (tp + alpha fp + beta fn + smooth_dr)

    for each image and class. For new code: `softiou.TverskyLoss`.

    Args:
        include_background: See `MonaiLoss`, as all that is not named here.
        to_onehot_y: Labels (N, 1, *S).
        sigmoid: Activate by a sigmoid.
        softmax: Activate by a softmax.
        other_act: Activate by this function.
        alpha: Price of false positives, at least 0.
        beta: Price of false negatives, at least 0.
        reduction: "mean", "sum" or "none", which returns (N, C), with `batch` (C,).
        smooth_nr: Added to the numerator.
        smooth_dr: Added to the denominator.
        batch: Join the images first.
        soft_label: Without effect.
        ignore_index: Label value whose pixels do not count.
    """

    broadcasts = False

    def __init__(
        self,
        include_background: bool = True,
        to_onehot_y: bool = False,
        sigmoid: bool = False,
        softmax: bool = False,
        other_act: Callable[[Tensor], Tensor] | None = None,
        alpha: float = 0.5,
        beta: float = 0.5,
        reduction: str = "mean",
        smooth_nr: float = 1e-5,
        smooth_dr: float = 1e-5,
        batch: bool = False,
        soft_label: bool = False,
        ignore_index: int | None = None,
    ) -> None:
        super().__init__(
            include_background,
            to_onehot_y,
            sigmoid,
            softmax,
            other_act,
            reduction,
            smooth_nr,
            smooth_dr,
            batch,
            soft_label,
            ignore_index,
        )
        _checks.in_range("alpha", alpha, 0.0)
        _checks.in_range("beta", beta, 0.0)
        self.alpha, self.beta = alpha, beta

    def distance(self, statistics: OverlapStatistics) -> Tensor:
        """Return the loss of each image and class (n, c)."""
        tp, errors = overlap_and_errors(statistics, alpha=self.alpha, beta=self.beta, form=1)
        return smoothed_distance(tp, errors, numerator=self.smooth_nr, denominator=self.smooth_dr)
