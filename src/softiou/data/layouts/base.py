"""What a layout is: where the files of a data set lie in its folder, and what masks mean."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from softiou.data.base import DatasetDescription
from softiou.data.layouts.origins import ORIGINS
from softiou.data.problems import DataProblemsError, Problem, some_of
from softiou.data.reading import MaskReader


@dataclass(frozen=True)
class Files:
    """Images, or masks of one annotator, as they lie in a folder.

    Args:
        by_stem: The files.
        place: Where they lie, for messages.
        problems: What is wrong with them.
    """

    by_stem: Mapping[str, Path]
    place: Path
    problems: tuple[Problem, ...] = ()


class Layout(ABC):
    """Where the files of a data set lie, and what its masks mean.

    Attributes:
        name: What it is called in `NAME:/path`.
        root: Folder of the data set.
        description: What the labels mean.
        splits: Names of the splits with labels.
        joined: Names of splits that are made of others; they can be opened, but are not listed.
        unlabeled: Names of the splits without labels.
        pool: Split that lists of stems choose from.
        wider: Split that a list of a certain name chooses from instead.
        split_form: Where the files of a split are expected, with {split} for its name.
        pairing: How the mask of an image is found, and what to do when it is not there.
        absent: Where to get a split that is not always there, by its name.
    """

    name: str
    root: Path
    description: DatasetDescription
    splits: tuple[str, ...]
    joined: tuple[str, ...] = ()
    unlabeled: tuple[str, ...] = ()
    pool: str = "train"
    wider: Mapping[str, str] = MappingProxyType({})
    split_form: str
    pairing: str
    absent: Mapping[str, str] = MappingProxyType({})

    @property
    def own(self) -> tuple[str, ...]:
        """Return the names of all splits that have files of their own."""
        return (*self.splits, *self.joined, *self.unlabeled)

    @abstractmethod
    def mask_reader(self) -> MaskReader:
        """Return a reader of the masks."""

    @abstractmethod
    def images(self, split: str) -> Files:
        """Return the images of a split of its own; masks are not looked at."""

    @abstractmethod
    def masks(self, split: str) -> tuple[Files, ...]:
        """Return the masks of each annotator.

        Raises:
            DataError: The split has none.
        """

    @abstractmethod
    def folder(self, split: str) -> str:
        """Name the folder of a split's images, which splits share when their images do."""


def require(root: Path, layout: str, expected: Sequence[str]) -> None:
    """Raise unless there are the folders of a layout.

    Args:
        root: Folder of the data set.
        layout: Its name, a key of `ORIGINS`.
        expected: Paths within `root`.

    Raises:
        DataError: Says what was expected and found, and where the data come from.
    """
    if not all((root / path).is_dir() for path in expected):
        names = " and ".join(f"{path}/" for path in expected)
        message = f"Expected {names} of {ORIGINS[layout].title}, but found {_found_in(root)}."
        remedy = f"`softiou fetch {layout}` says where to get it, and which folders result."
        raise DataProblemsError(Problem(str(root), message, remedy))


def first_of(root: Path, folders: Sequence[str], inner: str) -> Path:
    """Return the first of some folders within `root` that has a folder `inner`, or `root`."""
    places = (root, *(root / folder for folder in folders))
    return next((place for place in places if (place / inner).is_dir()), root)


def no_labels(folder: Path, message: str, remedy: str) -> DataProblemsError:
    """Say why a split cannot be trained on or evaluated."""
    return DataProblemsError(Problem(str(folder), message, remedy, kind="no_masks"))


def by_ending(paths: Iterable[Path], ending: str) -> dict[str, Path]:
    """Return the files whose names end so, by what comes before; hidden ones are left out."""
    return {
        path.name.removesuffix(ending): path
        for path in sorted(paths)
        if path.name.endswith(ending) and not path.name.startswith(".")
    }


def _found_in(root: Path) -> str:
    """Say what is in a folder."""
    if not root.is_dir():
        return "no such folder"
    names = [f"{path.name}/" if path.is_dir() else path.name for path in sorted(root.iterdir())]
    return f"only {some_of(names)}" if names else "an empty folder"
