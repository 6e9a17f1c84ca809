"""Overlap statistics: the sums from which all overlap losses and metrics are computed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor

_LARGEST = ("p_max", "y_max")  # merged by the maximum; all other fields are sums


@dataclass(frozen=True)
class OverlapStatistics:
    """Sums over the pixels of each image n and class c, with weight w, prediction p and target y.

        P = sum w p      Y = sum w y      D = sum w |p - y|      M = sum w p y
        T = sum w min(p, y) = (P + Y - D) / 2

    They are additive over pixels, tiles, micro-batches and processes: `a + b` are the statistics of
    the pixels of both. Scores and losses are computed from them, see `softiou.overlap`.

    Attributes:
        P: Mass of the prediction (N, C).
        Y: Mass of the target (N, C).
        D: Mass of the absolute difference (N, C).
        M: Mass of the product (N, C).
        weight: Sum of w (N,), the denominator of the mean cross-entropy.
        p_max: Largest prediction over the valid pixels (N, C), 0 without any; None if not computed.
        y_max: Largest target over the valid pixels (N, C); None if not computed.
        T: Mass of the minimum of prediction and target (N, C). It is summed separately, because
            (P + Y - D) / 2 is inaccurate for a small overlap. None uses (P + Y - D) / 2.
        entropy: Cross-entropy of each class (N, C), sum w y (-log p); None if not computed.
        entropy_off: With a sigmoid, the terms of the negatives, sum w (1 - y) (-log(1 - p)) (N, C);
            None with a softmax.
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
        """Return the weighted sum of the cross-entropy over the pixels (N,), or None."""
        if self.entropy is None:
            return None
        of_classes = self.entropy if self.entropy_off is None else self.entropy + self.entropy_off
        return of_classes.sum(1)

    @property
    def overlap(self) -> Tensor:
        """Return T, or if it is None (P + Y - D) / 2, at least 0."""
        return at_least_zero((self.P + self.Y - self.D) / 2) if self.T is None else self.T

    def __add__(self, other: OverlapStatistics) -> OverlapStatistics:
        """Merge the statistics of two sets of pixels of the same images."""
        return _of_fields(
            lambda name, x, y: torch.maximum(x, y) if name in _LARGEST else x + y, self, other
        )

    def merge_images(self) -> OverlapStatistics:
        """Merge the images, (N, C) -> (1, C), as if they were one large image."""
        if self.P.shape[0] == 1:
            return self
        return _of_fields(
            lambda name, x: _largest(x) if name in _LARGEST else x.sum(0, keepdim=True), self
        )

    @staticmethod
    def stack(parts: Sequence[OverlapStatistics]) -> OverlapStatistics:
        """Concatenate the images of several batches: (N_1, C), ... -> (sum of N_i, C)."""
        return _of_fields(lambda name, *column: torch.cat(column), *parts)

    def mean_cross_entropy(
        self, *, class_weights: Tensor | None = None, pos_weight: Tensor | None = None
    ) -> Tensor:
        """Return the weighted mean of the cross-entropy over all images; 0 without valid pixels.

        Args:
            class_weights: Weights of the classes (C,), at least 0. With a softmax the mean is
                divided by the weights of the targets, sum_c w_c Y_c, as in `F.cross_entropy`; with
                a sigmoid by the number of entries, as in `F.binary_cross_entropy_with_logits`.
            pos_weight: With a sigmoid, weights of the positive terms (C,), at least 0.

        Raises:
            ValueError: The statistics were computed without cross-entropy, or `pos_weight` is given
                with a softmax.
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
                "These statistics have no cross-entropy; compute them with `cross_entropy=True`."
            )
        total = self.entropy
        if pos_weight is not None:
            if self.entropy_off is None:
                raise ValueError(
                    "`pos_weight` needs activation='sigmoid'. With a softmax, use `class_weights`."
                )
            total = total * pos_weight.to(total.dtype)
        if self.entropy_off is not None:
            total = total + self.entropy_off
        return total if class_weights is None else total * class_weights.to(total.dtype)


_NAMES = tuple(field.name for field in fields(OverlapStatistics))


def _of_fields(join: Callable[..., Tensor], *parts: OverlapStatistics) -> OverlapStatistics:
    """Apply `join` to each field of several statistics; a field that any lacks becomes None."""
    joined: dict[str, Tensor] = {}
    for name in _NAMES:
        column = [getattr(part, name) for part in parts]
        if all(x is not None for x in column):
            joined[name] = join(name, *column)
    return OverlapStatistics(**joined)


def _largest(x: Tensor) -> Tensor:
    """Return the maximum over the images, (N, C) -> (1, C); 0 without images."""
    return torch.cat([x, x.new_zeros(1, x.shape[1])]).amax(0, keepdim=True)


def at_least_zero(x: Tensor) -> Tensor:
    """Set negative rounding errors to zero, in place and without autograd.

    The gradient of a clamp would be 0 there, so a class without overlap would have no gradient.
    """
    x.detach().clamp_(min=0)
    return x
