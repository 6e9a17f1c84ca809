"""What is in the folder of images that nobody labelled, and what is wrong with it."""

from collections.abc import Iterable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from softiou.data.contents import SizeSummary, sizes_of
from softiou.data.copies import same_files
from softiou.data.layout import IMAGE_SUFFIXES, UNLABELED, split_images, visible_files
from softiou.data.problems import DataProblemsError, Problem, some_of
from softiou.data.reading import read_image

_HOMES = ("train", "test", "val")  # a file that several of them hold counts for the last


@dataclass(frozen=True)
class UnlabeledSummary:
    """What is in unlabeled/images/.

    Attributes:
        images: Number of the images that can be read.
        sizes: The most frequent first.
    """

    images: int
    sizes: tuple[SizeSummary, ...]


def check_unlabeled(root: Path) -> tuple[UnlabeledSummary | None, list[Problem]]:
    """Look at every file of the folder `unlabeled` of a data set.

    Returns:
        What is in it, None when it has no images/; and all that is wrong with it.
    """
    problems = _misplaced(root / UNLABELED)
    folder = root / UNLABELED / "images"
    if not folder.is_dir():
        return None, problems
    try:
        split_images(root, UNLABELED)  # as training will open them
    except DataProblemsError as error:
        problems += error.problems
    paths = visible_files(folder, IMAGE_SUFFIXES)
    with ThreadPoolExecutor() as pool:
        found = list(pool.map(_size_of, paths))
    readable = [path for path, size in zip(paths, found, strict=True) if isinstance(size, tuple)]
    sizes = [size for size in found if isinstance(size, tuple)]
    problems += [problem for several in found if isinstance(several, list) for problem in several]
    summary = UnlabeledSummary(len(sizes), sizes_of(sizes))
    return summary, problems + _copies(root, folder, readable)


def _misplaced(folder: Path) -> list[Problem]:
    """Warn about a folder whose images would not be found."""
    outside = [path.name for path in visible_files(folder, IMAGE_SUFFIXES)]
    if outside:
        message = f"Found images that do not lie in images/: {len(outside)} ({some_of(outside)})."
        remedy = "Nobody will read them here: move them to unlabeled/images/."
        return [Problem(str(folder), message, remedy, "warning")]
    if folder.is_dir() and not (folder / "images").is_dir():
        message = "Expected images/ in it, but there is none."
        return [Problem(str(folder), message, "Move the images to unlabeled/images/.", "warning")]
    return []


def _size_of(path: Path) -> tuple[int, int] | list[Problem]:
    """Read an image as training will, and keep nothing but its (H, W)."""
    try:
        height, width = read_image(path).shape[-2:]
    except DataProblemsError as error:
        return list(error.problems)
    return height, width


def _copies(root: Path, folder: Path, unlabeled: Iterable[Path]) -> list[Problem]:
    """Warn about images that are evaluated on, or learnt from with their masks, as well."""
    splits = {split: _images_of(root, split) for split in _HOMES}
    names_of: dict[str, list[str]] = {}
    for path, split in same_files(unlabeled, splits).items():
        names_of.setdefault(split, []).append(path.name)
    problems = []
    for split in (split for split in reversed(_HOMES) if split in names_of):
        names = names_of[split]
        message = f"The same files as images of {split}: {len(names)} ({some_of(names)})."
        remedy = "Remove them here: a model that has seen what it is scored on scores too well."
        if split == "train":
            remedy = "Remove them here: each would be learnt from twice, with its mask and without."
        problems.append(Problem(str(folder), message, remedy, "warning"))
    return problems


def _images_of(root: Path, split: str) -> Iterable[Path]:
    """Return the images of a split; none when there is no such split, or it is not in order."""
    try:
        return split_images(root, split).values()
    except DataProblemsError:
        return ()
