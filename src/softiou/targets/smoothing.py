"""Label smoothing, everywhere or near the boundaries of the classes.

Shapes: N images, *S space, T pixels of a tile.
"""

from dataclasses import dataclass, replace

import torch
from torch import Tensor

from softiou import _checks
from softiou.targets import hard
from softiou.targets.base import HardTile
from softiou.tiles import Tile


@dataclass(frozen=True)
class SmoothedTarget(hard.LabelsTarget):
    """Class indices (N, *S) with label smoothing.

        y_c = (1 - epsilon) [c = label] + epsilon / C

    Either all pixels are smoothed, or only a band along the boundaries of the classes, where
    annotators disagree most.

    Args:
        labels: Class indices (N, *S), any integer dtype.
        epsilon: Probability that is spread over all classes, in [0, 1].
        width: Width of the band in pixels on each side of a boundary (see `boundary_band`); None
            smooths all pixels.
        ignore_index: Label of ignored pixels; None uses that of the loss, if it has one.
        adaptive: Whether to leave thin objects unsmoothed, see `boundary_band`.
        band: Bool (N, *S), the pixels to smooth; None computes the band of `width` tile by tile.
    """

    labels: Tensor
    epsilon: float
    width: int | None = None
    ignore_index: int | None = None
    adaptive: bool = False
    band: Tensor | None = None

    def __post_init__(self) -> None:
        hard.check_labels(self.labels, "Probabilities cannot be smoothed.")
        _checks.in_range("epsilon", self.epsilon, 0.0, 1.0)
        if self.width is not None:
            _checks.in_range("width", self.width, 1)
        _checks.pixel_map("band", self.band, tuple(self.labels.shape), boolean=True)

    def with_band(self, num_classes: int) -> "SmoothedTarget":
        """Return a copy with `band`, so that the backward pass need not compute it again."""
        if num_classes == 1:
            raise ValueError(
                "Smoothed labels need at least two classes: make the background a class, or pass "
                "probabilities."
            )
        if self.width is None or self.band is not None:
            return self
        return replace(self, band=self._band_of(self.labels, self.width, num_classes))

    def read(self, tile: Tile, num_classes: int, dtype: torch.dtype) -> HardTile:
        """Return the labels of a tile and the epsilon of each."""
        read = hard.read_labels(
            tile.of(self.labels), num_classes=num_classes, ignore_index=self.ignore_index
        )
        if self.band is not None:
            epsilon = tile.of(self.band).to(dtype) * self.epsilon
        elif self.width is not None:
            epsilon = self._band(tile, self.width, num_classes).to(dtype) * self.epsilon
        else:
            epsilon = torch.full_like(read.index, self.epsilon, dtype=dtype)
        return HardTile(read.index, read.valid, epsilon)

    def _band(self, tile: Tile, width: int, num_classes: int) -> Tensor:
        """Return the band (T,) of a tile, computed from the labels of the tile and a margin."""
        margin = 2 * width if self.adaptive else width
        around = hard.labels_around(self.labels, tile, margin).unsqueeze(0)
        band = self._band_of(around, width, num_classes)[0]
        return band[(slice(margin, -margin),) * len(tile.box)].reshape(-1)

    def _band_of(self, labels: Tensor, width: int, num_classes: int) -> Tensor:
        return boundary_band(
            labels,
            width=width,
            num_classes=num_classes,
            ignore_index=self.ignore_index,
            adaptive=self.adaptive,
        )


def boundary_band(
    labels: Tensor,
    *,
    width: int,
    num_classes: int,
    ignore_index: int | None = None,
    adaptive: bool = False,
) -> Tensor:
    """Find the pixels that lie near another class.

    A pixel is in the band if a pixel of another class lies at most `width` pixels away along every
    axis. Ignored pixels are never in the band and have no boundary. With `adaptive`, thin objects
    are not in the band either: a pixel stays in the band only if a pixel of its class outside the
    band lies at most `width` pixels away. This is a morphological opening of each class, which
    removes what is at most 2 `width` pixels thick.

    Args:
        labels: Class indices (N, *S), any integer dtype.
        width: Width of the band on each side of a boundary, in pixels, at least 1.
        num_classes: C.
        ignore_index: Label of ignored pixels.
        adaptive: Whether to exclude thin objects.

    Returns:
        Bool (N, *S), True in the band.

    Example:
        >>> labels = torch.tensor([[0, 0, 0, 1, 1, 1]])
        >>> boundary_band(labels, width=1, num_classes=2).tolist()
        [[False, False, True, True, False, False]]
        >>> pole = torch.tensor([[0, 0, 0, 1, 0, 0, 0]])
        >>> boundary_band(pole, width=1, num_classes=2, adaptive=True).int().tolist()
        [[0, 0, 1, 0, 1, 0, 0]]
    """
    _checks.in_range("width", width, 1)
    valid = hard.valid_labels(labels, num_classes=num_classes, ignore_index=ignore_index)
    dtypes = (torch.uint8, torch.int16, torch.int64)  # the smallest is the fastest
    dtype = next(dtype for dtype in dtypes if num_classes < torch.iinfo(dtype).max)
    small, most = labels.to(dtype), torch.iinfo(dtype).max
    # 0 is reserved for ignored pixels, so the minimum is computed as the maximum of `most - label`.
    own = torch.where(valid, torch.stack([small + 1, most - small]), 0)
    around = own
    for dim in range(2, own.ndim):
        around = _largest_within(around, dim, width)
    band = valid & ((around[0] != own[0]) | (around[1] != own[1]))
    if not adaptive:
        return band
    # All pixels near one outside the band have its class, so no comparison of classes is needed.
    thick = (valid & ~band).to(torch.uint8)
    for dim in range(1, thick.ndim):
        thick = _largest_within(thick, dim, width)
    return band & thick.bool()


def _largest_within(x: Tensor, dim: int, width: int) -> Tensor:
    """Compute the maximum over windows of 2 width + 1 along a dimension, doubling the window."""
    size = x.shape[dim]
    border = x.new_zeros(*x.shape[:dim], width, *x.shape[dim + 1 :])
    x = torch.cat([border, x, border], dim)
    window, seen = 2 * width + 1, 1
    while seen < window:
        step = min(seen, window - seen)
        length = x.shape[dim] - step
        x = torch.maximum(x.narrow(dim, 0, length), x.narrow(dim, step, length))
        seen += step
    return x.narrow(dim, 0, size)
