"""GeneralizedDiceLoss as MONAI calls it."""

import torch
from torch import Tensor

from softiou import _checks
from softiou.drop_in.distance import smoothed_distance
from softiou.drop_in.monai.base import MonaiLoss
from softiou.drop_in.settings import settings
from softiou.overlap import OverlapStatistics
from softiou.overlap.scores import overlap_and_errors

WEIGHTS = ("square", "simple", "uniform")


@settings
class GeneralizedDiceLoss(MonaiLoss):
    """`monai.losses.GeneralizedDiceLoss`, in one pass over the pixels and right for soft labels.

        1 - (2 sum_c w_c tp + smooth_nr) / (2 sum_c w_c (tp + fp / 2 + fn / 2) + smooth_dr)

    for each image, with w_c = 1 / Y_c^2 by the size Y_c of the class; a class that is absent has
    the largest weight of the others.

    Args:
        include_background: See `MonaiLoss`, as all that is not named here.
        w_type: "square", "simple" (1 / Y_c) or "uniform" (1).
        reduction: "mean", "sum" or "none", which returns (N, 1, 1, ...), with `batch` (1, 1, ...).

    References:
        Sudre, Li, Vercauteren, Ourselin, Cardoso, Generalised Dice overlap as a deep learning loss
        function for highly unbalanced segmentations, DLMIA 2017, section 2.1.
    """

    w_type: str = "square"
    reduction: str = "mean"
    smooth_nr: float = 1e-5
    smooth_dr: float = 1e-5
    batch: bool = False
    soft_label: bool = False

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        self.w_type = str(getattr(self.w_type, "value", self.w_type))  # Weight.SQUARE -> "square"
        _checks.one_of("w_type", self.w_type, WEIGHTS)

    def distance(self, statistics: OverlapStatistics) -> Tensor:
        """Return the loss of each image (n, 1)."""
        tp, errors = overlap_and_errors(statistics, alpha=0.5, beta=0.5, form=1)
        w = _class_weights(statistics.Y.detach(), self.w_type)
        return smoothed_distance(
            2 * (w * tp).sum(1, keepdim=True),
            2 * (w * errors).sum(1, keepdim=True),
            numerator=self.smooth_nr,
            denominator=self.smooth_dr,
        )


def _class_weights(Y: Tensor, w_type: str) -> Tensor:
    """Return the weights (n, c) of classes of the sizes Y (n, c)."""
    if w_type == "uniform":
        return torch.ones_like(Y)
    present = Y > 0
    w = torch.where(present, Y, 1.0) ** (-2 if w_type == "square" else -1)
    w = torch.where(present, w, 0.0)
    return torch.where(present, w, w.amax(1, keepdim=True))
