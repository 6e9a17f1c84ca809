"""One pass over the pixels: what every implementation is given, and what it returns.

Shapes: N images, C classes, *S space, K targets, T pixels of a tile.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from softiou.overlap.settings import PassSettings
from softiou.targets import HardTile, SoftTile, Target
from softiou.targets.base import tensors_of
from softiou.tiles import Bilinear, Tile, tiles


class Sums(NamedTuple):
    """What a pass gathers, in float32 (float64 for float64 logits), of one target after the other.

    Attributes:
        masses: P of each target, then Y, D and M of each, (4 K, N, C).
        maxima: Largest predictions, then targets, (2 K, N, C); None when not asked for.
        totals: Weights, then cross-entropies, (2 K, N); the latter 0 when not asked for.
    """

    masses: Tensor
    maxima: Tensor | None
    totals: Tensor

    def rows(self) -> tuple[Tensor, ...]:
        """Take them apart: P, Y, D, M, weight, cross-entropy and the maxima, each K times."""
        maxima = () if self.maxima is None else self.maxima.unbind()
        return *self.masses.unbind(), *self.totals.unbind(), *maxima


class Cotangents(NamedTuple):
    """Gradients of the loss with respect to the sums.

    Attributes:
        masses: (4 K, N, C); those of Y are not used.
        cross_entropy: (K, N).
    """

    masses: Tensor
    cross_entropy: Tensor


@dataclass(frozen=True, eq=False)
class Job:
    """One pass: a prediction, K targets that are ready to be read, and the settings.

    Attributes:
        logits: Scores (N, C, *S), or (N, C, h, w) when `size` is another one.
        targets: K targets that cover (N, *S).
        size: *S.
        settings: What is gathered, and how.
        valid: Bool (N, *S) or None.
        weights: Floating (N, *S) or None.
        cache: What an implementation keeps from its `gather` for its `gradient`.
        bilinear: How low-resolution logits are interpolated; None for those of full resolution.
    """

    logits: Tensor
    targets: tuple[Target, ...]
    size: tuple[int, ...]
    settings: PassSettings = field(default_factory=PassSettings)
    valid: Tensor | None = None
    weights: Tensor | None = None
    cache: dict[str, Any] = field(init=False, default_factory=dict, repr=False)

    bilinear: Bilinear | None = field(init=False)

    def __post_init__(self) -> None:
        bilinear, given = None, self.logits.shape[2:]
        if tuple(given) != tuple(self.size):
            (h, w), (H, W) = given, self.size
            source, size = (int(h), int(w)), (int(H), int(W))
            bilinear = Bilinear(source, size, self.settings.align_corners)
        object.__setattr__(self, "bilinear", bilinear)  # the dataclass is frozen

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

    def tensors(self) -> list[Tensor]:
        """Return all tensors but the logits: of the targets, `valid` and `weights`."""
        found = [tensor for target in self.targets for tensor in tensors_of(target)]
        return found + [x for x in (self.valid, self.weights) if x is not None]

    def tiles(self, pixels: int) -> Iterator[Tile]:
        """Cut the images into tiles of about `pixels` pixels, or of the size that was asked for."""
        return tiles(self.shape, self.settings.tile or pixels)

    def read_targets(self, tile: Tile) -> list[tuple[HardTile | SoftTile, Tensor | None]]:
        """Read each target on a tile, with the weight of each pixel, (T,) or (C, T)."""
        reads = [target.read(tile, self.num_classes, self.dtype) for target in self.targets]
        valid = None if self.valid is None else tile.of(self.valid)
        weights = None if self.weights is None else tile.of(self.weights).to(self.dtype)
        return [(read, self._weight(read.valid, valid, weights)) for read in reads]

    def _weight(
        self, of_target: Tensor | None, valid: Tensor | None, weights: Tensor | None
    ) -> Tensor | None:
        """Combine the valid pixels of a target and of the job with the weights; None for 1."""
        if of_target is not None:
            self.check_valid(by_class=of_target.ndim == 2)
            valid = of_target if valid is None else of_target & valid
        # On the CPU looking for a False costs less than multiplying a tile by ones.
        if valid is not None and valid.device.type == "cpu" and valid.ndim == 1 and valid.all():
            valid = None
        if weights is None:
            return None if valid is None else valid.to(self.dtype)
        return weights if valid is None else torch.where(valid, weights, 0.0)

    def check_valid(self, *, by_class: bool) -> None:
        """Raise when a target ignores single classes of a pixel under a softmax."""
        if by_class and self.settings.activation == "softmax":
            raise ValueError(
                "Expected `target` to ignore all classes of a pixel together, as a softmax needs, "
                "but it ignores single ones. Use activation='sigmoid'."
            )

    def empty(self, dtype: torch.dtype) -> Sums:
        """Return the sums over no pixel."""
        K, N, C = len(self.targets), self.shape[0], self.num_classes
        masses = torch.zeros(4 * K, N, C, dtype=dtype, device=self.logits.device)
        maxima = torch.zeros_like(masses[: 2 * K]) if self.settings.maxima else None
        return Sums(masses, maxima, masses.new_zeros(2 * K, N))
