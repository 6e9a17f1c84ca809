"""The exact share of each pixel's area covered by polygons or by the labels of a finer mask.

Shapes: S shapes, E edges, C classes, H and W of a mask, h and w of the output raster.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from softiou.data import native
from softiou.data.problems import some_of
from softiou.data.views import View

_KNOWN = 0.5  # share of a pixel that must be known, or else the pixel is ignored

Floats: TypeAlias = NDArray[np.float64]
Integers: TypeAlias = NDArray[np.int64]
Window: TypeAlias = tuple[float, float, int]  # first pixel and length of the source; new length


@dataclass(frozen=True)
class Cover:
    """The share of each pixel in a box that a shape covers."""

    shape: int  # number of the shape
    box: tuple[slice, slice]  # rows and columns
    shares: NDArray[np.float32]  # in [0, 1]


def polygon_covers(
    points: Floats, rings: Integers, shapes: Integers, signs: Floats, size: tuple[int, int]
) -> Iterator[Cover]:
    """Yield the exact coverage of polygons, computed as in font rasterisers.

    Each edge adds to its row the signed area between itself and the right border. The sum over the
    edges is the mean winding number of the pixel; its absolute value, at most 1, is the share. A
    self-intersecting polygon covers all points with a winding number other than 0.

    `points` (P, 2) are x and y in pixels of the raster (h, w). For each ring, `rings` has the
    number of points, `shapes` the index of its shape (sorted), and `signs` 1 for an outline or -1
    for a hole.
    """
    ends = rings.cumsum()
    starts = ends - rings
    following = np.arange(1, len(points) + 1)
    following[ends - 1] = starts
    x, y = points.T
    next_x, next_y = x[following], y[following]
    area = np.add.reduceat(x * next_y - next_x * y, starts)
    weights = np.repeat(np.where(area < 0, -signs, signs), rings)
    numbers, first = np.unique(shapes, return_index=True)
    boxes = _boxes(x, y, starts[first], size)
    own = np.repeat(np.searchsorted(numbers, shapes), rings)
    edges = np.stack([x, y, next_x, next_y, weights, *boxes[own].T])
    offsets = _offsets(boxes)
    flat = native.covers(edges, own, boxes, offsets)
    if flat is None:
        flat = _summed(edges, offsets[own], int(offsets[-1]))
    for number, box, start, end in zip(numbers, boxes, offsets, offsets[1:], strict=False):
        if end > start:
            top, bottom, left, right = box.astype(int).tolist()
            shares = flat[start:end].reshape(bottom - top, -1)[:, :-1]
            yield Cover(int(number), (slice(top, bottom), slice(left, right)), shares)


def _boxes(x: Floats, y: Floats, starts: Integers, size: tuple[int, int]) -> Floats:
    """Return the bounding boxes (S, 4) of the shapes in the raster: top, bottom, left, right."""
    limits = []
    for values, length in ((y, size[0]), (x, size[1])):
        low = np.floor(np.minimum.reduceat(values, starts)).clip(0, length)
        limits += [low, np.ceil(np.maximum.reduceat(values, starts)).clip(low, length)]
    return np.stack(limits, axis=1)


def _offsets(boxes: Floats) -> Integers:
    """Return the offset of each box in a flat buffer, with an extra cell at the end of each row."""
    lines, columns = boxes[:, 1] - boxes[:, 0], boxes[:, 3] - boxes[:, 2]
    sizes = np.where(columns > 0, lines * (columns + 1), 0)
    return np.concatenate([[0], sizes.cumsum()]).astype(np.int64)


def _summed(edges: Floats, offsets: Integers, length: int) -> NDArray[np.float32]:
    """Return the shares of all boxes as one flat array."""
    places, covered = _cells(edges, offsets, edges[8] - edges[7])
    flat = np.bincount(places, covered, minlength=length)
    np.cumsum(flat, out=flat)
    return np.minimum(np.abs(flat, out=flat), 1, out=flat).astype(np.float32)


def _cells(edges: Floats, offsets: Integers, widths: Floats) -> tuple[Integers, Floats]:
    """Cut the edges (9, E) at the pixel borders; return buffer indices and values to add.

    A piece of height dy with its midpoint at the fraction f of a pixel adds dy (1 - f) to the pixel
    and dy f to the next, so the cumulative sum of the row is right on both sides of the edge.
    """
    x0, y0, x1, y1, _, top, bottom = edges[:7]
    kept = (widths > 0) & (np.minimum(y0, y1) < bottom) & (np.maximum(y0, y1) > top) & (y0 != y1)
    x0, y0, x1, y1, weight, top, bottom, left, right = edges[:, kept]
    offset, width = offsets[kept], widths[kept]
    slope = (x1 - x0) / (y1 - y0)
    weight = np.where(y0 < y1, weight, -weight)
    low = np.maximum(np.minimum(y0, y1), top)
    high = np.minimum(np.maximum(y0, y1), bottom)
    lines = np.floor(low)
    edge, step = _repeated(np.ceil(high) - lines)
    line = lines[edge] + step
    low, high = np.maximum(low[edge], line), np.minimum(high[edge], line + 1)
    ends = x0[edge] + (np.stack([low, high]) - y0[edge]) * slope[edge]
    ends = ends.clip(np.minimum(x0, x1)[edge], np.maximum(x0, x1)[edge])
    height = (high - low) * weight[edge]
    place = offset[edge] + (line - top[edge]) * (width[edge] + 1)
    return _columns(ends.min(0), ends.max(0), height, place, left[edge], right[edge])


def _columns(
    near: Floats, far: Floats, height: Floats, place: Floats, left: Floats, right: Floats
) -> tuple[Integers, Floats]:
    """Cut pieces in one row, which run from x = near to far, at the column borders."""
    first = np.floor(near).clip(left - 1, right)
    last = np.ceil(far).clip(left, right + 1)
    count = np.maximum(last - first, 1)
    piece, step = _repeated(count)
    column = first[piece] + step
    start = np.where(step == 0, near[piece], column)
    end = np.where(step == count[piece] - 1, far[piece], column + 1)
    whole = (far - near)[piece]
    part = np.divide(end - start, whole, out=np.ones_like(whole), where=whole > 0)
    height = height[piece] * part
    left, right = left[piece], right[piece]
    share = ((start + end) / 2 - column).clip(0, 1)
    share[(column < left) | (column == right)] = 0  # the piece is left or right of the box
    at = (place[piece] + column.clip(left, right) - left).astype(np.int64)
    behind = share > 0
    return (
        np.concatenate([at, at[behind] + 1]),
        np.concatenate([height * (1 - share), (height * share)[behind]]),
    )


def _repeated(counts: Floats) -> tuple[Integers, Floats]:
    """Return the index of each repeated item (0, 0, 0, 1, 2, 2, ...) and its repeat number."""
    whole = counts.astype(np.int64)
    item = np.repeat(np.arange(len(whole)), whole)
    return item, np.arange(len(item), dtype=np.float64) - np.repeat(whole.cumsum() - whole, whole)


def mask_shares(
    target: Tensor, view: View, size: tuple[int, int], *, num_classes: int, ignore_index: int
) -> Tensor:
    """Return the share of each class in each pixel of a view of a mask, by area: (C, h, w).

    `target` is the part of the mask (H, W) inside the view, `view.box(size)`. If a part of a pixel
    is ignored or outside the image, the shares are those of the remaining part; if less than half
    of the pixel remains, the pixel is ignored.
    """
    labels = target.numpy()
    ignored = labels == ignore_index
    if ((labels < 0) | (labels >= num_classes))[~ignored].any():
        found = some_of(np.unique(labels))
        raise ValueError(f"Expected labels 0..{num_classes - 1}, but found {found}.")
    labels = np.where(ignored, num_classes, labels)
    (h, w), seen = view.crop_px, view.within(view.box(size))
    rows, columns = (seen.top, seen.height, h), (seen.left, seen.width, w)
    shares = area_shares(labels, num_classes + 1, rows, columns)
    mirrored = view.mirrored(torch.from_numpy(shares))
    known = inside_shares(view, size) - mirrored[-1].numpy()
    return normalised(mirrored[:-1], known, ignore_index)


def inside_shares(view: View, size: tuple[int, int]) -> NDArray[np.float32]:
    """Return the share of each pixel (h, w) of the crop that is inside the image (H, W)."""
    sides = []
    windows = ((view.top, view.height), (view.left, view.width))
    for (first, length), new, limit in zip(windows, view.crop_px, size, strict=True):
        borders = first + np.arange(new + 1) * (length / new)
        sides.append((np.diff(borders.clip(0, limit)) * (new / length)).astype(np.float32))
    shares: NDArray[np.float32] = np.multiply.outer(*sides)
    return shares[:, ::-1] if view.flip else shares


def normalised(shares: Tensor, known: NDArray[np.float32], ignore_index: int) -> Tensor:
    """Divide shares (C, h, w) in place by the known part of each pixel (h, w), at most 1."""
    shares.clamp_(max=1)  # rounding can make sums of areas exceed 1
    partly = np.flatnonzero(known.ravel() < 1 - 1e-5)
    if len(partly):
        flat, part = shares.numpy().reshape(len(shares), -1), known.ravel()[partly]
        of_known = (flat[:, partly] / part.clip(_KNOWN)).clip(max=1)
        flat[:, partly] = np.where(part < _KNOWN, ignore_index, of_known)
    return shares


def area_shares(
    labels: NDArray[np.integer | np.bool_], num_labels: int, rows: Window, columns: Window
) -> NDArray[np.float32]:
    """Return the share (C, h, w) of each label in the pixels of a raster, by area.

    A window is the first row, the number of rows, and the number of output rows; it may reach
    beyond the labels (H, W).
    """
    row, column = (
        _pieces(*window, length)
        for window, length in zip((rows, columns), labels.shape, strict=True)
    )
    shape = (num_labels, rows[2], columns[2])
    found = native.areas(labels, row, column, shape)
    if found is None:
        places = labels[row[0]][:, column[0]].astype(np.int64) * (rows[2] * columns[2])
        places += row[1][:, None] * columns[2] + column[1]
        summed = np.multiply.outer(row[2], column[2]).ravel()
        found = np.bincount(places.ravel(), summed, math.prod(shape)).astype(np.float32)
    return found.reshape(shape)


def _pieces(first: float, length: float, new: int, limit: int) -> tuple[Integers, Integers, Floats]:
    """Cut a line at the old and new pixel borders; return old pixel, new pixel and share of it."""
    low, high = max(first, 0), min(first + length, limit)
    if high <= low:
        empty = np.zeros(0, np.int64)
        return empty, empty, np.zeros(0)
    borders = np.union1d(first + np.arange(new + 1) * (length / new), np.arange(limit + 1))
    borders = np.concatenate([[low], borders[(borders > low) & (borders < high)], [high]])
    middle = (borders[1:] + borders[:-1]) / 2
    target = ((middle - first) * (new / length)).astype(np.int64).clip(max=new - 1)
    return middle.astype(np.int64), target, np.diff(borders) * (new / length)
