"""What the samples of a split hold together: sums that stay small, however many there are.

Shapes: C classes, H and W in pixels.
"""

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np

from softiou.checking.samples import Contents
from softiou.data.base import DatasetDescription

LISTED_SIZES = 100


@dataclass(frozen=True)
class ClassSummary:
    """How often a class occurs in a split.

    Attributes:
        name: The class.
        pixel_share: Its share of the pixels that count, in [0, 1], over all annotators.
        images: Number of images where at least one annotator marked it.
        frequency: Its share of the pixels that count in those images, in [0, 1].
    """

    name: str
    pixel_share: float
    images: int
    frequency: float


@dataclass(frozen=True)
class SizeSummary:
    """How many images of a split have a size."""

    height_px: int
    width_px: int
    images: int


@dataclass(frozen=True)
class SplitSummary:
    """What is in the usable samples of a split.

    Attributes:
        images: Number of images that have all their masks.
        annotators: Number of masks of each image.
        ignored_share: Share of the labelled pixels that do not count, in [0, 1].
        agreement: Share of the pixels that nobody ignored where all annotators say the same;
            None when there is one annotator.
        classes: In the order of their indices.
        sizes: The 100 most frequent ones, the most frequent first.
    """

    images: int
    annotators: int
    ignored_share: float
    agreement: float | None
    classes: tuple[ClassSummary, ...]
    sizes: tuple[SizeSummary, ...]


class SplitTally:
    """Adds the samples of a split up.

    Args:
        description: The classes and the `ignore_index`.
        annotators: Number of masks of each image.
    """

    def __init__(self, description: DatasetDescription, annotators: int) -> None:
        self._classes = description.classes
        self._annotators = annotators
        self._images = 0
        self._ignored = 0
        self._judged = 0
        self._agreed = 0
        self._sizes: Counter[tuple[int, int]] = Counter()
        # (C,) each: pixels, images that show the class, and pixels of any class in those images.
        self._pixels, self._showing, self._around = np.zeros((3, len(self._classes)), np.int64)

    def add(self, contents: Contents) -> None:
        """Count one sample."""
        present = contents.pixels > 0
        self._images += 1
        self._ignored += contents.ignored
        self._judged += contents.judged
        self._agreed += contents.agreed
        self._sizes[contents.size] += 1
        self._pixels += contents.pixels
        self._showing += present
        self._around += present * contents.pixels.sum()

    def summary(self) -> SplitSummary:
        """Return what was counted so far."""
        counted = int(self._pixels.sum())
        shares = (self._pixels / max(counted, 1)).tolist()
        frequencies = (self._pixels / self._around.clip(min=1)).tolist()
        several = self._annotators > 1 and self._judged > 0
        return SplitSummary(
            images=self._images,
            annotators=self._annotators,
            ignored_share=self._ignored / max(counted + self._ignored, 1),
            agreement=self._agreed / self._judged if several else None,
            classes=tuple(
                map(ClassSummary, self._classes, shares, self._showing.tolist(), frequencies)
            ),
            sizes=sizes_of(self._sizes),
        )


def sizes_of(counts: Mapping[tuple[int, int], int]) -> tuple[SizeSummary, ...]:
    """List the sizes (H, W) by their numbers, the most frequent first."""
    most = Counter(counts).most_common(LISTED_SIZES)
    return tuple(SizeSummary(*size, number) for size, number in most)
