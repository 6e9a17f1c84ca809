"""Tiles of pixels, and tile-wise bilinear interpolation of low-resolution maps.

Shapes: N images, C classes, *S space (H, W for images), T pixels of a tile, (h, w) a map at the
stride of a network.
"""

from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import lru_cache
from math import prod
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Tile:
    """A box of pixels of one image."""

    image: int  # index n of the image
    box: tuple[slice, ...]  # one slice for each spatial dimension

    @property
    def pixels(self) -> int:
        """Return T."""
        return prod([part.stop - part.start for part in self.box])  # a list, for the compiler

    def of(self, values: Tensor) -> Tensor:
        """Return the tile of a pixel map: (N, *S) -> (T,)."""
        return values[self.image][self.box].reshape(-1)

    def of_each(self, values: Tensor) -> Tensor:
        """Return the tile of a map with channels (classes, annotators): (N, C, *S) -> (C, T).

        The result is a view if the memory layout allows it, otherwise a copy.
        """
        return self.within(values).flatten(1)

    def within(self, values: Tensor) -> Tensor:
        """Return the view (C, *box) of a map with channels (N, C, *S)."""
        return values[self.image][(slice(None), *self.box)]


def tiles(shape: tuple[int, ...], pixels: int) -> Iterator[Tile]:
    """Yield tiles of at most `pixels` pixels.

    The last dimensions are kept whole as long as they fit, so that a tile is contiguous in memory
    if the image is.

    Args:
        shape: (N, *S).
        pixels: Largest size of a tile, at least 1.

    Example:
        >>> [tile.box for tile in tiles((1, 5, 4), 8)]  # two rows of four pixels each
        [(slice(0, 2, None), slice(0, 4, None)), (slice(2, 4, None), slice(0, 4, None)), \
(slice(4, 5, None), slice(0, 4, None))]
    """
    images, *space = shape
    if 0 not in space:
        for image in range(images):
            for box in _boxes(tuple(space), pixels):
                yield Tile(image, box)


def whole(shape: tuple[int, ...]) -> Iterator[Tile]:
    """Yield one tile for each image."""
    return tiles(shape, max(1, prod(shape[1:])))


def _boxes(space: tuple[int, ...], pixels: int) -> Iterator[tuple[slice, ...]]:
    if not space:
        yield ()
        return
    first, rest = space[0], space[1:]
    inner = prod(rest)
    if inner > pixels:  # a single row is too large: cut each row
        for index in range(first):
            for box in _boxes(rest, pixels):
                yield (slice(index, index + 1), *box)
        return
    step = max(1, pixels // inner)
    for start in range(0, first, step):
        yield (slice(start, min(start + step, first)), *(slice(0, length) for length in rest))


@dataclass(frozen=True)
class Bilinear:
    """Bilinear interpolation from (h, w) to (H, W), one tile of the large map at a time.

    The large map is A_h z A_w^T, where the matrices have two entries per row. So a tile needs only
    some of their rows, and the gradient is the transposed product. The result equals
    `F.interpolate` with mode="bilinear" up to rounding.
    """

    source: tuple[int, int]  # (h, w)
    size: tuple[int, int]  # (H, W); any ratio to the source, up or down
    align_corners: bool = False  # whether the centres of the corner pixels of both maps coincide
    # cache, because the matrix of the columns is equal in all tiles
    _made: dict[tuple[Any, ...], "_Span"] = field(default_factory=dict, repr=False, compare=False)

    @property
    def taps(self) -> tuple["Taps", "Taps"]:
        """Return the interpolation weights of the rows and of the columns."""
        rows, columns = (
            _taps(length, size, self.align_corners)
            for length, size in zip(self.source, self.size, strict=True)
        )
        return rows, columns

    def read(self, values: Tensor, tile: Tile) -> Tensor:
        """Interpolate a tile of low-resolution values: (N, C, h, w) -> (C, T), float32 or 64."""
        rows, columns = self._spans(tile, values)
        small = values[tile.image, :, rows.span, columns.span].to(rows.matrix.dtype)
        large = (rows.matrix @ small @ columns.matrix.mT).flatten(1)
        return large.to(torch.promote_types(values.dtype, torch.float32))

    def add_adjoint(self, gradient: Tensor, tile: Tile, total: Tensor) -> None:
        """Add the gradient (C, T) of `read` with respect to the values to `total` (N, C, h, w)."""
        rows, columns = self._spans(tile, gradient)
        large = gradient.reshape(-1, len(rows.matrix), len(columns.matrix)).to(rows.matrix.dtype)
        small = rows.matrix.mT @ large @ columns.matrix
        total[tile.image, :, rows.span, columns.span] += small.to(total.dtype)

    def _spans(self, tile: Tile, like: Tensor) -> tuple["_Span", "_Span"]:
        # On a GPU, float32 matrix products may use TF32, which has 10 bits of mantissa.
        least = torch.float64 if like.device.type == "cuda" else torch.float32
        dtype = torch.promote_types(like.dtype, least)
        rows, columns = (self._span(axis, tile.box[axis], dtype, like.device) for axis in (0, 1))
        return rows, columns

    def _span(self, axis: int, part: slice, dtype: torch.dtype, device: torch.device) -> "_Span":
        key = axis, part.start, part.stop, dtype, device
        if key not in self._made:
            self._made[key] = _span(self.taps[axis], part, self.source[axis], dtype, device)
        return self._made[key]


@dataclass(frozen=True)
class Taps:
    """Interpolation weights along a line: first source index, and weight of the next one.

    Python numbers instead of tensors, because they are cached for all devices.
    """

    first: tuple[int, ...]
    share: tuple[float, ...]


@lru_cache(maxsize=64)
def _taps(length: int, size: int, align_corners: bool) -> Taps:
    scale = length / size
    if align_corners:
        scale = (length - 1) / (size - 1) if size > 1 else 0.0
        places = [place * scale for place in range(size)]
    else:
        places = [max((place + 0.5) * scale - 0.5, 0.0) for place in range(size)]
    # At the far border, the next index does not exist; its weight is 0.
    first = tuple(min(int(place), max(length - 2, 0)) for place in places)
    most = 1.0 if length > 1 else 0.0
    shares = (min(place - begin, most) for place, begin in zip(places, first, strict=True))
    return Taps(first, tuple(shares))


@dataclass(frozen=True)
class _Span:
    """The source indices needed for a part of the large map, and its rows of the matrix."""

    span: slice
    matrix: Tensor


def _span(taps: Taps, part: slice, length: int, dtype: torch.dtype, device: torch.device) -> _Span:
    first, shares = taps.first[part], taps.share[part]
    start, stop = first[0], min(first[-1] + 2, length)
    matrix = torch.zeros(len(first), stop - start, dtype=dtype, device=device)
    line = torch.arange(len(first), device=device)
    begin = torch.tensor([place - start for place in first], device=device)
    share = torch.tensor(shares, dtype=dtype, device=device)
    matrix[line, begin] = 1 - share
    if length > 1:
        matrix[line, begin + 1] = share
    return _Span(slice(start, stop), matrix)
