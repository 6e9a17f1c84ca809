"""Data sets of images without labels, for prediction and semi-supervised training.

Sizes: H and W in pixels.
"""

from collections.abc import Callable, Iterable, Sequence
from functools import partial
from pathlib import Path
from typing import Any, TypedDict

import numpy as np
from torch import Tensor
from torch.utils.data import Dataset

from softiou.data.bands import BandImage, Bands
from softiou.data.base import DatasetDescription
from softiou.data.copies import same_files
from softiou.data.decoders import Picture
from softiou.data.digits import DIGIT_FRACTIONS, DigitScenes
from softiou.data.files import images_in
from softiou.data.matching import is_list
from softiou.data.names import FileTable, Paths, Rows
from softiou.data.problems import DataProblemsError, data_error
from softiou.data.reading import stored_image
from softiou.data.source import open_source
from softiou.data.verifying import unreadable


class ImageSample(TypedDict):
    """An image, uint8 (3, H, W), or float32 (B, H, W) for chosen bands, and its name."""

    image: Tensor
    stem: str


class ImageDataset(Dataset[ImageSample]):
    """Images without labels; masks are never opened.

    Args:
        folder: Name of the folder of the images; stems are unique within it.
        stems: Name of each image.
        read: Returns the image of an index, which may be lazy.
        skipped: Stems that were skipped because their files cannot be read.
        excluded: Stems that were excluded because a split of the data set has the same image.
    """

    def __init__(
        self,
        folder: str,
        stems: Sequence[str],
        read: Callable[[int], Picture],
        *,
        skipped: tuple[str, ...] = (),
        excluded: tuple[str, ...] = (),
    ) -> None:
        self.folder = folder
        self.stems = stems
        self.skipped = skipped
        self.excluded = excluded
        self.stored = read

    def __len__(self) -> int:
        return len(self.stems)

    def __getitem__(self, index: int) -> ImageSample:
        """Read the image of an index."""
        return {"image": self.stored(index)[..., :, :].contiguous(), "stem": self.stems[index]}


def open_images(
    source: str | Path, split: str, *, skip_corrupt: bool = False, bands: Bands | None = None
) -> tuple[ImageDataset, DatasetDescription]:
    """Open the images of a split, with or without labels, such as "unlabeled".

    Args:
        source: As for `open_dataset`.
        split: Name of the split.
        skip_corrupt: Whether to skip images whose files cannot be decoded.
        bands: Bands of the images, see `read_image`.

    Returns:
        The images, and the classes of the data set.

    Raises:
        DataError: The folder or split does not exist, is empty, or has unreadable images.
    """
    if source == "digits":
        scenes = DigitScenes(split, labels="hard")
        read = partial(_read_scene, scenes, range(len(scenes)))
        return ImageDataset(scenes.folder, scenes.stems, read), scenes.description
    opened = open_source(source)
    paths = opened.images(split)
    found = _of_files(opened.folder(split), paths, skip_corrupt=skip_corrupt, bands=bands)
    return found, opened.description


def open_unlabeled(
    source: str | Path,
    split: str,
    *,
    folder: str | Path | None = None,
    evaluated: Iterable[str] = ("val", "test"),
    skip_corrupt: bool = False,
    bands: Bands | None = None,
    verify: bool = True,
) -> ImageDataset:
    """Open the images for training without masks.

    Args:
        source: As for `open_dataset`.
        split: Split to train on with masks; its images are excluded.
        folder: Folder of the images; None for DATA/unlabeled/images/ and the images of the split
            `train` that are not in the list of `split`.
        evaluated: Splits whose images, and copies of them, are also excluded.
        skip_corrupt, bands: As for `open_images`.
        verify: Whether to check that all images can be decoded.

    Returns:
        The images, with stems FOLDER/STEM. Masks are never opened.

    Raises:
        DataError: There are no images, or some cannot be decoded.
    """
    evaluated = tuple(evaluated)
    how: dict[str, Any] = {"skip_corrupt": skip_corrupt, "bands": bands, "verify": verify}
    if folder is not None:
        place = Path(folder).expanduser()
        paths, place = images_in(place), place.resolve()
        if source == "digits":
            return _of_files(place.name, paths, **how)
    elif source == "digits":
        return _other_scenes(split)
    else:
        opened = open_source(source)
        place, paths = opened.unlabeled, opened.images_without_masks(split, evaluated=evaluated)
        if not paths:
            message = "Expected images without masks, but there is no unlabeled/images/, and the "
            message += f"split '{split}' leaves no other images of train."
            remedy = "Name a folder (--unlabeled DIR), or use only a fraction of the masks: "
            remedy += "`softiou split DATA --fractions 1/8` writes the list for --split 1_8."
            raise data_error(opened.root, message, remedy)
    rows = _unused(paths, place, source, split, evaluated)
    left_out = np.setdiff1d(np.arange(len(paths)), rows)
    excluded = tuple(paths.stems.take(left_out)) if len(left_out) else ()
    return _of_files(place.name, paths.at(rows), excluded=excluded, **how)


def _unused(
    table: FileTable, folder: Path, source: str | Path, split: str, evaluated: tuple[str, ...]
) -> Rows:
    """Return the rows that are not in the split and not images, or copies, of `evaluated`."""
    opened = open_source(source)
    scored = opened.images_of(evaluated)
    used = opened.images_of([split]) | scored
    splits = [name for name in evaluated if is_list(name) or opened.has(name)]
    copies = same_files(table.paths, {name: opened.images(name).paths for name in splits})
    rows = np.array(
        [n for n, path in enumerate(table.paths.real()) if n not in copies and path not in used],
        np.int64,
    )
    if not len(rows):
        message = f"Expected images without masks, but all {len(table)} are in the splits "
        message += f"{', '.join(dict.fromkeys((split, *evaluated)))}, which are used for training "
        message += "with masks or for evaluation."
        raise data_error(folder, message, "Choose another folder.")
    return rows


def _of_files(
    folder: str,
    table: FileTable,
    *,
    skip_corrupt: bool,
    excluded: tuple[str, ...] = (),
    bands: Bands | None = None,
    verify: bool = True,
) -> ImageDataset:
    """Open image files; check that they can be decoded, or skip unreadable ones."""
    bands = (bands or Bands(())).of(table.paths[0])
    found = unreadable([table.paths], bands) if verify or skip_corrupt else []
    rows = np.setdiff1d(np.arange(len(table)), [row for row, _ in found])
    if found and not (skip_corrupt and len(rows)):
        raise DataProblemsError(*(problem for _, problem in found))
    skipped = tuple(table.stems[row] for row in dict.fromkeys(row for row, _ in found))
    files = table.at(rows)
    read = partial(_read_file, files.paths, bands)
    return ImageDataset(folder, files.stems, read, skipped=skipped, excluded=excluded)


def _other_scenes(split: str) -> ImageDataset:
    """Open the scenes of train that are not in a fraction."""
    labelled, scenes = DigitScenes(split, labels="hard"), DigitScenes("train", labels="hard")
    if split not in DIGIT_FRACTIONS:
        message = f"Expected scenes without labels, but the split '{split}' leaves none."
        raise data_error("digits", message, "Use a fraction: --split 1_8.")
    numbers = range(len(labelled), len(scenes))
    stems = tuple(f"train/{scenes.stems[number]}" for number in numbers)
    return ImageDataset("train", stems, partial(_read_scene, scenes, numbers))


# Module-level functions, because DataLoader workers may pickle them.


def _read_scene(scenes: DigitScenes, numbers: range, index: int) -> Tensor:
    return scenes[numbers[index]]["image"]


def _read_file(files: Paths, bands: Bands | None, index: int) -> Picture:
    return stored_image(files[index]) if bands is None else BandImage(files[index], bands)
