"""DiceLoss as MONAI calls it."""

from collections.abc import Callable, Sequence

import torch
from torch import Tensor

from softiou.drop_in.distance import smoothed_distance
from softiou.drop_in.monai.base import MonaiLoss
from softiou.overlap import OverlapStatistics
from softiou.overlap.scores import overlap_and_errors


class DiceLoss(MonaiLoss):
    """`monai.losses.DiceLoss`, in one pass over the pixels and right for soft labels.

        1 - (2 tp + smooth_nr) / (2 (tp + a fp + a fn) + smooth_dr),    a = 1/2, or 1 for `jaccard`

    for each image and class. For new code: `softiou.DiceSemimetricLoss`, `JaccardMetricLoss`.

    Args:
        include_background: See `MonaiLoss`, as all that is not named here.
        to_onehot_y: Labels (N, 1, *S).
        sigmoid: Activate by a sigmoid.
        softmax: Activate by a softmax.
        other_act: Activate by this function.
        squared_pred: Not supported: it needs sums of squares.
        jaccard: Take the Jaccard index instead of the Dice score.
        reduction: "mean", "sum" or "none", which returns (N, C, 1, ...), with `batch` (C, 1, ...).
        smooth_nr: Added to the numerator.
        smooth_dr: Added to the denominator.
        batch: Join the images first.
        weight: What each class is multiplied by, a number or (C,), without the background where
            that is left out; at least 0. Without effect on a single class.
        soft_label: Without effect.
        ignore_index: Label value whose pixels do not count.

    Example:
        >>> probs, target = torch.tensor([[[0.5, 0.5]]]), torch.tensor([[[0.5, 0.5]]])
        >>> DiceLoss()(probs, target)  # the label itself; the product formula gives 0.5
        tensor(0.)
    """

    class_weight: Tensor | None

    def __init__(
        self,
        include_background: bool = True,
        to_onehot_y: bool = False,
        sigmoid: bool = False,
        softmax: bool = False,
        other_act: Callable[[Tensor], Tensor] | None = None,
        squared_pred: bool = False,
        jaccard: bool = False,
        reduction: str = "mean",
        smooth_nr: float = 1e-5,
        smooth_dr: float = 1e-5,
        batch: bool = False,
        weight: Sequence[float] | float | Tensor | None = None,
        soft_label: bool = False,
        ignore_index: int | None = None,
    ) -> None:
        if squared_pred:
            raise ValueError(
                "`squared_pred=True` needs sums of squares, which overlap statistics do not hold. "
                "Leave it out, or stay with monai.losses for this loss: its squared form has its "
                "minimum at the label for soft labels, too."
            )
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
        self.jaccard = jaccard
        self.register_buffer("class_weight", _class_weight(weight))

    def distance(self, statistics: OverlapStatistics) -> Tensor:
        """Return the weighted loss of each image and class (n, c)."""
        price = 1.0 if self.jaccard else 0.5
        tp, errors = overlap_and_errors(statistics, alpha=price, beta=price, form=1)
        loss = smoothed_distance(
            2 * tp, 2 * errors, numerator=self.smooth_nr, denominator=self.smooth_dr
        )
        num_classes = loss.shape[1]
        if self.class_weight is None or num_classes == 1:
            return loss
        if self.class_weight.ndim == 1 and len(self.class_weight) != num_classes:
            raise ValueError(
                f"Expected {num_classes} values of `weight`, one for each class (but not for the "
                f"background with `include_background=False`), but got {len(self.class_weight)}."
            )
        return loss * self.class_weight.to(loss)


def _class_weight(weight: Sequence[float] | float | Tensor | None) -> Tensor | None:
    if weight is None:
        return None
    tensor = torch.as_tensor(weight)
    if tensor.ndim > 1 or not bool((tensor >= 0).all()):
        raise ValueError(
            f"Expected `weight` to be a number or one a class, at least 0, but got "
            f"{tensor.tolist()}."
        )
    return tensor
