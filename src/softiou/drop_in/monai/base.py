"""The base class of the overlap losses of MONAI (1.6).

Shapes: N images, C classes, *S space; c is C, or C - 1 without background; n is N, or 1 with
`batch=True`.
"""

import warnings
from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TypeAlias

import torch
from torch import Tensor

from softiou import _checks
from softiou.drop_in.base import SettingsModule, settings
from softiou.drop_in.monai import inputs
from softiou.overlap import OverlapStatistics, overlap_statistics
from softiou.overlap.plain import activate
from softiou.targets import Target

REDUCTIONS = ("mean", "sum", "none")

Activation: TypeAlias = Callable[[Tensor], Tensor] | None
ClassWeight: TypeAlias = Sequence[float] | float | Tensor | None


@settings
class ActivatedLoss(SettingsModule):
    """The first five settings of all losses, documented in `MonaiLoss`."""

    include_background: bool = True
    to_onehot_y: bool = False
    sigmoid: bool = False
    softmax: bool = False
    other_act: Activation = None


class MonaiLoss(ActivatedLoss, ABC):
    """Base class of the overlap losses: activation, background, batch and reduction.

    Attributes:
        include_background: False leaves class 0 out.
        to_onehot_y: True if the target has labels (N, 1, *S), False if it is one-hot or soft.
        sigmoid: Apply a sigmoid.
        softmax: Apply a softmax; ignored with a warning for a single class.
        other_act: Apply this function, with values in [0, 1]. Use none of the three for an input of
            probabilities.
        reduction: "mean", "sum" or "none".
        smooth_nr: Added to the numerator, at least 0.
        smooth_dr: Added to the denominator, at least 0.
        batch: Compute one loss over all images together, instead of one for each image.
        soft_label: Accepted for compatibility, but has no effect: soft labels are always supported.
        ignore_index: Label of ignored pixels. In one-hot labels, the class to ignore; if there is
            no such class, pixels that are 0 in every class are ignored.

    Raises:
        TypeError: `other_act` is not callable.
        ValueError: More than one activation is set, a setting is out of range, or, in the call,
            `other_act` returns values outside [0, 1].
    """

    reduction: str
    smooth_nr: float
    smooth_dr: float
    batch: bool

    ignore_index: int | None = None  # some losses have it as a setting
    squared_pred = False
    broadcasts = True  # whether reduction "none" appends dimensions of size 1 for the space

    def __post_init__(self) -> None:
        """Check the settings."""
        self.reduction = reduction_of(self.reduction)
        if self.other_act is not None and not callable(self.other_act):
            raise TypeError(
                f"Expected `other_act` to be a function or None, but got {type(self.other_act)}."
            )
        if self.sigmoid + self.softmax + (self.other_act is not None) > 1:
            raise ValueError(
                "Expected at most one of `sigmoid=True`, `softmax=True` and `other_act`, but got "
                f"sigmoid={self.sigmoid}, softmax={self.softmax}, other_act={self.other_act}."
            )
        _checks.in_range("smooth_nr", self.smooth_nr, 0.0)
        _checks.in_range("smooth_dr", self.smooth_dr, 0.0)

    @abstractmethod
    def distance(self, statistics: OverlapStatistics) -> Tensor:
        """Return the loss before its reduction, from statistics (n, c)."""

    def forward(
        self, input: Tensor, target: Tensor | Target, valid: Tensor | None = None
    ) -> Tensor:
        """Compute the loss.

        Args:
            input: Logits, or without activation probabilities, (N, C, *S).
            target: Labels (N, 1, *S) with `to_onehot_y=True`, otherwise one-hot or soft labels
                (N, C, *S); or a target of `softiou.targets`.
            valid: Bool (N, *S) or (N, 1, *S), False for ignored pixels; or pixel weights, at least
                0.

        Returns:
            A scalar; with reduction "none" a tensor of the shape of MONAI's loss.
        """
        return self.reduced(self.distance(self.statistics(input, target, valid)), input.ndim)

    def statistics(
        self,
        input: Tensor,
        target: Tensor | Target,
        mask: Tensor | None = None,
        *,
        cross_entropy: bool = False,
    ) -> OverlapStatistics:
        """Compute the overlap statistics (n, c)."""
        input = inputs.plain(input)
        if input.shape[1] == 1:
            self._warn_of_one_channel()
        activation = "sigmoid" if self.sigmoid else "none"
        if self.softmax and input.shape[1] > 1:
            activation = "softmax"
        if self.other_act is not None:
            input = _checked(
                self.other_act(input),
                "`other_act` to return values",
                "Scale them, such as `lambda x: (torch.tanh(x) + 1) / 2`.",
            )
        elif activation == "none" and input.device.type == "cpu":
            input = _checked(input, "probabilities", "For logits, use `sigmoid` or `softmax`.")
        truth = inputs.read(
            input, target, to_onehot_y=self.to_onehot_y, ignore_index=self.ignore_index, mask=mask
        )
        if self.squared_pred:
            found = _squared_statistics(activate(input, activation), truth)
        else:
            found = overlap_statistics(
                input,
                truth.target,
                activation=activation,
                # For a tensor, `inputs.read` has applied it.
                ignore_index=None if isinstance(target, Tensor) else self.ignore_index,
                valid=truth.valid,
                weights=truth.weights,
                cross_entropy=cross_entropy,
            )
        if not self.include_background and input.shape[1] > 1:
            found = _without_background(found)
        return found.merge_images() if self.batch else found

    def reduced(self, loss: Tensor, ndim: int) -> Tensor:
        """Reduce a loss (n, c) for an input with `ndim` dimensions."""
        if self.reduction == "mean":
            return loss.mean()
        if self.reduction == "sum":
            return loss.sum()
        loss = loss.squeeze(0) if self.batch else loss
        return loss.reshape(*loss.shape, *[1] * (ndim - 2)) if self.broadcasts else loss

    def _warn_of_one_channel(self) -> None:
        """Warn, as MONAI does, about settings without effect on a single class."""
        for name, asked in {
            "softmax=True": self.softmax,
            "to_onehot_y=True": self.to_onehot_y,
            "include_background=False": not self.include_background,
        }.items():
            if asked:
                warnings.warn(f"single channel prediction, `{name}` ignored.", stacklevel=2)


def reduction_of(reduction: object, allowed: Sequence[str] = REDUCTIONS) -> str:
    """Return the name of a reduction, which may be an enumeration member of MONAI."""
    reduction = str(getattr(reduction, "value", reduction))  # LossReduction.MEAN -> "mean"
    _checks.one_of("reduction", reduction, allowed)
    return reduction


def class_weight(weight: ClassWeight) -> Tensor | None:
    """Return the weights of the classes as a tensor, () or (c,)."""
    if weight is None:
        return None
    tensor = torch.as_tensor(weight)
    if tensor.ndim > 1 or not bool((tensor >= 0).all()):
        raise ValueError(
            f"Expected `weight` to be one number or one per class, at least 0, but got "
            f"{tensor.tolist()}."
        )
    return tensor


def check_class_weight(weight: Tensor, num_classes: int) -> None:
    """Raise a ValueError unless there is one weight, or one for each class."""
    if weight.ndim == 1 and len(weight) != num_classes:
        raise ValueError(
            f"Expected {num_classes} values of `weight`, one for each class (without the "
            f"background if `include_background=False`), but got {len(weight)}."
        )


def _checked(probs: Tensor, what: str, remedy: str) -> Tensor:
    """Return probabilities; raise a ValueError if they are not in [0, 1]."""
    if not torch.compiler.is_compiling() and probs.numel():
        low, high = (x.item() for x in torch.aminmax(probs.detach()))
        if low < 0 or high > 1:
            raise ValueError(
                f"Expected {what} in [0, 1], but got {low:.4g} to {high:.4g}. {remedy}"
            )
    return probs


def _squared_statistics(probs: Tensor, truth: inputs.Truth) -> OverlapStatistics:
    """Compute sum p^2, sum y^2, sum (p - y)^2 and sum p y instead of P, Y, D and M."""
    y, mask = inputs.dense(truth, probs)
    p = probs.to(y.dtype)
    if mask is not None:
        p = p.where(mask > 0, 0.0)
    if truth.weights is not None and mask is not None:
        p, y = p * mask, y * mask
    p, y = p.flatten(2), y.flatten(2)
    P, Y, M = (x.sum(2) for x in (p * p, y * y, p * y))
    return OverlapStatistics(P, Y, P + Y - 2 * M, M, weight=p.new_zeros(len(p)))


def _without_background(found: OverlapStatistics) -> OverlapStatistics:
    kept = {name: getattr(found, name)[:, 1:] for name in ("P", "Y", "D", "M")}
    return replace(found, **kept, T=found.overlap[:, 1:])
