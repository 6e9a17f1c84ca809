"""FocalLoss of MONAI and its combinations with Dice losses, in plain PyTorch."""

import warnings
from collections.abc import Sequence

import torch
import torch.nn.functional as F
from torch import Tensor

from softiou import _checks
from softiou.drop_in.base import SettingsModule, settings
from softiou.drop_in.monai import base, inputs
from softiou.drop_in.monai.dice import DiceLoss, GeneralizedDiceLoss
from softiou.targets import Target


@settings
class FocalLoss(SettingsModule):
    """`monai.losses.FocalLoss`, computed in float32, with equal values for hard and soft labels.

        sigmoid: (1 - p_t)^gamma BCE(x, y), p_t the probability of the label
        softmax: -y (1 - p)^gamma log p

    Args:
        include_background: False leaves class 0 out, also in the softmax.
        to_onehot_y: True if the target has labels (N, 1, *S).
        gamma: Exponent, at least 0.
        alpha: With a sigmoid, the loss is multiplied by alpha y + (1 - alpha) (1 - y); with a
            softmax, that of class 0 by 1 - alpha and that of other classes by alpha. A sequence
            (c,) has a factor for each class; with a sigmoid it applies where y = 1.
        weight: Factor for each class, a number or (c,), at least 0.
        reduction: "mean", "sum" (of the means over space), or "none" (N, c, *S).
        use_softmax: True for classes that exclude each other.
        ignore_index: See `MonaiLoss`. As in MONAI, it makes the mean c times as large: that over
            pixels instead of pixels and classes.

    References:
        Lin, Goyal, Girshick, He, Dollar, Focal Loss for Dense Object Detection, ICCV 2017.
    """

    include_background: bool = True
    to_onehot_y: bool = False
    gamma: float = 2.0
    alpha: float | Sequence[float] | None = None
    weight: base.ClassWeight = None
    reduction: str = "mean"
    use_softmax: bool = False
    ignore_index: int | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        self.reduction = base.reduction_of(self.reduction)
        self.class_weight: Tensor | None
        self.register_buffer("class_weight", base.class_weight(self.weight))

    def forward(
        self, input: Tensor, target: Tensor | Target, valid: Tensor | None = None
    ) -> Tensor:
        """Compute the loss; arguments as in `MonaiLoss.forward`, `input` always logits."""
        x = inputs.plain(input).float()
        truth = inputs.read(
            x, target, to_onehot_y=self.to_onehot_y, ignore_index=self.ignore_index, mask=valid
        )
        y, mask = inputs.dense(truth, x)
        mask = torch.ones_like(y) if mask is None else mask.expand_as(y)
        x = x.where(mask > 0, 0.0)
        if not self.include_background and x.shape[1] > 1:
            x, y, mask = x[:, 1:], y[:, 1:], mask[:, 1:]
        loss = self._of_pixels(x, y)
        if self.class_weight is not None:
            base.check_class_weight(self.class_weight, loss.shape[1])
            loss = loss * _of_classes(self.class_weight.to(loss), loss.ndim)
        return self._reduced(loss, mask)

    def _of_pixels(self, x: Tensor, y: Tensor) -> Tensor:
        """Return the loss of each pixel and class (N, c, *S)."""
        alpha = None if self.alpha is None else torch.as_tensor(self.alpha).to(x)
        if self.use_softmax:
            log_p = x.log_softmax(1)
            loss = -((1 - log_p.exp()) ** self.gamma) * log_p * y
            if alpha is not None and alpha.ndim == 0 and not self.include_background:
                warnings.warn("without background, a single `alpha` is ignored", stacklevel=2)
                alpha = None
            if alpha is not None and alpha.ndim == 0:
                alpha = torch.cat([(1 - alpha).view(1), alpha.expand(x.shape[1] - 1)])
            return loss if alpha is None else loss * _of_classes(alpha, x.ndim)
        # Computed from log(1 - p_t), which does not overflow.
        focus = (self.gamma * F.logsigmoid(-x * (2 * y - 1))).exp()
        loss = focus * F.binary_cross_entropy_with_logits(x, y, reduction="none")
        if alpha is None:
            return loss
        if alpha.ndim == 0:
            return loss * (alpha * y + (1 - alpha) * (1 - y))
        return loss * torch.where(y == 1, _of_classes(alpha, x.ndim), 1.0)

    def _reduced(self, loss: Tensor, mask: Tensor) -> Tensor:
        loss = loss * mask
        if self.reduction == "none":
            return loss
        if self.reduction == "sum":
            loss, mask = loss.flatten(2).sum(2), mask.flatten(2).sum(2)  # (N, c)
            return (loss / mask.clamp(min=1e-7)).sum()
        num_classes = 1 if self.ignore_index is None else loss.shape[1]
        return num_classes * loss.sum() / mask.sum().clamp(min=1e-7)


class _WithFocal(base.ActivatedLoss):
    """The weighted sum of an overlap loss and the focal loss."""

    lambda_focal: float

    def mix(self, name: str, kind: type[base.MonaiLoss]) -> None:
        """Build both losses; `name` is the setting with the weight of the overlap loss."""
        self.lambda_overlap: float = getattr(self, name)
        _checks.in_range(name, self.lambda_overlap, 0.0)
        _checks.in_range("lambda_focal", self.lambda_focal, 0.0)
        self.overlap, self.focal = self.part(kind), self.part(FocalLoss)

    def forward(
        self, input: Tensor, target: Tensor | Target, valid: Tensor | None = None
    ) -> Tensor:
        """Compute the loss; arguments as in `MonaiLoss.forward`, `input` always logits."""
        focal = self.lambda_focal * self.focal(input, target, valid)
        loss: Tensor = self.lambda_overlap * self.overlap(input, target, valid) + focal
        return loss


@settings
class DiceFocalLoss(_WithFocal):
    """`monai.losses.DiceFocalLoss`: lambda_dice Dice + lambda_focal focal loss.

    Args:
        include_background: As `to_onehot_y`, `reduction` and `weight`, used by both losses; see
            `DiceLoss`.
        gamma: As `alpha`, used by the focal loss; see `FocalLoss`.
        lambda_dice: Weight of the Dice loss, at least 0.
        lambda_focal: Weight of the focal loss, at least 0.
    """

    squared_pred: bool = False
    jaccard: bool = False
    reduction: str = "mean"
    smooth_nr: float = 1e-5
    smooth_dr: float = 1e-5
    batch: bool = False
    gamma: float = 2.0
    weight: base.ClassWeight = None
    lambda_dice: float = 1.0
    lambda_focal: float = 1.0
    alpha: float | None = None

    def __post_init__(self) -> None:
        """Check the settings."""
        self.mix("lambda_dice", DiceLoss)


@settings
class GeneralizedDiceFocalLoss(_WithFocal):
    """`monai.losses.GeneralizedDiceFocalLoss`: lambda_gdl Dice + lambda_focal focal loss.

    Args:
        include_background: As `to_onehot_y` and `reduction`, used by both losses; see
            `GeneralizedDiceLoss`.
        gamma: As `weight`, used by the focal loss; see `FocalLoss`.
        lambda_gdl: Weight of the generalized Dice loss, at least 0.
        lambda_focal: Weight of the focal loss, at least 0.
    """

    w_type: str = "square"
    reduction: str = "mean"
    smooth_nr: float = 1e-5
    smooth_dr: float = 1e-5
    batch: bool = False
    gamma: float = 2.0
    weight: base.ClassWeight = None
    lambda_gdl: float = 1.0
    lambda_focal: float = 1.0

    def __post_init__(self) -> None:
        """Check the settings."""
        self.mix("lambda_gdl", GeneralizedDiceLoss)


def _of_classes(values: Tensor, ndim: int) -> Tensor:
    """Reshape one number, or one per class, to multiply it with (N, c, *S)."""
    return values if values.ndim == 0 else values.view(-1, *[1] * (ndim - 2))
