"""What the overlap losses of MONAI (1.6) have in common.

Shapes: N images, C classes, *S space; c is C, or C - 1 without the background; n is N, or 1 when
the batch is joined.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import replace

from torch import Tensor, nn

from softiou import _checks
from softiou.drop_in.monai import inputs
from softiou.overlap import OverlapStatistics, overlap_statistics
from softiou.targets import Target

REDUCTIONS = ("mean", "sum", "none")


class MonaiLoss(nn.Module, ABC):
    """What the losses share: the activation, the background, the batch and the reduction.

    Args:
        include_background: False leaves class 0 out.
        to_onehot_y: The target holds labels (N, 1, *S); False when it is one-hot or soft.
        sigmoid: Activate by a sigmoid.
        softmax: Activate by a softmax.
        other_act: Activate by this function, into [0, 1]. None of the three for probabilities.
        reduction: "mean", "sum" or "none".
        smooth_nr: Added to the numerator, at least 0.
        smooth_dr: Added to the denominator, at least 0.
        batch: Join the images first, instead of one loss for each.
        soft_label: Accepted for the sake of the call. Soft labels are always treated right, which
            makes no difference on hard ones.
        ignore_index: Label value whose pixels do not count; of one-hot labels the class, or when
            there is no such class the pixels that are 0 in every class.

    Raises:
        TypeError: `other_act` cannot be called.
        ValueError: More than one activation is asked for, or a setting is out of range.
    """

    broadcasts = True  # whether reduction "none" appends dimensions for the space

    def __init__(
        self,
        include_background: bool,
        to_onehot_y: bool,
        sigmoid: bool,
        softmax: bool,
        other_act: Callable[[Tensor], Tensor] | None,
        reduction: str,
        smooth_nr: float,
        smooth_dr: float,
        batch: bool,
        soft_label: bool,
        ignore_index: int | None,
    ) -> None:
        reduction = str(getattr(reduction, "value", reduction))  # LossReduction.MEAN -> "mean"
        _checks.one_of("reduction", reduction, REDUCTIONS)
        super().__init__()
        self.reduction = reduction
        if other_act is not None and not callable(other_act):
            raise TypeError(
                f"Expected `other_act` to be a function or None, but got {type(other_act)}."
            )
        if sigmoid + softmax + (other_act is not None) > 1:
            raise ValueError(
                "Expected at most one of `sigmoid=True`, `softmax=True` and `other_act`, but got "
                f"sigmoid={sigmoid}, softmax={softmax}, other_act={other_act}."
            )
        _checks.in_range("smooth_nr", smooth_nr, 0.0)
        _checks.in_range("smooth_dr", smooth_dr, 0.0)
        self.include_background, self.to_onehot_y = include_background, to_onehot_y
        self.sigmoid, self.softmax, self.other_act = sigmoid, softmax, other_act
        self.batch = batch
        self.smooth_nr, self.smooth_dr = float(smooth_nr), float(smooth_dr)
        self.soft_label, self.ignore_index = soft_label, ignore_index

    @abstractmethod
    def distance(self, statistics: OverlapStatistics) -> Tensor:
        """Return the loss before its reduction, from statistics (n, c)."""

    def forward(self, input: Tensor, target: Tensor | Target) -> Tensor:
        """Compute the loss.

        Args:
            input: Logits, or probabilities without an activation, (N, C, *S).
            target: Labels (N, 1, *S) with `to_onehot_y=True`, else one-hot or soft labels
                (N, C, *S); or a `softiou.targets` target.

        Returns:
            A scalar; with reduction "none" what MONAI's loss of that name returns.
        """
        return self.reduced(self.distance(self.statistics(input, target)), input.ndim)

    def statistics(
        self, input: Tensor, target: Tensor | Target, *, cross_entropy: bool = False
    ) -> OverlapStatistics:
        """Gather the statistics (n, c) that the loss is a function of."""
        input = inputs.plain(input)
        if input.shape[1] == 1:
            self._warn_of_one_channel()
        if self.other_act is not None:
            input = self.other_act(input)
        truth = inputs.read(
            input, target, to_onehot_y=self.to_onehot_y, ignore_index=self.ignore_index
        )
        found = overlap_statistics(
            input,
            truth.target,
            activation="softmax" if self.softmax else "sigmoid" if self.sigmoid else "none",
            # A tensor was read with it.
            ignore_index=None if isinstance(target, Tensor) else self.ignore_index,
            valid=truth.valid,
            weights=truth.weights,
            cross_entropy=cross_entropy,
        )
        if not self.include_background and input.shape[1] > 1:
            found = _without_background(found)
        return found.merge_images() if self.batch else found

    def reduced(self, loss: Tensor, ndim: int) -> Tensor:
        """Reduce a loss (n, c) of an input of `ndim` dimensions."""
        if self.reduction == "mean":
            return loss.mean()
        if self.reduction == "sum":
            return loss.sum()
        loss = loss.squeeze(0) if self.batch else loss
        return loss.reshape(*loss.shape, *[1] * (ndim - 2)) if self.broadcasts else loss

    def _warn_of_one_channel(self) -> None:
        """Warn, as MONAI does, of settings without effect on a single class."""
        for name, asked in {
            "to_onehot_y=True": self.to_onehot_y,
            "include_background=False": not self.include_background,
        }.items():
            if asked:
                warnings.warn(f"single channel prediction, `{name}` ignored.", stacklevel=2)


def _without_background(found: OverlapStatistics) -> OverlapStatistics:
    return replace(found, P=found.P[:, 1:], Y=found.Y[:, 1:], D=found.D[:, 1:], M=found.M[:, 1:])
