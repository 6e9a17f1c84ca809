"""What the samples of a split hold, in numbers, and which of them cannot be used.

Shapes: R annotators, C classes, H and W in pixels.
"""

from collections import Counter
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import torch
from torch import Tensor

from softiou.data.base import DatasetDescription
from softiou.data.folder import size_problem
from softiou.data.layout import SampleFiles
from softiou.data.problems import DataProblemsError, Problem
from softiou.data.reading import MaskReader, read_image


@dataclass(frozen=True)
class ClassSummary:
    """How often a class occurs in a split.

    Attributes:
        name: The class.
        pixel_share: Its share of the pixels that count, in [0, 1], over all annotators.
        images: Number of images where at least one annotator marked it.
    """

    name: str
    pixel_share: float
    images: int


@dataclass(frozen=True)
class SizeSummary:
    """How many images of a split have a size."""

    height_px: int
    width_px: int
    images: int


@dataclass(frozen=True)
class SplitSummary:
    """What is in the readable samples of a split.

    Attributes:
        images: Number of images that have all their masks.
        annotators: Number of masks of each image.
        ignored_share: Share of the labelled pixels that do not count, in [0, 1].
        classes: In the order of their indices.
        sizes: The most frequent first.
    """

    images: int
    annotators: int
    ignored_share: float
    classes: tuple[ClassSummary, ...]
    sizes: tuple[SizeSummary, ...]


@dataclass(frozen=True)
class Contents:
    """What one sample holds: size, pixels of each class (C,), and how many are ignored."""

    size: tuple[int, int]
    pixels: Tensor
    ignored: int


class ContentsReader:
    """Reads every sample once, however many splits share it, and keeps nothing but its numbers."""

    def __init__(self, masks: MaskReader) -> None:
        self._masks = masks
        self._known: dict[Path, Contents | None] = {}

    def read(self, samples: Sequence[SampleFiles]) -> tuple[list[Contents], list[Problem]]:
        """Read samples in threads.

        Returns:
            What the good ones hold, and what is wrong with those that were not read before.
        """
        fresh = [files for files in samples if files.image not in self._known]
        problems: list[Problem] = []
        with ThreadPoolExecutor() as pool:
            for files, found in zip(fresh, pool.map(self._read_one, fresh), strict=True):
                self._known[files.image] = found if isinstance(found, Contents) else None
                problems += [] if isinstance(found, Contents) else found
        known = (self._known[files.image] for files in samples)
        return [contents for contents in known if contents], problems

    def _read_one(self, files: SampleFiles) -> Contents | list[Problem]:
        """Read all files of a sample, even when the first one is bad already."""
        problems: list[Problem] = []
        image, masks = None, []
        try:
            image = read_image(files.image)
        except DataProblemsError as error:
            problems += error.problems
        for path in files.masks:
            try:
                masks.append(self._masks.read(path))
            except DataProblemsError as error:
                problems += error.problems
                continue
            problem = None if image is None else size_problem(path, masks[-1], files.image, image)
            problems += [problem] if problem else []
        return problems or count(torch.stack(masks), self._masks.description)


def count(masks: Tensor, description: DatasetDescription) -> Contents:
    """Count the pixels of the masks (R, H, W) by class."""
    judged = masks[masks != description.ignore_index]
    pixels = torch.bincount(judged, minlength=description.num_classes)
    return Contents((masks.shape[1], masks.shape[2]), pixels, masks.numel() - len(judged))


def summarise(
    contents: Sequence[Contents], *, description: DatasetDescription, annotators: int
) -> SplitSummary:
    """Add up what the samples of a split hold."""
    empty = torch.zeros(description.num_classes, dtype=torch.int64)
    per_image = torch.stack([empty, *(c.pixels for c in contents)])  # (1 + images, C)
    pixels = per_image.sum(dim=0)
    ignored = sum(c.ignored for c in contents)
    shares = (pixels / pixels.sum().clamp(min=1)).tolist()
    images = (per_image > 0).sum(dim=0).tolist()
    return SplitSummary(
        images=len(contents),
        annotators=annotators,
        ignored_share=ignored / max(int(pixels.sum()) + ignored, 1),
        classes=tuple(map(ClassSummary, description.classes, shares, images)),
        sizes=sizes_of(c.size for c in contents),
    )


def sizes_of(sizes: Iterable[tuple[int, int]]) -> tuple[SizeSummary, ...]:
    """Count the images of each size (H, W), the most frequent first."""
    return tuple(SizeSummary(*size, number) for size, number in Counter(sizes).most_common())
