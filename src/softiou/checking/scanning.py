"""Check all samples of a data set in one pass, keeping only sums.

Shapes: H and W in pixels.
"""

from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import torch

from softiou.checking.images import ImageCheck, check_image
from softiou.checking.masks import check_mask, check_size
from softiou.checking.report import ProblemList
from softiou.checking.splits import EVALUATED
from softiou.checking.summaries import SampleStatistics, SplitStatistics, sample_statistics
from softiou.data.bands import Bands
from softiou.data.crops import spread
from softiou.data.files import SampleFiles
from softiou.data.problems import DataProblemsError, Problem, warning
from softiou.data.reading import MaskReader
from softiou.data.verifying import bounded_map

# Called with an iterable and its length; yields the same items, and may show the progress.
Watch = Callable[[Iterable[Any], int], Iterable[Any]]


def unwatched(items: Iterable[Any], total: int) -> Iterable[Any]:
    """Return the items without showing progress."""
    del total
    return items


@dataclass(frozen=True)
class SampleCheck:
    """The result of checking the files of a sample."""

    statistics: SampleStatistics | None  # None after an error
    digest: bytes | None  # of the image; None if it is blank or unreadable
    values: tuple[tuple[int, ...], ...]  # distinct values of each mask without colours
    problems: tuple[Problem, ...]  # errors and warnings


def check_sample(files: SampleFiles, reader: MaskReader, bands: Bands | None = None) -> SampleCheck:
    """Check all files of a sample, even if the first has an error."""
    problems: list[Problem] = []
    image: ImageCheck | None = None
    try:
        image = check_image(files.image, bands)
        problems += image.problems
    except DataProblemsError as error:
        problems += error.problems
    masks = [check_mask(path, reader) for path in files.masks]
    for path, mask in zip(files.masks, masks, strict=True):
        problems += mask.problems
        if image and mask.target is not None:
            problems += check_size(path, tuple(mask.target.shape), files.image, image)
    statistics = None
    if not any(problem.severity == "error" for problem in problems):
        targets = torch.stack([mask.target for mask in masks if mask.target is not None])
        statistics = sample_statistics(targets, reader.description)
    return SampleCheck(
        statistics,
        image.digest if image else None,
        tuple(mask.values for mask in masks if mask.values),
        tuple(problems),
    )


class Scan:
    """Collects statistics and problems of the samples of a data set.

    Besides the list of files, it stores 24 bytes per sample, to find duplicates. Samples that
    several splits share are read once.
    """

    def __init__(
        self,
        samples: Mapping[str, Sequence[SampleFiles]],
        reader: MaskReader,
        bands: Bands | None = None,
    ) -> None:
        first = next((several[0].image for several in samples.values() if several), Path())
        self._bands = (bands or Bands(())).of(first)
        self.statistics = {
            split: SplitStatistics(reader.description, several[0].annotators if several else 0)
            for split, several in samples.items()
        }
        self.masks_with: Counter[int] = Counter()
        self.train_sizes: list[tuple[int, int]] = []
        self._digests = Digests()
        self._reader = reader
        self._splits_of = _splits_of(samples)
        train = samples.get("train", ())
        self._sized = {train[number] for number in spread(len(train))}

    def run(self, problems: ProblemList, *, watch: Watch) -> None:
        """Check all samples once, and add their problems."""
        check = partial(check_sample, reader=self._reader, bands=self._bands)
        checks = bounded_map(check, self._splits_of)
        pairs = zip(self._splits_of.items(), checks, strict=True)
        for (files, splits), one in watch(pairs, len(self._splits_of)):
            problems.add(one.problems)
            for values in one.values:
                self.masks_with.update(values)
            self._digests.add(one.digest, one.statistics and one.statistics.digest)
            if one.statistics:
                for split in splits:
                    self.statistics[split].add(one.statistics)
                if files in self._sized:
                    self.train_sizes.append(one.statistics.size)
        problems.add(self._duplicates())

    def _duplicates(self) -> Iterator[Problem]:
        """Report samples with equal images."""
        everything = list(self._splits_of.items())
        for first, second, same_masks in self._digests.pairs():
            # The same file may be in two splits with different masks, which is no duplicate.
            if everything[second][0].image != everything[first][0].image:
                yield _duplicate(*everything[second], *everything[first], same_masks=same_masks)


def _splits_of(samples: Mapping[str, Sequence[SampleFiles]]) -> dict[SampleFiles, tuple[str, ...]]:
    """Return each sample once, with the splits that contain it."""
    found: dict[SampleFiles, tuple[str, ...]] = {}
    shared: dict[tuple[str, ...], tuple[str, ...]] = {}  # shared tuples save memory
    for split, several in samples.items():
        for files in several:
            splits = (*found.get(files, ()), split)
            found[files] = shared.setdefault(splits, splits)
    return found


class Digests:
    """Stores 24 bytes per sample: digests of the image and its masks."""

    def __init__(self) -> None:
        self._bytes = bytearray()

    def add(self, image: bytes | None, masks: bytes | None) -> None:
        """Append a sample; without an image digest, it has no duplicates."""
        self._bytes += image + (masks or bytes(8)) if image else bytes(24)

    def pairs(self) -> Iterator[tuple[int, int, bool]]:
        """Yield pairs of sample indices with equal images, and whether their masks are equal.

        Of three or more equal images, each is paired with the first.
        """
        words = np.frombuffer(self._bytes, dtype=np.uint64).reshape(-1, 3)
        order = np.lexsort((words[:, 1], words[:, 0]))  # stable: the first sample stays first
        images, masks = words[order, :2], words[order, 2]
        equal = np.zeros(len(order), bool)  # equal to the previous one
        equal[1:] = (images[1:] == images[:-1]).all(axis=1) & images[1:].any(axis=1)
        first = np.maximum.accumulate(np.where(equal, 0, np.arange(len(order))))
        for place in np.flatnonzero(equal):
            two = masks[[first[place], place]]
            same = bool(two[0] == two[1] or not two.all())  # 0 means unusable masks
            yield int(order[first[place]]), int(order[place]), same


def _duplicate(
    files: SampleFiles,
    splits: Sequence[str],
    first: SampleFiles,
    first_splits: Sequence[str],
    *,
    same_masks: bool,
) -> Problem:
    """Report a duplicate; an error if it is in a training and an evaluated split."""
    masks = "" if same_masks else ", with different masks"
    message = f"The image equals {first.image} of the split {', '.join(first_splits)}{masks}."
    if any(
        one != other and (one in EVALUATED or other in EVALUATED)
        for one in splits
        for other in first_splits
    ):
        remedy = "Remove one: metrics on training images are too high."
        return Problem(str(files.image), message, remedy, kind="duplicate_between_splits")
    remedy = "Remove one: the image counts twice."
    if not same_masks:
        remedy = "Keep the one with the correct masks: the masks differ."
    return warning(files.image, "duplicate", message, remedy)
