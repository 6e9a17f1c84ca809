"""The embedded data set "digits": synthetic scenes with exact soft labels.

Each handwritten digit of scikit-learn is a grid of 8x8 cells that count the ink in 4x4 pixels of
the original scan, so count / 16 is the share of the cell that ink covers. Scenes compose such
digits over photographs; the soft label of a pixel is the share that each digit covers.

Shapes: S side of a scene and s side of a digit in pixels, C classes.
"""

from dataclasses import dataclass
from functools import cache
from pathlib import Path

import numpy as np
import torch
from numpy.typing import NDArray

from softiou.data.base import (
    DatasetDescription,
    Sample,
    SegmentationDataset,
    TargetKind,
    check_labels,
)
from softiou.errors import DataError

_FloatArray = NDArray[np.float32]
_IntArray = NDArray[np.int64]


@dataclass(frozen=True)
class _Source:
    """The digits and photograph regions of a split; splits share none of them.

    The digits are ordered by writer; the columns apply to both photographs.
    """

    seed: int
    size: int
    digits: range
    columns: range


_SOURCES = {
    "train": _Source(seed=0, size=2000, digits=range(1078), columns=range(320)),
    "val": _Source(seed=1, size=64, digits=range(1078, 1348), columns=range(320, 448)),
    "test": _Source(seed=2, size=128, digits=range(1348, 1797), columns=range(448, 640)),
}
DIGIT_SPLITS = tuple(_SOURCES)
DIGIT_FRACTIONS = {"1_16": 16, "1_8": 8, "1_4": 4}  # the first 1/n of the scenes of train
_DIGITS_PER_SCENE = (3, 6)
_MAGNIFICATIONS = (2, 2, 3)  # equally likely: large enough to read
_PLACES = 4  # random positions; the one with the least overlap is used
# Bright ink on dark photographs, so that a small network learns the task in some 100 steps.
_DIMMED = 0.5
_CONTRAST = (0.6, 1.0)  # interpolation from the mean background colour to a bright colour
_SCENE_PX = (32, 128)  # the largest digit has 26 pixels, the narrowest strip of photograph 128


class DigitScenes(SegmentationDataset):
    """Scenes of three to six handwritten digits over photographs; class 0 is the background.

    A scene depends only on the split and its index, and is bit-identical on every machine. Splits
    share neither digits (nor writers) nor regions of the photographs.

    Args:
        split: "train", "val" or "test"; "1_16", "1_8" or "1_4" for the first scenes of train.
        labels: "soft" gives the covered shares; "hard" (and "auto") the class that covers most.
        size: Number of scenes; None for 2000 (train), 64 (val) or 128 (test).
        scene_px: Side of a scene, 32..128.

    Raises:
        DataError: The split does not exist.
        ValueError: `size` is below 1 or `scene_px` out of range.

    Example:
        >>> scene = DigitScenes("val", labels="soft")[0]
        >>> scene["image"].shape, scene["target"].shape
        (torch.Size([3, 64, 64]), torch.Size([11, 64, 64]))
    """

    def __init__(
        self,
        split: str,
        *,
        labels: TargetKind = "auto",
        size: int | None = None,
        scene_px: int = 64,
    ) -> None:
        if split not in (*_SOURCES, *DIGIT_FRACTIONS):
            raise DataError(
                f"Expected `split` to be one of {', '.join((*DIGIT_SPLITS, *DIGIT_FRACTIONS))}, "
                f"but got {split!r}."
            )
        check_labels(labels)
        if labels in ("votes", "staple"):
            raise DataError(
                f"labels={labels!r} needs several annotators, which digits lack; 'soft' gives "
                "the share that each class covers."
            )
        if size is not None and size < 1:
            raise ValueError(f"Expected `size` to be at least 1 scene, but got {size}.")
        if not _SCENE_PX[0] <= scene_px <= _SCENE_PX[1]:
            raise ValueError(
                f"Expected `scene_px` to be in {_SCENE_PX[0]}..{_SCENE_PX[1]}, but got {scene_px}."
            )
        names = ("background", *"0123456789")
        self.description = DatasetDescription(names)
        self.split = split
        self.folder = "train" if split in DIGIT_FRACTIONS else split
        self.labels = "hard" if labels == "auto" else labels
        size = size or _SOURCES[self.folder].size // DIGIT_FRACTIONS.get(split, 1)
        self.stems = tuple(f"{self.folder}-{i:05d}" for i in range(size))
        self._scene_px = scene_px

    def files(self, index: int) -> tuple[Path, ...]:
        """Return no files: scenes are generated in memory."""
        return ()

    def __getitem__(self, index: int) -> Sample:
        """Compose the scene of an index."""
        index = range(len(self))[index]
        image, target = _compose(_SOURCES[self.folder], index, self._scene_px)
        soft = torch.from_numpy(target)
        return {
            "image": torch.from_numpy(image),
            "target": soft if self.labels == "soft" else soft.argmax(dim=0),
            "stem": self.stems[index],
        }


def _compose(
    source: _Source, index: int, scene_px: int
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Place random digits over a random crop; return image (3, S, S) and shares (C, S, S)."""
    random = np.random.default_rng((source.seed, index))
    image = _background(random, source.columns, scene_px)
    target = np.zeros((11, scene_px, scene_px), dtype=np.float32)
    target[0] = 1
    for _ in range(random.integers(*_DIGITS_PER_SCENE, endpoint=True)):
        digit, alpha = _digit(random, source.digits)
        window = _free_place(random, target[0], len(alpha))
        ink = _ink(random, image[window])
        # Porter-Duff "over" for image and labels; the shares still sum to 1
        image[window] += alpha * (ink - image[window])
        target[window] *= 1 - alpha
        target[window][1 + digit] += alpha
    return image.round().astype(np.uint8), target


def _background(random: np.random.Generator, columns: range, scene_px: int) -> _FloatArray:
    """Return a random square (3, S, S) from the columns of a photograph."""
    photograph = _photographs()[random.integers(2)]
    top = random.integers(photograph.shape[1] - scene_px, endpoint=True)
    left = random.integers(columns.start, columns.stop - scene_px, endpoint=True)
    crop = photograph[:, top : top + scene_px, left : left + scene_px]
    return _DIMMED * crop.astype(np.float32)


def _free_place(
    random: np.random.Generator, background: _FloatArray, side: int
) -> tuple[slice, slice, slice]:
    """Return the one of several random windows (all channels, s, s) with the most background."""
    corners = random.integers(len(background) - side, size=(_PLACES, 2), endpoint=True)
    windows = [(slice(top, top + side), slice(left, left + side)) for top, left in corners]
    return slice(None), *max(windows, key=lambda window: float(background[window].sum()))


def _digit(random: np.random.Generator, digits: range) -> tuple[int, _FloatArray]:
    """Return the class 0..9 and the enlarged shares (s, s) of a random digit."""
    ink, classes = _handwriting()
    chosen = random.integers(digits.start, digits.stop)
    return int(classes[chosen]), _enlarged(ink[chosen], int(random.choice(_MAGNIFICATIONS)))


def _enlarged(ink: _IntArray, magnification: int) -> _FloatArray:
    """Enlarge sixteenths of cells (8, 8) to shares of pixels (s, s), rounded once.

    The product uses integers, because floating-point sums differ between machines.
    """
    enlarge = _enlargement(magnification)
    shares: _FloatArray = (enlarge @ ink @ enlarge.T / (16 * magnification**2)).astype(np.float32)
    return shares


def _ink(random: np.random.Generator, background: _FloatArray) -> _FloatArray:
    """Return a colour (3, 1, 1) between the mean background and a random bright colour."""
    colour = random.uniform(0.3, 1, size=(3, 1, 1))
    colour *= 255 / colour.max()
    mean = background.mean(axis=(1, 2), keepdims=True)
    return np.asarray(mean + random.uniform(*_CONTRAST) * (colour - mean), dtype=np.float32)


@cache
def _enlargement(magnification: int) -> _IntArray:
    """Return m times the (s, 8) matrix of linear interpolation that preserves total ink."""
    box = np.ones(magnification, dtype=np.int64)
    triangle = np.convolve(box, box)
    matrix = np.zeros((9 * magnification - 1, 8), dtype=np.int64)
    for cell in range(8):
        start = cell * magnification
        matrix[start : start + len(triangle), cell] = triangle
    return matrix


@cache
def _handwriting() -> tuple[_IntArray, _IntArray]:
    """Load the digits: covered sixteenths of cells (1797, 8, 8) and classes (1797,)."""
    from sklearn.datasets import load_digits

    digits = load_digits()
    return digits.images.astype(np.int64), digits.target.astype(np.int64)


@cache
def _photographs() -> tuple[NDArray[np.uint8], ...]:
    """Load the photographs, each (3, 427, 640)."""
    from sklearn.datasets import load_sample_images

    return tuple(np.moveaxis(image, -1, 0) for image in load_sample_images().images)
