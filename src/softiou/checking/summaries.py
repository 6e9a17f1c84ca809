"""Class statistics of the splits, as sums of constant size.

Shapes: R annotators, C classes, H and W in pixels.
"""

import hashlib
from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

from softiou.data.base import DatasetDescription, count_classes

LISTED_SIZES = 100
_DIGEST_BYTES = 8


@dataclass(frozen=True)
class ClassSummary:
    """The frequency of a class in a split."""

    name: str  # name of the class
    pixel_share: float  # share of the valid pixels of all annotators, in [0, 1]
    images: int  # number of images where any annotator marked the class
    frequency: float  # share of the valid pixels in these images, in [0, 1]


@dataclass(frozen=True)
class SizeSummary:
    """The number of images of a size."""

    height_px: int
    width_px: int
    images: int


@dataclass(frozen=True)
class SplitSummary:
    """Statistics of the valid samples of a split."""

    images: int  # number of valid samples
    annotators: int  # number of masks per image
    ignored_share: float  # share of the labelled pixels that are ignored, in [0, 1]
    # share of the pixels, among those that no annotator ignored, where all annotators agree; None
    # for one annotator
    agreement: float | None
    classes: tuple[ClassSummary, ...]  # in the order of their indices
    sizes: tuple[SizeSummary, ...]  # the 100 most frequent, sorted


@dataclass(frozen=True)
class SampleStatistics:
    """Pixel counts of the masks of a sample."""

    size: tuple[int, int]  # (H, W)
    pixels: NDArray[np.int64]  # pixels of each class (C,), over all annotators
    ignored: int  # ignored pixels, over all annotators
    valid: int  # pixels that no annotator ignored
    agreed: int  # of these, pixels where all annotators agree
    digest: bytes  # hash of the masks


def sample_statistics(masks: Tensor, description: DatasetDescription) -> SampleStatistics:
    """Count the pixels of the masks (R, H, W) by class."""
    pixels, several = count_classes(masks, description), len(masks) > 1  # no agreement for one
    by_all = (masks != description.ignore_index).all(dim=0) if several else masks.new_zeros(0)
    return SampleStatistics(
        size=(masks.shape[1], masks.shape[2]),
        pixels=pixels.numpy(),
        ignored=masks.numel() - int(pixels.sum()),
        valid=int(by_all.sum()),
        agreed=int((by_all & (masks == masks[0]).all(dim=0)).sum()) if several else 0,
        digest=hashlib.blake2b(masks.numpy().data, digest_size=_DIGEST_BYTES).digest(),
    )


class SplitStatistics:
    """Accumulates the statistics of a split."""

    def __init__(self, description: DatasetDescription, annotators: int) -> None:
        self._classes = description.classes
        self._annotators = annotators
        self._images = self._ignored = self._valid = self._agreed = 0
        self._sizes: Counter[tuple[int, int]] = Counter()
        # (C,) each: pixels, images with the class, and all valid pixels in these images
        self._pixels, self._showing, self._around = np.zeros((3, len(self._classes)), np.int64)

    def add(self, sample: SampleStatistics) -> None:
        """Add one sample."""
        present = sample.pixels > 0
        self._images += 1
        self._ignored += sample.ignored
        self._valid += sample.valid
        self._agreed += sample.agreed
        self._sizes[sample.size] += 1
        self._pixels += sample.pixels
        self._showing += present
        self._around += present * sample.pixels.sum()

    def summary(self) -> SplitSummary:
        """Return the statistics of the samples so far."""
        counted = int(self._pixels.sum())
        shares = (self._pixels / max(counted, 1)).tolist()
        frequencies = (self._pixels / self._around.clip(min=1)).tolist()
        several = self._annotators > 1 and self._valid > 0
        return SplitSummary(
            images=self._images,
            annotators=self._annotators,
            ignored_share=self._ignored / max(counted + self._ignored, 1),
            agreement=self._agreed / self._valid if several else None,
            classes=tuple(
                map(ClassSummary, self._classes, shares, self._showing.tolist(), frequencies)
            ),
            sizes=size_summaries(self._sizes),
        )


def size_summaries(counts: Mapping[tuple[int, int], int]) -> tuple[SizeSummary, ...]:
    """Return the sizes (H, W), the most frequent first."""
    most = Counter(counts).most_common(LISTED_SIZES)
    return tuple(SizeSummary(*size, number) for size, number in most)
