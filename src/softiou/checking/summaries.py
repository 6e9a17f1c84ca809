"""Class statistics of the splits: sums that stay small, however many samples there are.

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
    """How often a class occurs in a split."""

    name: str  # the class
    pixel_share: float  # its share of the valid pixels, in [0, 1], over all annotators
    images: int  # number of images where at least one annotator marked it
    frequency: float  # its share of the valid pixels in those images, in [0, 1]


@dataclass(frozen=True)
class SizeSummary:
    """How many images of a split have a size."""

    height_px: int
    width_px: int
    images: int


@dataclass(frozen=True)
class SplitSummary:
    """What is in the usable samples of a split."""

    images: int  # number of images that have all their masks
    annotators: int  # number of masks of each image
    ignored_share: float  # share of the labelled pixels that are ignored, in [0, 1]
    # share of the pixels that no annotator ignored where all of them give the same class; None when
    # there is one annotator
    agreement: float | None
    classes: tuple[ClassSummary, ...]  # in the order of their indices
    sizes: tuple[SizeSummary, ...]  # the 100 most frequent ones, the most frequent first


@dataclass(frozen=True)
class SampleStatistics:
    """The pixels of the masks of one sample."""

    size: tuple[int, int]  # (H, W)
    pixels: NDArray[np.int64]  # pixels of each class (C,), over all annotators
    ignored: int  # ignored pixels, over all annotators
    valid: int  # pixels that no annotator ignored
    agreed: int  # those of them where all annotators give the same class
    digest: bytes  # equal for equal masks


def sample_statistics(masks: Tensor, description: DatasetDescription) -> SampleStatistics:
    """Count the pixels of the masks (R, H, W) by class."""
    pixels, several = count_classes(masks, description), len(masks) > 1  # one agrees with nobody
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
    """Adds up the samples of a split."""

    def __init__(self, description: DatasetDescription, annotators: int) -> None:
        self._classes = description.classes
        self._annotators = annotators
        self._images = self._ignored = self._valid = self._agreed = 0
        self._sizes: Counter[tuple[int, int]] = Counter()
        # (C,) each: pixels, images that show the class, and pixels of any class in those images.
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
    """List the sizes (H, W), the most frequent first."""
    most = Counter(counts).most_common(LISTED_SIZES)
    return tuple(SizeSummary(*size, number) for size, number in most)
