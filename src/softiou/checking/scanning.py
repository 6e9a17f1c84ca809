"""One pass over all samples of a data set: each is read once, and only sums remain."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from functools import partial
from typing import Any

from softiou.checking.census import ValueCensus
from softiou.checking.duplicates import Digests, duplicate
from softiou.checking.findings import Findings
from softiou.checking.parallel import bounded_map
from softiou.checking.samples import Look, look_at
from softiou.checking.tallies import SplitTally
from softiou.data.crops import spread
from softiou.data.files import SampleFiles
from softiou.data.problems import Problem
from softiou.data.reading import MaskReader

# Called with what is iterated over and its length; yields the same, and may show how far it is.
Watch = Callable[[Iterable[Any], int], Iterable[Any]]


def unwatched(items: Iterable[Any], total: int) -> Iterable[Any]:
    """Iterate without showing anything."""
    del total
    return items


class Scan:
    """What the samples of a data set hold, and what is wrong with them.

    Besides the list of the files it keeps 24 bytes for each sample, to find duplicates.

    Args:
        samples: The samples of each split; one that several splits share is read once.
        reader: Reads the masks.

    Attributes:
        tallies: By split, the sums over the samples that can be used.
        census: The numbers in the masks.
        train_sizes: (H, W) of the images of train that the size of the crop is chosen by.
    """

    def __init__(
        self,
        samples: Mapping[str, Sequence[SampleFiles]],
        reader: MaskReader,
    ) -> None:
        self.tallies = {
            split: SplitTally(reader.description, len(several[0].masks) if several else 0)
            for split, several in samples.items()
        }
        self.census = ValueCensus()
        self.train_sizes: list[tuple[int, int]] = []
        self._digests = Digests()
        self._reader = reader
        self._splits_of = _splits_of(samples)
        train = samples.get("train", ())
        self._sized = {train[number] for number in spread(len(train))}

    def run(self, findings: Findings, *, watch: Watch) -> None:
        """Read all samples once.

        Args:
            findings: Where what is wrong is put.
            watch: Shows the progress.
        """
        looks = bounded_map(partial(look_at, reader=self._reader), self._splits_of)
        pairs = zip(self._splits_of.items(), looks, strict=True)
        for (files, splits), look in watch(pairs, len(self._splits_of)):
            findings.add(look.problems)
            self._add(look, splits)
            if look.contents and files in self._sized:
                self.train_sizes.append(look.contents.size)
        findings.add(self._duplicates())

    def _add(self, look: Look, splits: Sequence[str]) -> None:
        """Add up what was found in one sample."""
        self.census.add(look.values)
        self._digests.add(look.picture, look.contents.digest if look.contents else None)
        if look.contents:
            for split in splits:
                self.tallies[split].add(look.contents)

    def _duplicates(self) -> Iterator[Problem]:
        """Tell of samples that show one picture."""
        everything = list(self._splits_of.items())
        for first, second, same_masks in self._digests.pairs():
            # One image may come with other masks in another split; its file is no copy.
            if everything[second][0].image != everything[first][0].image:
                yield duplicate(*everything[second], *everything[first], same_masks=same_masks)


def _splits_of(
    samples: Mapping[str, Sequence[SampleFiles]],
) -> dict[SampleFiles, tuple[str, ...]]:
    """Return every sample once, with the splits that hold it."""
    found: dict[SampleFiles, tuple[str, ...]] = {}
    known: dict[tuple[str, ...], tuple[str, ...]] = {}  # one object for each combination
    for split, several in samples.items():
        for files in several:
            splits = (*found.get(files, ()), split)
            found[files] = known.setdefault(splits, splits)
    return found
