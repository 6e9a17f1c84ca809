"""The input and the result of one pass over the pixels, for all implementations.

Shapes: N images, C classes, *S space, K targets, T pixels of a tile.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

import torch
from torch import Tensor

from softiou.overlap.settings import PassSettings
from softiou.targets import DenseTarget, HardTarget, HardTile, SmoothedTarget, SoftTile, Target
from softiou.targets.base import tensors_of
from softiou.tiles import Bilinear, Tile, tiles

_CHECKED = 2**20  # entries that are checked at once
_TOLERANCE = 1e-3  # rounding of probabilities


class Sums(NamedTuple):
    """The sums of a pass for K targets, float32 (float64 for float64 logits)."""

    # (5 K or 7 K, N, C): P of all targets, then Y, D, M and T of all, and with cross-entropy also
    # `entropy` and `entropy_off`.
    masses: Tensor
    maxima: Tensor | None  # (2 K, N, C): largest predictions, then largest targets; or None
    weight: Tensor  # (K, N): denominators of the cross-entropy

    def merge_images(self) -> Sums:
        """Merge the images, as if they were one large image: N becomes 1."""
        maxima = self.maxima
        if maxima is not None:
            none = maxima.new_zeros(maxima.shape[0], 1, maxima.shape[2])  # without images
            maxima = torch.cat([maxima, none], 1).amax(1, keepdim=True)
        return Sums(self.masses.sum(1, keepdim=True), maxima, self.weight.sum(1, keepdim=True))

    @classmethod
    def of_targets(cls, each: Sequence[Sums]) -> Sums:
        """Combine the sums of single targets; each weight is (N,) or (1, N)."""
        masses = torch.stack([one.masses for one in each], 1).flatten(0, 1)
        maxima = [one.maxima for one in each if one.maxima is not None]
        largest = torch.stack(maxima, 1).flatten(0, 1) if maxima else None
        weights = [one.weight.reshape(1, -1) for one in each]
        return cls(masses, largest, torch.cat(weights))


@dataclass(frozen=True, eq=False)
class Job:
    """The input of one pass: a prediction, K targets and the settings."""

    logits: Tensor  # scores (N, C, *S), or (N, C, h, w) if `size` differs
    targets: tuple[Target, ...]  # K targets of shape (N, *S)
    size: tuple[int, ...]  # *S
    settings: PassSettings = field(default_factory=PassSettings)
    valid: Tensor | None = None  # bool (N, *S) or None
    weights: Tensor | None = None  # floating (N, *S) or None
    # Values that an implementation stores in `gather` for `gradient`.
    cache: dict[str, Any] = field(init=False, default_factory=dict, repr=False)

    # The interpolation of low-resolution logits; None for full resolution.
    bilinear: Bilinear | None = field(init=False)

    def __post_init__(self) -> None:
        bilinear, given = None, self.logits.shape[2:]
        if tuple(given) != tuple(self.size):
            (h, w), (H, W) = given, self.size
            source, size = (int(h), int(w)), (int(H), int(W))
            bilinear = Bilinear(source, size, self.settings.align_corners)
        object.__setattr__(self, "bilinear", bilinear)  # the dataclass is frozen

    @property
    def rows(self) -> int:
        """Return the number of masses of each target."""
        return 7 if self.settings.cross_entropy else 5

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
        """Return the dtype of the computation: float32, or float64 for float64 logits."""
        return torch.promote_types(self.logits.dtype, torch.float32)

    def tensors(self) -> list[Tensor]:
        """Return all tensors except the logits: those of the targets, `valid` and `weights`."""
        found = [tensor for target in self.targets for tensor in tensors_of(target)]
        return found + [x for x in (self.valid, self.weights) if x is not None]

    def tiles(self, pixels: int) -> Iterator[Tile]:
        """Yield tiles of about `pixels` pixels, or of `settings.tile` pixels if it is set."""
        return tiles(self.shape, self.settings.tile or pixels)

    def read_targets(self, tile: Tile) -> list[tuple[HardTile | SoftTile, Tensor | None]]:
        """Read each target in a tile, and its pixel weights (T,) or (C, T)."""
        reads = [target.read(tile, self.num_classes, self.dtype) for target in self.targets]
        valid = None if self.valid is None else tile.of(self.valid)
        weights = None if self.weights is None else tile.of(self.weights).to(self.dtype)
        return [(read, self._weight(read.valid, valid, weights)) for read in reads]

    def _weight(
        self, of_target: Tensor | None, valid: Tensor | None, weights: Tensor | None
    ) -> Tensor | None:
        """Combine the valid pixels of target and job with the weights; None if all are 1."""
        if of_target is not None:
            self.check_valid(by_class=of_target.ndim == 2)
            valid = of_target if valid is None else of_target & valid
        # On the CPU this check is cheaper than multiplying a tile by ones.
        if valid is not None and valid.device.type == "cpu" and valid.ndim == 1 and valid.all():
            valid = None
        if weights is None:
            return None if valid is None else valid.to(self.dtype)
        return weights if valid is None else torch.where(valid, weights, 0.0)

    def validate(self, *, plain_kinds_only: bool = False) -> None:
        """Raise a ValueError if targets or weights are out of range (synchronises with a GPU).

        `plain_kinds_only` skips targets whose check is slow.
        """
        valid, weights = self.valid, self.weights
        if weights is not None:
            looked_at = weights if valid is None else weights[valid]
            if not bool((looked_at >= 0).all() & looked_at.isfinite().all()):
                raise ValueError(
                    f"Expected `weights` to be finite and at least 0 everywhere, but got values "
                    f"from {looked_at.min().item():.4g} to {looked_at.max().item():.4g}. Clamp "
                    "them, or leave pixels out with `valid`."
                )
            valid = weights > 0 if valid is None else valid & (weights > 0)
        for target in self.targets:
            plain_kind = isinstance(target, (HardTarget, SmoothedTarget, DenseTarget))
            if plain_kind or not plain_kinds_only:
                target.validate(self.num_classes, valid)

    def validate_prediction(self) -> None:
        """Raise a ValueError if valid pixels have probabilities outside [0, 1], for "none"."""
        if self.settings.activation != "none" or self.bilinear is not None:
            return
        for tile in self.tiles(_CHECKED // self.num_classes):
            p = tile.of_each(self.logits.detach())
            outside = (p < -_TOLERANCE) | (p > 1 + _TOLERANCE)
            for _, w in self.read_targets(tile):
                found = p[outside if w is None else outside & (w > 0)]
                if found.numel():
                    raise ValueError(
                        "Expected probabilities in [0, 1] with activation='none', but got "
                        f"{found[0].item():.4g}. For logits, use activation='softmax' or 'sigmoid'."
                    )

    def check_valid(self, *, by_class: bool) -> None:
        """Raise a ValueError if a target ignores single classes of a pixel with a softmax."""
        if by_class and self.settings.activation == "softmax":
            raise ValueError(
                "Expected `target` to ignore all classes of a pixel together, which a softmax "
                "requires, but single ones are ignored. Use activation='sigmoid'."
            )

    def empty(self, dtype: torch.dtype) -> Sums:
        """Return sums of 0."""
        K, N, C = len(self.targets), self.shape[0], self.num_classes
        masses = torch.zeros(self.rows * K, N, C, dtype=dtype, device=self.logits.device)
        maxima = torch.zeros_like(masses[: 2 * K]) if self.settings.maxima else None
        return Sums(masses, maxima, masses.new_zeros(K, N))
