"""Mixtures of targets: a weighted mean, or different targets in different regions.

Shapes: N images, C classes, *S space, T pixels of a tile.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from softiou import _checks
from softiou.targets.base import HardTile, SoftTile, Target
from softiou.tiles import Tile


@dataclass(frozen=True)
class MixedTarget(Target):
    """The weighted mean of several targets.

        y = sum_i s_i y_i / sum_i s_i    over the parts i in which the pixel is valid

    A pixel is valid if it is valid in any part.

    Args:
        shares: Weights s of the parts, at least 0, not all 0.
        parts: The targets, all of the same shape.
    """

    shares: tuple[float, ...]
    parts: tuple[Target, ...]

    def __post_init__(self) -> None:
        if len(self.shares) != len(self.parts) or not self.parts:
            raise ValueError(
                f"Expected a share for each of the parts, but got {len(self.shares)} and "
                f"{len(self.parts)}."
            )
        for share in self.shares:
            _checks.in_range("shares", share, 0.0)
            if share == float("inf"):
                raise ValueError(f"Expected `shares` to be finite, but got {self.shares}.")
        if not sum(self.shares) > 0:
            raise ValueError(f"Expected `shares` to have a positive sum, but got {self.shares}.")

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (N, *S), or raise a ValueError if the parts have different shapes."""
        return _common_shape(self.parts)

    def read(self, tile: Tile, num_classes: int, dtype: torch.dtype) -> SoftTile:
        """Return the weighted mean (C, T)."""
        total, mass = None, None
        for share, part in zip(self.shares, self.parts, strict=True):
            if share == 0:
                continue
            read = part.read(tile, num_classes, dtype).dense(num_classes, dtype)
            valid = read.valid_by_class()
            y = torch.where(valid, share * read.y, 0.0)
            total = y if total is None else total + y
            mass = share * valid.to(dtype) if mass is None else mass + share * valid.to(dtype)
        if total is None or mass is None:
            raise RuntimeError("a mixture without parts")
        valid = mass > 0
        y = total / torch.where(valid, mass, 1.0)
        return SoftTile(y, valid[0] if len(valid) == 1 else valid)

    def validate(self, num_classes: int, valid: Tensor | None = None) -> None:
        """Raise a ValueError if any part is invalid."""
        for part in self.parts:
            part.validate(num_classes, valid)


@dataclass(frozen=True)
class RegionTarget(Target):
    """One target inside a region and another one outside, as in CutMix and ClassMix.

    Args:
        inside: The target where `region` is True.
        outside: The target elsewhere.
        region: Bool (N, *S).
    """

    inside: Target
    outside: Target
    region: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (N, *S), or raise a ValueError if targets and region have different shapes."""
        shape = _common_shape((self.inside, self.outside))
        _checks.pixel_map("region", self.region, shape, boolean=True)
        return shape

    def read(self, tile: Tile, num_classes: int, dtype: torch.dtype) -> SoftTile | HardTile:
        """Return the pixels of both targets, as labels if both targets return labels."""
        region = tile.of(self.region)
        one, other = (
            target.read(tile, num_classes, dtype) for target in (self.inside, self.outside)
        )
        if isinstance(one, HardTile) and isinstance(other, HardTile):
            return HardTile(
                torch.where(region, one.index, other.index),
                _choose(region, one.valid, other.valid, fill=True),
                _choose(region, one.epsilon, other.epsilon, fill=0.0),
            )
        one, other = (read.dense(num_classes, dtype) for read in (one, other))
        return SoftTile(
            torch.where(region, one.y, other.y), _choose(region, one.valid, other.valid, fill=True)
        )

    def validate(self, num_classes: int, valid: Tensor | None = None) -> None:
        """Raise a ValueError if either target is invalid in its region."""
        for target, where in ((self.inside, self.region), (self.outside, ~self.region)):
            target.validate(num_classes, where if valid is None else where & valid)


def _choose(
    region: Tensor, inside: Tensor | None, outside: Tensor | None, *, fill: float
) -> Tensor | None:
    """Select from two optional maps by region; a missing map equals `fill` everywhere."""
    if inside is None and outside is None:
        return None
    like = inside if inside is not None else outside
    one, other = (torch.full_like(like, fill) if x is None else x for x in (inside, outside))  # type: ignore[arg-type]
    return torch.where(region, one, other)


def _common_shape(parts: tuple[Target, ...]) -> tuple[int, ...]:
    shapes = [part.shape for part in parts]
    if any(shape != shapes[0] for shape in shapes):
        raise ValueError(
            f"Expected mixed targets to have the same shape (N, *S), but got {shapes}."
        )
    return shapes[0]
