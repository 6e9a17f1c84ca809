"""DiceLoss and MaskedDiceLoss as MONAI calls them."""

from torch import Tensor

from softiou.drop_in.distance import smoothed_distance
from softiou.drop_in.monai.base import ClassWeight, MonaiLoss, check_class_weight, class_weight
from softiou.drop_in.settings import settings
from softiou.overlap import OverlapStatistics
from softiou.overlap.scores import overlap_and_errors
from softiou.targets import Target


@settings
class DiceLoss(MonaiLoss):
    """`monai.losses.DiceLoss`, in one pass over the pixels and right for soft labels.

        1 - (2 tp + smooth_nr) / (2 (tp + a fp + a fn) + smooth_dr),    a = 1/2, or 1 for `jaccard`

    for each image and class. For new code: `softiou.DiceSemimetricLoss`, `JaccardMetricLoss`.

    Args:
        include_background: See `MonaiLoss`, as all that is not named here.
        squared_pred: Take tp = sum p y and the sums of p^2 and y^2 for P and Y; plain PyTorch.
        jaccard: Take the Jaccard index instead of the Dice score.
        reduction: "mean", "sum" or "none", which returns (N, C, 1, ...), with `batch` (C, 1, ...).
        weight: What each class is multiplied by, a number or (C,), without the background where
            that is left out; at least 0. Without effect on a single class.

    Example:
        >>> import torch
        >>> probs, target = torch.tensor([[[0.5, 0.5]]]), torch.tensor([[[0.5, 0.5]]])
        >>> DiceLoss()(probs, target)  # the label itself; the product formula gives 0.5
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
    """`monai.losses.MaskedDiceLoss`: the Dice loss inside of a mask; arguments of `DiceLoss`.

    With `to_onehot_y=True` MONAI counts the pixels outside as background that was missed; here they
    do not count.
    """

    def forward(
        self,
        input: Tensor,
        target: Tensor | Target,
        valid: Tensor | None = None,
        mask: Tensor | None = None,
    ) -> Tensor:
        """Compute the loss.

        Args:
            input: As in `MonaiLoss.forward`.
            target: As in `MonaiLoss.forward`.
            valid: The mask, when it stands in the third place.
            mask: (N, 1, *S) or (1, 1, *S), 1 where pixels count and 0 elsewhere, or a weight.
        """
        return super().forward(input, target, valid if mask is None else mask)
