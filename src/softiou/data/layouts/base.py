"""The interface of layouts, and common functions."""

from abc import ABC, abstractmethod
from collections.abc import Iterable, Mapping, Sequence, Set
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType

from softiou.data.base import DatasetDescription
from softiou.data.drawings import Drawing
from softiou.data.files import composed, lines_of, some_stems
from softiou.data.layouts.tables import ORIGINS
from softiou.data.names import FileTable
from softiou.data.problems import DataProblemsError, Problem, data_error, some_of
from softiou.data.reading import MaskReader


@dataclass(frozen=True)
class Files:
    """The images, or the masks of one annotator, of a split.

    Args:
        by_stem: The files by stem.
        place: Their folder, for messages.
        problems: Problems of these files.
    """

    by_stem: Mapping[str, Path]
    place: Path
    problems: tuple[Problem, ...] = ()


class Layout(ABC):
    """Where the files of a data set are, and how its masks are read.

    Attributes:
        name: Name of the layout, as in `NAME:/path`.
        root: Folder of the data set.
        reader: Reader of the masks, with the classes.
        splits: Names of the splits with labels.
        joined: Names of splits that combine others; they can be opened, but are not listed.
        unlabeled: Names of the splits without labels.
        pool: Split that lists of stems choose from.
        wider: {name of a list: split that it chooses from instead of `pool`}.
        split_form: Where the files of a split are expected, with {split} for its name.
        pairing: How the mask of an image is found, and what to do if it is missing.
        absent: {split that may be missing: where to get it}.
        drawings: Drawings that replace mask files, by split and stem.
        note: Note to print when the data set is used.
        folders: {split: name of its image folder}, if it differs from the split; splits with images
            in the same folder share it.
    """

    name: str
    root: Path
    reader: MaskReader
    splits: tuple[str, ...]
    joined: tuple[str, ...] = ()
    unlabeled: tuple[str, ...] = ()
    pool: str = "train"
    wider: Mapping[str, str] = MappingProxyType({})
    drawings: Mapping[str, Mapping[str, Drawing]] = MappingProxyType({})
    note: str = ""
    split_form: str
    pairing: str
    absent: Mapping[str, str] = MappingProxyType({})
    folders: Mapping[str, str] = MappingProxyType({})

    @property
    def description(self) -> DatasetDescription:
        """Return the classes."""
        return self.reader.description

    @property
    def own(self) -> tuple[str, ...]:
        """Return the names of all splits with their own files."""
        return (*self.splits, *self.joined, *self.unlabeled)

    @abstractmethod
    def images(self, split: str) -> Files:
        """Return the images of a split in `own`; masks are not opened."""

    @abstractmethod
    def masks(self, split: str) -> tuple[Files, ...]:
        """Return the masks of each annotator.

        Raises:
            DataError: The split has no masks.
        """


def require(root: Path, layout: str, expected: Sequence[str]) -> None:
    """Raise unless the folders of a layout exist; the error says how to get the data."""
    if not all((root / path).is_dir() for path in expected):
        names = " and ".join(f"{path}/" for path in expected)
        message = f"Expected {names} of {ORIGINS[layout].title}, but found {_found_in(root)}."
        remedy = f"`softiou fetch {layout}` explains how to get it, and which folders result."
        raise data_error(root, message, remedy)


def first_of(root: Path, folders: Sequence[str], inner: str) -> Path:
    """Return the first of some folders within `root` that has a folder `inner`, or `root`."""
    places = (root, *(root / folder for folder in folders))
    return next((place for place in places if (place / inner).is_dir()), root)


def no_labels(folder: Path, message: str, remedy: str) -> DataProblemsError:
    """Return the error for a split without masks."""
    return data_error(folder, message, remedy, kind="no_masks")


def listed_stems(path: Path) -> tuple[set[str], list[Problem]]:
    """Return the stems in a list of images, one per line; a mask path may follow each."""
    lines, problems = lines_of(path)
    return {Path(line.split()[0]).stem for line in lines if line.strip()}, problems


def chosen(
    files: Mapping[str, Path], stems: Set[str], place: Path, problems: Iterable[Problem]
) -> Files:
    """Return the files with some stems."""
    return Files(FileTable.of(files).chosen(sorted(stems)), place, tuple(problems))


def chosen_images(
    images: Mapping[str, Path], stems: Set[str], place: Path, problems: list[Problem], split: str
) -> Files:
    """Return the images with some stems; report missing ones."""
    if missing := stems - images.keys():
        message = f"Images of {split}.txt that do not exist: {some_stems(missing)}."
        remedy = "Unpack the archive again, or shorten the list."
        problems = [*problems, Problem(str(place), message, remedy)]
    return chosen(images, stems, place, problems)


def by_ending(paths: Iterable[Path], ending: str) -> dict[str, Path]:
    """Return {rest of the name: path} of the files with an ending; skip hidden ones."""
    return {
        composed(path.name.removesuffix(ending)): path
        for path in sorted(paths)
        if path.name.endswith(ending) and not path.name.startswith(".")
    }


def _found_in(root: Path) -> str:
    """Describe the content of a folder."""
    if not root.is_dir():
        return "no such folder"
    names = [f"{path.name}/" if path.is_dir() else path.name for path in sorted(root.iterdir())]
    return f"only {some_of(names)}" if names else "an empty folder"
