"""Overlap statistics: the few sums that every loss and metric of the project is a function of."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields

import torch
from torch import Tensor


@dataclass(frozen=True)
class OverlapStatistics:
    """Sums over the pixels of each image n and class c, with weight w, prediction p and target y.

        P = sum w p      Y = sum w y      D = sum w |p - y|      M = sum w p y

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
        cross_entropy: Sum of w times the cross-entropy of the pixels (N,); None when not asked for.
    """

    P: Tensor
    Y: Tensor
    D: Tensor
    M: Tensor
    weight: Tensor
    p_max: Tensor | None = None
    y_max: Tensor | None = None
    cross_entropy: Tensor | None = None

    def __add__(self, other: OverlapStatistics) -> OverlapStatistics:
        """Join the statistics of two sets of pixels of the same images."""
        return OverlapStatistics(
            P=self.P + other.P,
            Y=self.Y + other.Y,
            D=self.D + other.D,
            M=self.M + other.M,
            weight=self.weight + other.weight,
            p_max=_both(torch.maximum, self.p_max, other.p_max),
            y_max=_both(torch.maximum, self.y_max, other.y_max),
            cross_entropy=_both(torch.add, self.cross_entropy, other.cross_entropy),
        )

    def merge_images(self) -> OverlapStatistics:
        """Join the images: (N, C) -> (1, C), as if they were one large image."""
        if self.P.shape[0] == 1:
            return self
        return OverlapStatistics(
            P=self.P.sum(0, keepdim=True),
            Y=self.Y.sum(0, keepdim=True),
            D=self.D.sum(0, keepdim=True),
            M=self.M.sum(0, keepdim=True),
            weight=self.weight.sum(0, keepdim=True),
            p_max=None if self.p_max is None else _largest(self.p_max),
            y_max=None if self.y_max is None else _largest(self.y_max),
            cross_entropy=(
                None if self.cross_entropy is None else self.cross_entropy.sum(0, keepdim=True)
            ),
        )

    @staticmethod
    def stack(parts: Sequence[OverlapStatistics]) -> OverlapStatistics:
        """Put the images of several batches below each other: (N_1, C), ... -> (sum of N_i, C)."""
        names = [field.name for field in fields(OverlapStatistics)]
        columns = [[getattr(part, name) for part in parts] for name in names]
        return OverlapStatistics(
            *(None if any(x is None for x in column) else torch.cat(column) for column in columns)  # type: ignore[arg-type]
        )

    def mean_cross_entropy(self) -> Tensor:
        """Return the cross-entropy per unit of weight over all images: a scalar, 0 without pixels.

        Raises:
            ValueError: The statistics were gathered without the cross-entropy.
        """
        if self.cross_entropy is None:
            raise ValueError(
                "These statistics hold no cross-entropy; gather them with `cross_entropy=True`."
            )
        weight = self.weight.sum()
        return self.cross_entropy.sum() / weight.clamp(min=torch.finfo(weight.dtype).tiny)


def _both(
    join: Callable[[Tensor, Tensor], Tensor], one: Tensor | None, other: Tensor | None
) -> Tensor | None:
    """Join what both have; None when one of them lacks it."""
    return None if one is None or other is None else join(one, other)


def _largest(x: Tensor) -> Tensor:
    """Return the maximum over the images, (N, C) -> (1, C); 0 without images, as over pixels."""
    return torch.cat([x, x.new_zeros(1, x.shape[1])]).amax(0, keepdim=True)
