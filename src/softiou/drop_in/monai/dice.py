"""DiceLoss, TverskyLoss and GeneralizedDiceLoss of MONAI."""

import torch
from torch import Tensor

from softiou import _checks
from softiou.drop_in.base import settings, smoothed_distance
from softiou.drop_in.monai.base import ClassWeight, MonaiLoss, check_class_weight, class_weight
from softiou.overlap import OverlapStatistics
from softiou.overlap.scores import overlap_and_errors
from softiou.targets import Target

WEIGHTS = ("square", "simple", "uniform")


@settings
class DiceLoss(MonaiLoss):
    """`monai.losses.DiceLoss`, in one pass over the pixels, and minimal at p = y for soft labels.

        1 - (2 tp + smooth_nr) / (2 (tp + a fp + a fn) + smooth_dr),    a = 1/2, or 1 for `jaccard`

    for each image and class. In new code, use `softiou.DiceSemimetricLoss` or `JaccardMetricLoss`.

    Args:
        include_background: See `MonaiLoss`, also for all arguments that are not listed here.
        squared_pred: Use tp = sum p y, and the sums of p^2 and y^2 for P and Y (plain PyTorch).
        jaccard: Use the Jaccard index instead of the Dice score.
        reduction: "mean", "sum" or "none", which returns (N, C, 1, ...), with `batch` (C, 1, ...).
        weight: Factor for each class, a number or (C,), at least 0; without the background if it is
            excluded. It has no effect on a single class.

    Example:
        >>> import torch
        >>> probs, target = torch.tensor([[[0.5, 0.5]]]), torch.tensor([[[0.5, 0.5]]])
        >>> DiceLoss()(probs, target)  # p = y; the product formula gives 0.5
        tensor(0.)
    """

    squared_pred: bool = False
    jaccard: bool = False
    reduction: str = "mean"
    smooth_nr: float = 1e-5
    smooth_dr: float = 1e-5
    batch: bool = False
    weight: ClassWeight = None
    soft_label: bool = False
    ignore_index: int | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        super().__post_init__()
        self.class_weight: Tensor | None
        self.register_buffer("class_weight", class_weight(self.weight))

    def distance(self, statistics: OverlapStatistics) -> Tensor:
        """Return the weighted loss of each image and class (n, c)."""
        price = 1.0 if self.jaccard else 0.5
        tp, errors = overlap_and_errors(statistics, alpha=price, beta=price, form=1)
        loss = smoothed_distance(
            2 * tp, 2 * errors, numerator=self.smooth_nr, denominator=self.smooth_dr
        )
        if self.class_weight is None or loss.shape[1] == 1:
            return loss
        check_class_weight(self.class_weight, loss.shape[1])
        return loss * self.class_weight.to(loss)


class MaskedDiceLoss(DiceLoss):
    """`monai.losses.MaskedDiceLoss`: the Dice loss inside a mask; arguments as in `DiceLoss`.

    With `to_onehot_y=True`, MONAI treats the pixels outside the mask as missed background; here
    they are ignored.
    """

    def forward(
        self,
        input: Tensor,
        target: Tensor | Target,
        valid: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Compute the loss; arguments as in `MonaiLoss.forward`.

        `mask` (N, 1, *S) or (1, 1, *S) is 1 for valid pixels and 0 for ignored ones, or has pixel
        weights. If it is passed as the third argument, it is named `valid`.
        """
        return super().forward(input, target, valid if mask is None else mask)


@settings
class TverskyLoss(MonaiLoss):
    """`monai.losses.TverskyLoss`, in one pass, and minimal at p = y for soft labels.

        1 - (tp + smooth_nr) / (tp + alpha fp + beta fn + smooth_dr)

    for each image and class. In new code, use `softiou.TverskyLoss`.

    Args:
        include_background: See `MonaiLoss`, also for all arguments that are not listed here.
        alpha: Weight of false positives, at least 0.
        beta: Weight of false negatives, at least 0.
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


@settings
class GeneralizedDiceLoss(MonaiLoss):
    """`monai.losses.GeneralizedDiceLoss`, in one pass, and minimal at p = y for soft labels.

        1 - (2 sum_c w_c tp + smooth_nr) / (2 sum_c w_c (tp + fp / 2 + fn / 2) + smooth_dr)

    for each image, with w_c = 1 / Y_c^2 for the size Y_c of the class. An absent class has the
    largest weight of the other classes.

    Args:
        include_background: See `MonaiLoss`, also for all arguments that are not listed here.
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
    """Return the weights (n, c) of the classes from their sizes Y (n, c)."""
    if w_type == "uniform":
        return torch.ones_like(Y)
    present = Y > 0
    w = torch.where(present, Y, 1.0) ** (-2 if w_type == "square" else -1)
    w = torch.where(present, w, 0.0)
    return torch.where(present, w, w.amax(1, keepdim=True))
