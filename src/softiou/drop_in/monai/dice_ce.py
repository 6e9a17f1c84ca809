"""DiceCELoss of MONAI."""

from torch import Tensor, nn

from softiou import _checks
from softiou.drop_in.base import settings
from softiou.drop_in.monai import inputs
from softiou.drop_in.monai.base import ActivatedLoss, reduction_of
from softiou.drop_in.monai.dice import DiceLoss
from softiou.targets import Target


@settings
class DiceCELoss(ActivatedLoss):
    """`monai.losses.DiceCELoss`: lambda_dice Dice loss + lambda_ce cross-entropy.

    Both are computed in one pass over the pixels, unless `weight`, `label_smoothing` or another
    activation than that of the cross-entropy (softmax; sigmoid for a single class) requires two. In
    new code, use `softiou.DiceSemimetricLoss(cross_entropy=0.5)`, half of Dice + cross-entropy.

    Args:
        include_background: As all arguments that are not listed here, see `DiceLoss`.
        reduction: "mean" or "sum".
        weight: Weights of the classes (C,) in both losses; for a single class, `pos_weight` of the
            cross-entropy.
        lambda_dice: Weight of the Dice loss, at least 0.
        lambda_ce: Weight of the cross-entropy, at least 0.
        label_smoothing: Label smoothing of the cross-entropy, in [0, 1].
    """

    squared_pred: bool = False
    jaccard: bool = False
    reduction: str = "mean"
    smooth_nr: float = 1e-5
    smooth_dr: float = 1e-5
    batch: bool = False
    weight: Tensor | None = None
    lambda_dice: float = 1.0
    lambda_ce: float = 1.0
    label_smoothing: float = 0.0

    def __post_init__(self) -> None:
        """Check the settings."""
        self.reduction = reduction_of(self.reduction, ("mean", "sum"))
        _checks.in_range("lambda_dice", self.lambda_dice, 0.0)
        _checks.in_range("lambda_ce", self.lambda_ce, 0.0)
        _checks.in_range("label_smoothing", self.label_smoothing, 0.0, 1.0)
        weight = self.weight
        of_dice = weight if weight is None or self.include_background else weight[1:]
        self.dice = self.part(DiceLoss, weight=of_dice)
        self.cross_entropy = nn.CrossEntropyLoss(
            self.weight, None, -100, None, self.reduction, self.label_smoothing
        )
        self.binary_cross_entropy = nn.BCEWithLogitsLoss(
            reduction=self.reduction, pos_weight=self.weight
        )

    def forward(
        self, input: Tensor, target: Tensor | Target, valid: Tensor | None = None
    ) -> Tensor:
        """Compute the loss; arguments as in `MonaiLoss.forward`.

        Raises:
            TypeError: The settings require two passes, and the target is a `Target` or `valid` is
                given.
        """
        one_pass = self._one_pass(input.shape[1])
        statistics = self.dice.statistics(input, target, valid, cross_entropy=one_pass)
        dice = self.dice.reduced(self.dice.distance(statistics), input.ndim)
        if not one_pass:
            cross_entropy = self._torch_cross_entropy(inputs.plain(input), target, valid)
        else:
            cross_entropy = statistics.mean_cross_entropy()
            if self.dice.reduction == "sum":
                cross_entropy = cross_entropy * statistics.weight.sum()
        return self.lambda_dice * dice + self.lambda_ce * cross_entropy

    def _one_pass(self, num_classes: int) -> bool:
        """Return whether the cross-entropy can be computed together with the statistics."""
        own = self.dice.softmax if num_classes > 1 else self.dice.sigmoid
        ce = self.cross_entropy
        own = own and not self.squared_pred
        return own and ce.weight is None and (ce.label_smoothing == 0 or num_classes == 1)

    def _torch_cross_entropy(
        self, input: Tensor, target: Tensor | Target, valid: Tensor | None
    ) -> Tensor:
        if not isinstance(target, Tensor) or valid is not None:
            found = f"`target` of {type(target)}" if valid is None else "`valid`"
            raise TypeError(
                f"Expected `target` to be a tensor and `valid` to be None, but got {found}: with "
                "these settings the cross-entropy is PyTorch's. Remove `weight`, `label_smoothing` "
                "and `squared_pred` and set `softmax=True`, or convert the target with "
                "`softiou.targets.to_probs`."
            )
        target = inputs.plain(target)
        loss: Tensor
        if input.shape[1] == 1:
            loss = self.binary_cross_entropy(input, target.to(input.dtype))
        elif target.shape[1] == 1:
            loss = self.cross_entropy(input, target.squeeze(1).long())
        else:
            loss = self.cross_entropy(input, target.to(input.dtype))
        return loss
