"""Overlap statistics: the few sums that every loss and metric of the project is a function of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

_LARGEST = ("p_max", "y_max")  # joined by their maximum; everything else is a sum


@dataclass(frozen=True)
class OverlapStatistics:
    """Sums over the pixels of each image n and class c, with weight w, prediction p and target y.

        P = sum w p      Y = sum w y      D = sum w |p - y|      M = sum w p y
        T = sum w min(p, y) = (P + Y - D) / 2

    They are additive over pixels, tiles, micro-batches and processes: `a + b` are the statistics
    of the pixels of both. Scores and losses are small functions of them (`softiou.overlap`).

    Attributes:
        P: Mass of the prediction (N, C).
        Y: Mass of the target (N, C).
        D: Mass of the absolute difference (N, C).
        M: Mass of the product (N, C).
        weight: Sum of w that `cross_entropy` is to be divided by (N,).
        p_max: Largest prediction over the pixels that count (N, C), 0 when none does; None when not
            asked for.
        y_max: Largest target (N, C), likewise.
        T: Mass of what prediction and target have in common (N, C), summed by itself: the
            difference of the other three loses the digits of a small overlap. None takes it.
        entropy: Cross-entropy of each class (N, C), sum w y (-log p); None when not asked for.
        entropy_off: Under a sigmoid what is added where the class is not, sum w (1 - y)
            (-log(1 - p)); None under a softmax.
    """

    P: Tensor
    Y: Tensor
    D: Tensor
    M: Tensor
    weight: Tensor
    p_max: Tensor | None = None
    y_max: Tensor | None = None
    T: Tensor | None = None
    entropy: Tensor | None = None
    entropy_off: Tensor | None = None

    @property
    def cross_entropy(self) -> Tensor | None:
        """Return the sum of w times the cross-entropy of the pixels (N,); None when not there."""
        if self.entropy is None:
            return None
        of_classes = self.entropy if self.entropy_off is None else self.entropy + self.entropy_off
        return of_classes.sum(1)

    @property
    def overlap(self) -> Tensor:
        """Return T, or what P, Y and D say of it, at least 0."""
        return at_least_zero((self.P + self.Y - self.D) / 2) if self.T is None else self.T

    def __add__(self, other: OverlapStatistics) -> OverlapStatistics:
        """Join the statistics of two sets of pixels of the same images."""
        return _of_fields(
            lambda name, x, y: torch.maximum(x, y) if name in _LARGEST else x + y, self, other
        )

    def merge_images(self) -> OverlapStatistics:
        """Join the images: (N, C) -> (1, C), as if they were one large image."""
        if self.P.shape[0] == 1:
            return self
        return _of_fields(
            lambda name, x: _largest(x) if name in _LARGEST else x.sum(0, keepdim=True), self
        )

    @staticmethod
    def stack(parts: Sequence[OverlapStatistics]) -> OverlapStatistics:
        """Put the images of several batches below each other: (N_1, C), ... -> (sum of N_i, C)."""
        return _of_fields(lambda name, *column: torch.cat(column), *parts)

    def mean_cross_entropy(
        self, *, class_weights: Tensor | None = None, pos_weight: Tensor | None = None
    ) -> Tensor:
        """Return the cross-entropy per unit of weight over all images: a scalar, 0 without pixels.

        Args:
            class_weights: Weights of the classes (C,), at least 0. Under a softmax the mean is
                divided by the weights of the targets, sum_c w_c Y_c, as `F.cross_entropy` does for
                labels; under a sigmoid by the number of entries, as
                `F.binary_cross_entropy_with_logits` does.
            pos_weight: Under a sigmoid the weight of what is there, against that of what is not
                (C,), at least 0.

        Raises:
            ValueError: The statistics were gathered without the cross-entropy, or `pos_weight` is
                given for a softmax.
        """
        total = self.sum_cross_entropy(class_weights=class_weights, pos_weight=pos_weight).sum()
        weight = self.weight
        if class_weights is not None and self.entropy_off is None:
            weight = self.Y * class_weights
        mass = weight.sum()
        return total / mass.clamp(min=torch.finfo(mass.dtype).tiny)

    def sum_cross_entropy(
        self, *, class_weights: Tensor | None = None, pos_weight: Tensor | None = None
    ) -> Tensor:
        """Return the weighted cross-entropy of each image and class (N, C), summed over pixels."""
        if self.entropy is None:
            raise ValueError(
                "These statistics hold no cross-entropy; gather them with `cross_entropy=True`."
            )
        total = self.entropy
        if pos_weight is not None:
            if self.entropy_off is None:
                raise ValueError(
                    "`pos_weight` is for activation='sigmoid', where a class is there or not. "
                    "Under a softmax use weights of the classes."
                )
            total = total * pos_weight.to(total.dtype)
        if self.entropy_off is not None:
            total = total + self.entropy_off
        return total if class_weights is None else total * class_weights.to(total.dtype)


_NAMES = tuple(field.name for field in fields(OverlapStatistics))


def _of_fields(join: Callable[..., Tensor], *parts: OverlapStatistics) -> OverlapStatistics:
    """Join the fields of statistics one by one; None where any of them lacks one."""
    joined: dict[str, Tensor] = {}
    for name in _NAMES:
        column = [getattr(part, name) for part in parts]
        if all(x is not None for x in column):
            joined[name] = join(name, *column)
    return OverlapStatistics(**joined)


def _largest(x: Tensor) -> Tensor:
    """Return the maximum over the images, (N, C) -> (1, C); 0 without images, as over pixels."""
    return torch.cat([x, x.new_zeros(1, x.shape[1])]).amax(0, keepdim=True)


def at_least_zero(x: Tensor) -> Tensor:
    """Lift rounding errors below zero to zero, in place and unseen by autograd.

    The gradient of a clamp would be 0 there, and a class without overlap could not learn.
    """
    x.detach().clamp_(min=0)
    return x
