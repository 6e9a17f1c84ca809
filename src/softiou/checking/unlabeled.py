"""Check a folder of images without masks."""

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from functools import partial
from pathlib import Path

from softiou.checking.images import ImageCheck, check_image
from softiou.checking.report import ProblemList, UnlabeledSummary
from softiou.checking.scanning import Watch
from softiou.checking.summaries import size_summaries
from softiou.data.bands import Bands
from softiou.data.copies import same_files
from softiou.data.files import IMAGE_SUFFIXES, UNLABELED, images_in, visible_files
from softiou.data.problems import DataProblemsError, Problem, some_of, warning
from softiou.data.source import DataSource
from softiou.data.verifying import bounded_map

_SPLITS = ("train", "test", "val")  # a file in several splits is reported for the last one


def check_unlabeled(
    source: DataSource, problems: ProblemList, bands: Bands | None, *, watch: Watch
) -> UnlabeledSummary | None:
    """Check the folder `unlabeled` of a data set; return None if it has no images/."""
    problems.add(_misplaced(source.unlabeled))
    folder = source.unlabeled / "images"
    if not folder.is_dir():
        return None
    try:
        source.images(UNLABELED)  # as in training
    except DataProblemsError as error:
        problems.add(error.problems)
    paths = visible_files(folder, IMAGE_SUFFIXES)
    return _check_images(source, folder, paths, problems, bands, watch)


def check_unlabeled_folder(
    source: DataSource, folder: Path, problems: ProblemList, bands: Bands | None, *, watch: Watch
) -> UnlabeledSummary | None:
    """Check all images of a folder outside the data set."""
    try:
        paths = images_in(folder).paths
    except DataProblemsError as error:
        problems.add(error.problems)
        return None
    return _check_images(source, folder, paths, problems, bands, watch)


def _check_images(
    source: DataSource,
    folder: Path,
    paths: Sequence[Path],
    problems: ProblemList,
    bands: Bands | None,
    watch: Watch,
) -> UnlabeledSummary:
    readable: list[Path] = []
    sizes: Counter[tuple[int, int]] = Counter()
    checks = bounded_map(partial(_check, bands=bands), paths)
    for path, found in watch(zip(paths, checks, strict=True), len(paths)):
        problems.add(found.problems)
        if isinstance(found, ImageCheck):
            readable.append(path)
            sizes[found.size] += 1
    problems.add(_copies(source, folder, readable))
    return UnlabeledSummary(len(readable), size_summaries(sizes))


def _misplaced(folder: Path) -> Iterator[Problem]:
    """Warn about images outside images/, which are not read."""
    if outside := [path.name for path in visible_files(folder, IMAGE_SUFFIXES)]:
        message = f"Found images outside images/: {len(outside)} ({some_of(outside)})."
        remedy = "They are not read: move them to unlabeled/images/."
        yield warning(folder, "unlabeled", message, remedy)
    elif folder.is_dir() and not (folder / "images").is_dir():
        message = "Expected a subfolder images/, but it does not exist."
        yield warning(folder, "unlabeled", message, "Move the images to unlabeled/images/.")


def _check(path: Path, bands: Bands | None) -> ImageCheck | DataProblemsError:
    """Check an image as in training."""
    try:
        return check_image(path, (bands or Bands(())).of(path))
    except DataProblemsError as error:
        return error


def _copies(source: DataSource, folder: Path, unlabeled: Sequence[Path]) -> Iterator[Problem]:
    """Warn about images that are also in train, val or test."""
    splits = {split: _images_of(source, split) for split in _SPLITS}
    names_of: dict[str, list[str]] = {}
    for row, split in same_files(unlabeled, splits).items():
        names_of.setdefault(split, []).append(unlabeled[row].name)
    for split in (split for split in reversed(_SPLITS) if split in names_of):
        names = names_of[split]
        message = f"Copies of images of {split}: {len(names)} ({some_of(names)})."
        remedy = "Remove them here: metrics on training images are too high."
        if split == "train":
            remedy = "Remove them here: each would be used twice, with and without its mask."
        yield warning(folder, "unlabeled_duplicate", message, remedy)


def _images_of(source: DataSource, split: str) -> Iterable[Path]:
    """Return the images of a split; empty if it does not exist or has errors."""
    try:
        return source.images(split).paths
    except DataProblemsError:
        return ()
