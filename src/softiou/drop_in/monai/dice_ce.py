"""DiceCELoss as MONAI calls it."""

from collections.abc import Callable

from torch import Tensor, nn

from softiou import _checks
from softiou.drop_in.monai import inputs
from softiou.drop_in.monai.dice import DiceLoss
from softiou.targets import Target


class DiceCELoss(nn.Module):
    """`monai.losses.DiceCELoss`: lambda_dice Dice + lambda_ce cross-entropy, right for soft labels.

    Both come from one pass over the pixels, unless `weight`, `label_smoothing` or an activation
    other than the cross-entropy's own (softmax; sigmoid for a single class) ask for two. For new
    code: `softiou.DiceSemimetricLoss(cross_entropy=0.5)` is half of 1 Dice + 1 cross-entropy.

    Args:
        include_background: Of the Dice loss, as all up to `batch`; see `DiceLoss`.
        to_onehot_y: Labels (N, 1, *S).
        sigmoid: Activate by a sigmoid, for the Dice loss.
        softmax: Activate by a softmax, for the Dice loss.
        other_act: Activate by this function, for the Dice loss.
        squared_pred: Not supported.
        jaccard: Take the Jaccard index instead of the Dice score.
        reduction: "mean" or "sum".
        smooth_nr: Added to the numerator.
        smooth_dr: Added to the denominator.
        batch: Join the images first.
        weight: Weights of the classes (C,) in both losses; of a single class the cross-entropy's
            `pos_weight`.
        lambda_dice: Weight of the Dice loss, at least 0.
        lambda_ce: Weight of the cross-entropy, at least 0.
        label_smoothing: Of the cross-entropy, in [0, 1].
    """

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
        weight: Tensor | None = None,
        lambda_dice: float = 1.0,
        lambda_ce: float = 1.0,
        label_smoothing: float = 0.0,
    ) -> None:
        super().__init__()
        reduction = str(getattr(reduction, "value", reduction))  # DiceCEReduction.MEAN -> "mean"
        _checks.one_of("reduction", reduction, ("mean", "sum"))
        _checks.in_range("lambda_dice", lambda_dice, 0.0)
        _checks.in_range("lambda_ce", lambda_ce, 0.0)
        _checks.in_range("label_smoothing", label_smoothing, 0.0, 1.0)
        self.dice = DiceLoss(
            include_background,
            to_onehot_y,
            sigmoid,
            softmax,
            other_act,
            squared_pred,
            jaccard,
            reduction,
            smooth_nr,
            smooth_dr,
            batch,
            weight if weight is None or include_background else weight[1:],
        )
        self.cross_entropy = nn.CrossEntropyLoss(
            weight, None, -100, None, reduction, label_smoothing
        )
        self.binary_cross_entropy = nn.BCEWithLogitsLoss(reduction=reduction, pos_weight=weight)
        self.lambda_dice, self.lambda_ce = lambda_dice, lambda_ce

    def forward(self, input: Tensor, target: Tensor | Target) -> Tensor:
        """Compute the loss; arguments as in `MonaiLoss.forward`.

        Raises:
            TypeError: The target is a `Target`, and the settings ask for two passes.
        """
        one_pass = self._one_pass(input.shape[1])
        statistics = self.dice.statistics(input, target, cross_entropy=one_pass)
        dice = self.dice.reduced(self.dice.distance(statistics), input.ndim)
        if not one_pass:
            cross_entropy = self._torch_cross_entropy(inputs.plain(input), target)
        else:
            cross_entropy = statistics.mean_cross_entropy()
            if self.dice.reduction == "sum":
                cross_entropy = cross_entropy * statistics.weight.sum()
        return self.lambda_dice * dice + self.lambda_ce * cross_entropy

    def _one_pass(self, num_classes: int) -> bool:
        """Return whether the cross-entropy is the one that comes with the statistics."""
        own = self.dice.softmax if num_classes > 1 else self.dice.sigmoid
        ce = self.cross_entropy
        return own and ce.weight is None and (ce.label_smoothing == 0 or num_classes == 1)

    def _torch_cross_entropy(self, input: Tensor, target: Tensor | Target) -> Tensor:
        if not isinstance(target, Tensor):
            raise TypeError(
                f"Expected `target` to be a tensor, but got {type(target)}: with these settings "
                "the cross-entropy is PyTorch's. Leave `weight` and `label_smoothing` out and set "
                "`softmax=True`, or write the target out with `softiou.targets.to_probs`."
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
