"""The shapes of an image from any annotation format, and the labels drawn from them.

Shapes of arrays: P points, C classes, H and W the image, h and w a crop of it, in pixels.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from softiou.data import native
from softiou.data.coverage import Cover, area_shares, inside_shares, normalised, polygon_covers
from softiou.data.views import View

if TYPE_CHECKING:
    from softiou.data.annotations.panoptic import Segments

Ring: TypeAlias = NDArray[np.float32]  # x, y (P, 2); the image's upper left corner is 0, 0
_HALF = 0.4999  # half a pixel, less the rounding of relative coordinates with six digits
Overlap: TypeAlias = Literal["later", "ignore"]


@dataclass(frozen=True, eq=False)
class Bitmap:
    """A run-length encoded mask: lengths of alternating runs of zeros and ones."""

    runs: NDArray[np.int64]  # lengths, first of zeros
    size: tuple[int, int]  # (H, W); their product is the sum of the runs
    place: tuple[int, int] = (0, 0)  # row and column of its upper left corner in the image
    by_columns: bool = False  # whether runs are in column-major order, as in COCO

    @classmethod
    def of(cls, mask: NDArray[np.bool_], place: tuple[int, int] = (0, 0)) -> "Bitmap":
        """Encode a mask (H, W)."""
        edges = np.flatnonzero(np.diff(mask.ravel(), prepend=False, append=False))
        return cls(np.diff(edges, prepend=0, append=mask.size), mask.shape, place)

    def mask(self) -> NDArray[np.bool_]:
        """Return the mask (H, W)."""
        flat = np.repeat(np.arange(len(self.runs)) % 2 == 1, self.runs)
        return flat.reshape(self.size[::-1]).T if self.by_columns else flat.reshape(self.size)


@dataclass(frozen=True, eq=False)
class Shape:
    """A region of one class."""

    name: str | None  # name of the class in the file; None for ignored pixels
    outlines: tuple[Ring, ...] = ()  # one for each part
    holes: tuple[Ring, ...] = ()  # outlines of holes in the parts
    bitmap: "Bitmap | Segments | None" = None  # instead of outlines


@dataclass(frozen=True)
class Legend:
    """The labels of the shapes of a data set."""

    # class or `ignore_index` of each shape name; other shapes are not drawn
    labels: Mapping[str | None, int]
    num_classes: int  # C
    ignore_index: int  # label of ignored pixels
    uncovered: int = 0  # label of uncovered pixels
    # "later": later shapes cover earlier ones; "ignore": overlaps of classes are ignored
    overlap: Overlap = "later"


class Drawing:  # not a dataclass, which Lightning would copy field by field
    """The shapes of an image in drawing order; takes the place of a mask file.

    `size` is (H, W) as stated in the file; None if coordinates are relative to the image size.
    """

    def __init__(
        self,
        file: Path,
        image: Path,
        size: tuple[int, int] | None,
        shapes: tuple[Shape, ...],
        legend: Legend,
    ) -> None:
        self.file, self.image, self.size, self.legend = file, image, size, legend
        self.shapes = tuple(shape for shape in shapes if shape.name in legend.labels)

    def __str__(self) -> str:
        return f"{self.file} ({self.image.name})"

    def labels(self, size: tuple[int, int]) -> Tensor:
        """Return the label map (H, W); a shape labels the pixels that it covers by half or more."""
        legend = self.legend
        target = np.full(size, legend.uncovered, np.int64)
        drawn = np.zeros(size if legend.overlap == "ignore" else (0, 0), bool)
        for label, cover in self._covers(View(0, 0, *size, size), size):
            inside, below = cover.shares >= _HALF, target[cover.box]
            if legend.overlap == "ignore":
                above = drawn[cover.box] & (below != label)
                drawn[cover.box] |= inside
                below[inside & above] = legend.ignore_index
                inside &= ~above
            below[inside] = label
        return torch.from_numpy(target)

    def shares(self, view: View, size: tuple[int, int]) -> Tensor:
        """Return the soft target (C, h, w) of a view: the share of each class in each pixel.

        The share of a shape is the exact area of its outlines. If several shapes overlap a pixel,
        the upper one gets its own share and the lower ones what remains. This is exact for adjacent
        shapes and for shapes that lie completely on others. Ignored parts are treated as in
        `mask_shares`.
        """
        legend = self.legend
        covers = list(self._covers(view, size))
        shares = np.zeros((legend.num_classes, *view.crop_px), np.float32)
        ignored = np.zeros(view.crop_px, np.float32)
        planes = dict.fromkeys(legend.labels.values(), ignored) | dict(enumerate(shares))
        inside = inside_shares(view, size)
        left = inside.copy()
        if legend.overlap == "later":
            for label, cover in reversed(covers):
                plane, rest = planes[label][cover.box], left[cover.box]
                if not native.paint(cover.shares, plane, rest):
                    seen = np.minimum(cover.shares, rest)
                    plane += seen
                    rest -= seen
        else:
            left = _side_by_side(covers, planes, inside, ignored)
        planes[legend.uncovered] += left
        return normalised(torch.from_numpy(shares), inside - ignored, legend.ignore_index)

    def _covers(self, view: View, size: tuple[int, int]) -> Iterator[tuple[int, Cover]]:
        """Yield the label and the coverage of each shape inside the view, in drawing order."""
        unit = size if self.size is None else (1, 1)
        covers = {cover.shape: cover for cover in _polygons(self.shapes, view, unit)}
        for number, shape in enumerate(self.shapes):
            cover = covers.get(number)
            if shape.bitmap is not None:
                cover = _bitmap_cover(number, shape.bitmap, view)
            if cover is not None:
                yield self.legend.labels[shape.name], cover


def _side_by_side(
    covers: Sequence[tuple[int, Cover]],
    planes: Mapping[int, NDArray[np.float32]],
    inside: NDArray[np.float32],
    ignored: NDArray[np.float32],
) -> NDArray[np.float32]:
    """Add covers regardless of order, ignore overlaps of classes, return the uncovered shares."""
    for label, cover in covers:
        planes[label][cover.box] += cover.shares
    total = np.zeros_like(inside)
    several = {
        id(planes[label]): planes[label] for label, _ in covers
    }  # all ignored labels share one plane
    for plane in several.values():
        np.minimum(plane, inside, out=plane)
        total += plane
    left: NDArray[np.float32] = (inside - total).clip(0)
    twice = total - inside > 1e-3
    ignored[twice] = inside[twice]
    return left


def _polygons(shapes: Sequence[Shape], view: View, unit: tuple[int, int]) -> Iterator[Cover]:
    """Yield the coverage of the shapes with outlines."""
    rings = [
        (ring, number, sign)
        for number, shape in enumerate(shapes)
        for sign, several in ((1.0, shape.outlines), (-1.0, shape.holes))
        for ring in several
    ]
    if not rings:
        return
    points = np.concatenate([ring for ring, _, _ in rings]).astype(np.float64)
    (h, w), (y, x) = view.crop_px, unit
    points *= (x * w / view.width, y * h / view.height)
    points -= (view.left * w / view.width, view.top * h / view.height)
    if view.flip:
        points[:, 0] = w - points[:, 0]
    yield from polygon_covers(
        points,
        np.array([len(ring) for ring, _, _ in rings]),
        np.array([number for _, number, _ in rings]),
        np.array([sign for _, _, sign in rings]),
        (h, w),
    )


def _bitmap_cover(number: int, bitmap: "Bitmap | Segments", view: View) -> Cover | None:
    """Return the coverage of a bitmap, or None if it is outside the view."""
    firsts, lengths = (view.top, view.left), (view.height, view.width)
    windows, box = [], []
    for first, length, new, place, side in zip(
        firsts, lengths, view.crop_px, bitmap.place, bitmap.size, strict=True
    ):
        scale = new / length
        low = max(0, int(np.floor((place - first) * scale)))
        high = min(new, int(np.ceil((place + side - first) * scale)))
        if high <= low:
            return None
        windows.append((first + low / scale - place, (high - low) / scale, high - low))
        box.append(slice(low, high))
    shares = area_shares(bitmap.mask(), 2, windows[0], windows[1])[1]
    if view.flip:
        w = view.crop_px[1]
        box[1] = slice(w - box[1].stop, w - box[1].start)
        shares = shares[:, ::-1]
    return Cover(number, (box[0], box[1]), shares)
