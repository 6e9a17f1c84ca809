"""What is in the folder of images that nobody labelled, and what is wrong with it."""

from collections import Counter
from collections.abc import Iterable, Sequence
from pathlib import Path

from softiou.checking.findings import Findings
from softiou.checking.parallel import bounded_map
from softiou.checking.pictures import Picture, look_at_picture
from softiou.checking.report import UnlabeledSummary
from softiou.checking.scanning import Watch
from softiou.checking.tallies import sizes_of
from softiou.data.copies import same_files
from softiou.data.files import IMAGE_SUFFIXES, UNLABELED, images_in, visible_files
from softiou.data.problems import DataProblemsError, Problem, some_of
from softiou.data.source import DataSource

_HOMES = ("train", "test", "val")  # a file that several of them hold counts for the last


def check_unlabeled(
    source: DataSource, findings: Findings, *, watch: Watch
) -> UnlabeledSummary | None:
    """Look at every file of the folder `unlabeled` of a data set.

    Returns:
        What is in it, None when it has no images/.
    """
    findings.add(_misplaced(source.unlabeled))
    folder = source.unlabeled / "images"
    if not folder.is_dir():
        return None
    try:
        source.images(UNLABELED)  # as training will open them
    except DataProblemsError as error:
        findings.add(error.problems)
    return _check_images(source, folder, visible_files(folder, IMAGE_SUFFIXES), findings, watch)


def check_unlabeled_folder(
    source: DataSource, folder: Path, findings: Findings, *, watch: Watch
) -> UnlabeledSummary | None:
    """Look at every image of any folder, to be learnt from beside a data set."""
    try:
        paths = list(images_in(folder).values())
    except DataProblemsError as error:
        findings.add(error.problems)
        return None
    return _check_images(source, folder, paths, findings, watch)


def _check_images(
    source: DataSource, folder: Path, paths: Sequence[Path], findings: Findings, watch: Watch
) -> UnlabeledSummary:
    readable: list[Path] = []
    sizes: Counter[tuple[int, int]] = Counter()
    for path, found in watch(zip(paths, bounded_map(_look, paths), strict=True), len(paths)):
        findings.add(found.problems)
        if isinstance(found, Picture):
            readable.append(path)
            sizes[found.size] += 1
    findings.add(_copies(source, folder, readable))
    return UnlabeledSummary(len(readable), sizes_of(sizes))


def _misplaced(folder: Path) -> list[Problem]:
    """Warn about a folder whose images would not be found."""
    outside = [path.name for path in visible_files(folder, IMAGE_SUFFIXES)]
    if outside:
        message = f"Found images that do not lie in images/: {len(outside)} ({some_of(outside)})."
        remedy = "Nobody will read them here: move them to unlabeled/images/."
        return [Problem(str(folder), message, remedy, "warning", kind="unlabeled")]
    if folder.is_dir() and not (folder / "images").is_dir():
        message = "Expected images/ in it, but there is none."
        remedy = "Move the images to unlabeled/images/."
        return [Problem(str(folder), message, remedy, "warning", kind="unlabeled")]
    return []


def _look(path: Path) -> Picture | DataProblemsError:
    """Read an image as training will."""
    try:
        return look_at_picture(path)
    except DataProblemsError as error:
        return error


def _copies(source: DataSource, folder: Path, unlabeled: Iterable[Path]) -> list[Problem]:
    """Warn about images that are evaluated on, or learnt from with their masks, as well."""
    splits = {split: _images_of(source, split) for split in _HOMES}
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
        problems.append(
            Problem(str(folder), message, remedy, "warning", kind="unlabeled_duplicate")
        )
    return problems


def _images_of(source: DataSource, split: str) -> Iterable[Path]:
    """Return the images of a split; none when there is no such split, or it is not in order."""
    try:
        return source.images(split).values()
    except DataProblemsError:
        return ()
