"""One pass over the pixels, described: what every implementation is given, and what it returns.

Shapes: N images, C classes, *S space, K targets, T pixels of a tile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import NamedTuple

import torch
from torch import Tensor

from softiou.targets import HardTile, SoftTile, Target
from softiou.tiles import Bilinear, Tile, tiles


class Sums(NamedTuple):
    """What a pass gathers, in float32 (float64 for float64 logits).

    Attributes:
        masses: P, Y, D, M of each target, (4, K, N, C).
        maxima: Largest prediction and target (2, K, N, C); zeros when not asked for.
        totals: Weight and cross-entropy (2, K, N); the latter 0 when not asked for.
    """

    masses: Tensor
    maxima: Tensor
    totals: Tensor


@dataclass(frozen=True)
class Job:
    """One pass: a prediction, K targets, and what is to be gathered.

    Attributes:
        logits: Scores (N, C, *S), or (N, C, h, w) when `size` is another one.
        targets: K targets that cover (N, *S).
        size: *S.
        valid: Bool (N, *S) or None.
        weights: Floating (N, *S) or None.
        activation: "softmax", "sigmoid" or "none".
        align_corners: Of the interpolation of low-resolution logits.
        cross_entropy: Whether to gather the cross-entropy.
        maxima: Whether to gather the largest predictions and targets.
        tile: Pixels of a tile; None for the implementation's own choice.
    """

    logits: Tensor
    targets: tuple[Target, ...]
    size: tuple[int, ...]
    valid: Tensor | None = None
    weights: Tensor | None = None
    activation: str = "softmax"
    align_corners: bool = False
    cross_entropy: bool = False
    maxima: bool = False
    tile: int | None = None

    @property
    def num_classes(self) -> int:
        """Return C."""
        return int(self.logits.shape[1])

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (N, *S)."""
        return (int(self.logits.shape[0]), *self.size)

    @property
    def dtype(self) -> torch.dtype:
        """Return the dtype of all arithmetic: float32, or float64 for float64 logits."""
        return torch.promote_types(self.logits.dtype, torch.float32)

    @property
    def bilinear(self) -> Bilinear | None:
        """Return how low-resolution logits are read; None for those of full resolution."""
        if tuple(self.logits.shape[2:]) == tuple(self.size):
            return None
        source = (int(self.logits.shape[2]), int(self.logits.shape[3]))
        return Bilinear(source, (int(self.size[0]), int(self.size[1])), self.align_corners)

    def tiles(self, pixels: int) -> Iterator[Tile]:
        """Cut the images into tiles of about `pixels` pixels, or of the size that was asked for."""
        return tiles(self.shape, self.tile or pixels)

    def read_targets(self, tile: Tile) -> list[tuple[HardTile | SoftTile, Tensor | None]]:
        """Return what each target knows of a tile, and how much pixels count, (T,) or (C, T)."""
        reads = [target.read(tile, self.num_classes, self.dtype) for target in self.targets]
        valid = None if self.valid is None else tile.of(self.valid)
        weights = None if self.weights is None else tile.of(self.weights).to(self.dtype)
        return [(read, self._weight(read.valid, valid, weights)) for read in reads]

    def _weight(
        self, counts: Tensor | None, valid: Tensor | None, weights: Tensor | None
    ) -> Tensor | None:
        """Join all that says how much a pixel counts; None for 1 everywhere."""
        if counts is not None:
            self.check_valid(by_class=counts.ndim == 2)
        if counts is not None and valid is not None:
            counts = counts & valid
        elif counts is None:
            counts = valid
        on_cpu = counts is not None and counts.device.type == "cpu"
        if counts is not None and on_cpu and counts.ndim == 1 and bool(counts.all()):
            counts = None  # looking costs less than a product of the size of a tile
        if weights is None:
            return None if counts is None else counts.to(self.dtype)
        return weights if counts is None else torch.where(counts, weights, 0.0)

    def check_valid(self, *, by_class: bool) -> None:
        """Raise when a target ignores single classes that belong together."""
        if by_class and self.activation == "softmax":
            raise ValueError(
                "The classes of a softmax are ignored together, but `target` ignores single "
                "ones: it is for independent classes. Use activation='sigmoid'."
            )

    @property
    def by_entry(self) -> bool:
        """Return whether the cross-entropy is per entry (sigmoid), not per pixel (softmax)."""
        return self.activation == "sigmoid"

    def empty(self, dtype: torch.dtype) -> Sums:
        """Return sums of nothing yet."""
        K, N, C = len(self.targets), self.shape[0], self.num_classes
        device = self.logits.device
        return Sums(
            torch.zeros(4, K, N, C, dtype=dtype, device=device),
            torch.zeros(2, K, N, C, dtype=dtype, device=device),
            torch.zeros(2, K, N, dtype=dtype, device=device),
        )


class Cotangents(NamedTuple):
    """Gradients of the loss with respect to the sums.

    Attributes:
        masses: (4, K, N, C); that of Y is not used.
        cross_entropy: (K, N).
    """

    masses: Tensor
    cross_entropy: Tensor
