"""Which files make a data set of folders: splits, and for each stem the image and its masks."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

from softiou.data.problems import DataProblemsError, Problem, some_of

IMAGE_SUFFIXES = frozenset({".jpg", ".jpeg", ".png", ".webp", ".tif", ".tiff"})
MASK_SUFFIXES = frozenset({".png"})
_FIRST_SPLITS = ("train", "val", "test")
UNLABELED = "unlabeled"  # folder of images that nobody labelled


@dataclass(frozen=True)
class SampleFiles:
    """The files of one sample: an image and one mask per annotator."""

    stem: str
    image: Path
    masks: tuple[Path, ...]

    @property
    def paths(self) -> tuple[Path, ...]:
        """Return all of the files."""
        return (self.image, *self.masks)


def data_folder(source: str | Path) -> Path:
    """Return the folder of a data set.

    Raises:
        DataError: There is none.
    """
    folder = Path(source).expanduser()
    if not folder.is_dir():
        message = "Expected a folder with dataset.yaml, train/images/ and train/masks/, or the "
        message += "name 'digits', but there is no such folder."
        raise DataProblemsError(Problem(str(source), message, "Check the path for typing errors."))
    return folder


def find_splits(root: Path) -> tuple[str, ...]:
    """Return the names of the splits that have labels: train, val, test, then the others."""
    folders = {
        folder.parent.name for folder in root.glob("*/images") if mask_folders(folder.parent)
    }
    names = set(folders)
    if "train" in folders:
        lists = {path.stem for path in root.glob("splits/[!.]*.txt")}
        names |= {name for name in lists if mask_folders(split_folder(root, name))}
    return (
        *(name for name in _FIRST_SPLITS if name in names),
        *sorted(names.difference(_FIRST_SPLITS)),
    )


def split_folder(root: Path, split: str) -> Path:
    """Return the folder of a split: its own, or `train` when only a list of stems names it.

    Raises:
        DataError: There is neither a folder nor a list of that name.
    """
    if not _is_list(split) and (root / split / "images").is_dir():
        return root / split
    if split_list(root, split).is_file() and (root / "train" / "images").is_dir():
        return root / "train"
    if _is_list(split):
        message = "Expected a file that lists stems of train/images/, but there is no such file."
        raise DataProblemsError(Problem(split, message, "`softiou split` writes such lists."))
    message = f"Expected the split '{split}' as {split}/images/ or splits/{split}.txt, but found"
    there = [*find_splits(root), *([UNLABELED] if _has(root, UNLABELED) else [])]
    message += f" only {', '.join(there) or 'no split at all'}."
    remedy = "Make the folder, or list stems of train/ in the file, one per line."
    if fraction := re.fullmatch(r"(\d+)[_/](\d+)", split):
        part, whole = fraction.groups()
        remedy = f"`softiou split DATA --fractions {part}/{whole}` writes it as {part}_{whole}."
    raise DataProblemsError(Problem(str(root), message, remedy))


def split_list(root: Path, split: str) -> Path:
    """Return where a split lists its stems, if it does: splits/NAME.txt, or the file that it is."""
    return Path(split).expanduser() if _is_list(split) else root / "splits" / f"{split}.txt"


def _is_list(split: str) -> bool:
    """Say whether a split is given as the file of its stems, which may lie anywhere."""
    return split.endswith(".txt")


def mask_folders(folder: Path) -> tuple[Path, ...]:
    """Return `masks`, or `masks_1` to `masks_R`, or nothing."""
    if (folder / "masks").is_dir():
        return (folder / "masks",)
    numbered = {
        int(match[1]): path
        for path in folder.glob("masks_*")
        if (match := re.fullmatch(r"masks_(\d+)", path.name)) and path.is_dir()
    }
    return tuple(path for _, path in sorted(numbered.items()))


def find_samples(root: Path, split: str) -> tuple[tuple[SampleFiles, ...], tuple[Problem, ...]]:
    """Match the images of a split with their masks.

    Returns:
        The complete samples in the order of their stems, and everything that is wrong.

    Raises:
        DataError: The split does not exist.
    """
    folder = split_folder(root, split)
    images, problems = _index(folder / "images", IMAGE_SUFFIXES)
    if not images and not problems:
        problems.append(_no_images(folder / "images"))
    annotators = []
    for masks_folder in mask_folders(folder):
        masks, found = _index(masks_folder, MASK_SUFFIXES)
        annotators.append(masks)
        problems += found
    problems += _folder_problems(folder)
    stems = set(images).union(*annotators)
    if split_list(root, split).is_file():
        listed = _read_stems(split_list(root, split))
        problems += _list_problems(split_list(root, split), folder, listed, stems)
        stems &= listed
    for masks_folder, masks in zip(mask_folders(folder), annotators, strict=True):
        problems += _unmatched(folder / "images", masks_folder, stems, images, masks)
    complete = stems.intersection(images, *annotators) if annotators else set()
    samples = tuple(
        SampleFiles(stem, images[stem], tuple(masks[stem] for masks in annotators))
        for stem in sorted(complete)
    )
    return samples, tuple(problems)


def split_images(root: Path, split: str) -> dict[str, Path]:
    """Return the images of a split by stem, in order, whether or not they have masks.

    Raises:
        DataError: The split does not exist, holds no images, or two of one stem.
    """
    folder = split_folder(root, split)
    images, problems = _index(folder / "images", IMAGE_SUFFIXES)
    if not images and not problems:
        problems.append(_no_images(folder / "images"))
    stems = set(images)
    if split_list(root, split).is_file():
        listed = _read_stems(split_list(root, split))
        problems += _list_problems(split_list(root, split), folder, listed, stems)
        stems &= listed
    if problems:
        raise DataProblemsError(*problems)
    return {stem: images[stem] for stem in sorted(stems)}


def images_without_masks(
    root: Path, split: str, *, evaluated: Iterable[str] = ()
) -> dict[str, Path]:
    """Return the images that can be learnt from without masks, by FOLDER/STEM, in order.

    They are those that the list of a split leaves out, and those of unlabeled/images/.

    Args:
        root: Folder of the data set.
        split: What is trained on with masks.
        evaluated: Splits that models are chosen by and scored on.

    Raises:
        DataError: The split does not exist, or its folder holds two images of one stem.
    """
    folder = split_folder(root, split).name
    left_out = images_left_out(root, split, evaluated=evaluated)
    found = {f"{folder}/{stem}": path for stem, path in left_out.items()}
    if (root / UNLABELED / "images").is_dir():
        apart = split_images(root, UNLABELED)
        found |= {f"{UNLABELED}/{stem}": path for stem, path in apart.items()}
    return found


def images_left_out(root: Path, split: str, *, evaluated: Iterable[str] = ()) -> dict[str, Path]:
    """Return the images that the list of a split leaves out and no evaluated split has, by stem.

    They are images of the split `train` (or whatever the folder is called): what splits/train.txt
    leaves out, if there is such a list, is nobody's to learn from.

    Raises:
        DataError: As for `images_without_masks`.
    """
    taken = images_taken(root, (split, *evaluated))
    everything = split_images(root, split_folder(root, split).name)
    return {stem: path for stem, path in everything.items() if path.resolve() not in taken}


def images_taken(root: Path, splits: Iterable[str]) -> set[Path]:
    """Return the images of those of the splits that there are, as resolved paths.

    Raises:
        DataError: One of them holds no images, or two of one stem.
    """
    return {
        path.resolve()
        for split in splits
        if _is_list(split) or _has(root, split)
        for path in split_images(root, split).values()
    }


def _has(root: Path, split: str) -> bool:
    """Say whether a data set has a split of that name, with masks or without."""
    return (root / split / "images").is_dir() or split_list(root, split).is_file()


def images_in(folder: Path) -> dict[str, Path]:
    """Return the images of any folder (or of `images` in it) by FOLDER/STEM, in order.

    Raises:
        DataError: There is no such folder, it holds no images, or two of one stem.
    """
    folder = folder.resolve()  # "." has no name
    inner = folder / "images" if (folder / "images").is_dir() else folder
    if not inner.is_dir():
        message = "Expected a folder of images, but there is no such folder."
        raise DataProblemsError(Problem(str(folder), message, "Check the path for typing errors."))
    images, problems = _index(inner, IMAGE_SUFFIXES)
    if not images and not problems:
        problems.append(_no_images(inner))
    if problems:
        raise DataProblemsError(*problems)
    return {f"{folder.name}/{stem}": images[stem] for stem in sorted(images)}


def visible_files(folder: Path, suffixes: frozenset[str]) -> list[Path]:
    """Return the files with one of the suffixes, by name; none of them hidden, as macOS's `._*`."""
    return sorted(
        path
        for path in folder.glob("*")
        if path.suffix.lower() in suffixes and not path.name.startswith(".")
    )


def _index(folder: Path, suffixes: frozenset[str]) -> tuple[dict[str, Path], list[Problem]]:
    """Find the files of a folder by stem; two files of one stem are a problem."""
    files: dict[str, Path] = {}
    twice = set()
    for path in visible_files(folder, suffixes):
        if path.stem in files:
            twice.add(path.stem)
        files[path.stem] = path
    if not twice:
        return files, []
    message = f"Expected one file per stem, but found stems with two: {_some(twice)}."
    return files, [Problem(str(folder), message, "Remove or rename one of each pair.")]


def _no_images(folder: Path) -> Problem:
    """Describe an empty folder of images."""
    inner = [path.name for path in sorted(folder.iterdir()) if path.is_dir()]
    found = f"only the folders {some_of(inner)}" if inner else "none"
    message = f"Expected images ({', '.join(sorted(IMAGE_SUFFIXES))}), but found {found}."
    return Problem(str(folder), message, "Put the image files directly into this folder.")


def _folder_problems(folder: Path) -> list[Problem]:
    """Complain about missing and about ambiguous folders of masks."""
    if not mask_folders(folder):
        message = "Expected masks/ or masks_1/ to masks_R/ beside images/, but found neither."
        remedy = "Add the masks; `softiou predict` works without."
        return [Problem(str(folder), message, remedy)]
    if (folder / "masks").is_dir() and (folder / "masks_1").is_dir():
        message = "Found both masks/ and masks_1/: one annotator or several?"
        return [Problem(str(folder), message, "Move one of them away.")]
    return []


def _read_stems(path: Path) -> set[str]:
    """Read a list of stems, one per line."""
    lines = path.read_text(encoding="utf-8").splitlines()
    return {line.strip() for line in lines if line.strip()}


def _list_problems(path: Path, folder: Path, listed: set[str], stems: set[str]) -> list[Problem]:
    """Complain about an empty list and about listed stems that have neither image nor mask."""
    unknown = listed - stems
    if listed and not unknown:
        return []
    message = f"Listed stems that are not in {folder.name}/images/: {_some(unknown)}."
    if not listed:
        message = "Expected a list of stems, but the file is empty."
    return [Problem(str(path), message, "List stems, one per line, without folder and extension.")]


def _unmatched(
    images_folder: Path,
    masks_folder: Path,
    stems: set[str],
    images: dict[str, Path],
    masks: dict[str, Path],
) -> list[Problem]:
    """Complain about images without mask and masks without image."""
    problems = []
    without_mask = stems.intersection(images).difference(masks)
    if without_mask:
        message = f"Images without mask here: {_some(without_mask)}."
        remedy = (
            "A mask is a PNG file with the stem of its image: add or rename it. Images that have "
            "none go to unlabeled/images, or are left out by a list of the others in splits/."
        )
        problems.append(Problem(str(masks_folder), message, remedy))
    without_image = stems.intersection(masks).difference(images)
    if without_image:
        message = f"Masks without image: {_some(without_image)}."
        remedy = f"Expected an image of the same stem in {images_folder}: add or rename it."
        problems.append(Problem(str(masks_folder), message, remedy))
    return problems


def _some(stems: Iterable[str]) -> str:
    """Count the stems and list the first few."""
    names = sorted(stems)
    return f"{len(names)} ({some_of(names)})"
