"""The images of a split without their labels: what a model predicts on.

Sizes: H and W in pixels.
"""

from collections.abc import Callable, Iterable
from functools import partial
from pathlib import Path
from typing import TypedDict

from torch import Tensor
from torch.utils.data import Dataset

from softiou.data.base import DatasetDescription
from softiou.data.copies import same_files
from softiou.data.digits import DIGIT_FRACTIONS, DigitScenes
from softiou.data.files import images_in
from softiou.data.problems import DataProblemsError, Problem
from softiou.data.reading import read_image, unreadable
from softiou.data.source import open_source


class ImageSample(TypedDict):
    """One image, uint8 (3, H, W), and its name."""

    image: Tensor
    stem: str


class ImageDataset(Dataset[ImageSample]):
    """Images by number; masks are never opened.

    Args:
        folder: Where they lie; stems are unique within it.
        stems: A name for every image.
        read: Returns the image of a number, uint8 (3, H, W).
        skipped: Stems that were left out because their files cannot be read.
        taken: Stems that were left out because splits of the data set hold the same images.
    """

    def __init__(
        self,
        folder: str,
        stems: tuple[str, ...],
        read: Callable[[int], Tensor],
        *,
        skipped: tuple[str, ...] = (),
        taken: tuple[str, ...] = (),
    ) -> None:
        self.folder = folder
        self.stems = stems
        self.skipped = skipped
        self.taken = taken
        self._read = read

    def __len__(self) -> int:
        return len(self.stems)

    def __getitem__(self, index: int) -> ImageSample:
        """Read one image.

        Raises:
            DataError: Its file cannot be read.
        """
        return {"image": self._read(index), "stem": self.stems[index]}


def open_images(
    source: str | Path, split: str, *, skip_corrupt: bool = False
) -> tuple[ImageDataset, DatasetDescription]:
    """Open the images of a split, labelled or not, for instance "unlabeled".

    Args:
        source: As for `open_dataset`.
        split: Name of the split.
        skip_corrupt: Leave out the images whose files cannot be decoded.

    Returns:
        The images, and what the labels of the data set mean.

    Raises:
        DataError: There is no such folder or split, it holds no images, or some cannot be decoded.
    """
    if source == "digits":
        scenes = DigitScenes(split, labels="hard")
        images = ImageDataset(scenes.folder, scenes.stems, partial(_scene, scenes))
        return images, scenes.description
    opened = open_source(source)
    folder, paths = opened.folder(split), opened.images(split)
    return _of_files(folder, paths, skip_corrupt=skip_corrupt), opened.description


def open_unlabeled(
    source: str | Path,
    split: str,
    *,
    folder: str | Path | None = None,
    evaluated: Iterable[str] = ("val", "test"),
    skip_corrupt: bool = False,
) -> ImageDataset:
    """Open the images that a model may learn from without their masks.

    Args:
        source: As for `open_dataset`.
        split: What is trained on with masks; its images are left out.
        folder: Of the images; None for DATA/unlabeled/images/ and for the images of the split
            `train` that the list of the split leaves out.
        evaluated: Splits whose images are left out, too, wherever they or copies of them lie.
        skip_corrupt: Leave out the images whose files cannot be decoded.

    Returns:
        The images; their stems are FOLDER/STEM. Masks are never opened.

    Raises:
        DataError: There are none, or some cannot be decoded.
    """
    own = tuple(evaluated)
    if folder is not None:
        folder = Path(folder).expanduser()
        paths, folder = images_in(folder), folder.resolve()
        return _free(paths, folder, source, split, evaluated=own, skip_corrupt=skip_corrupt)
    if source == "digits":
        return _other_scenes(split)
    opened = open_source(source)
    paths = opened.images_without_masks(split, evaluated=own)
    if not paths:
        message = (
            f"Expected images without masks, but there is no unlabeled/images/, and the split "
            f"'{split}' leaves out no image that may be learnt from."
        )
        remedy = (
            "Name their folder (--unlabeled DIR), or train on a part of the masks: `softiou split "
            "DATA --fractions 1/8` writes the list for --split 1_8."
        )
        raise DataProblemsError(Problem(str(opened.root), message, remedy))
    return _free(paths, opened.unlabeled, source, split, evaluated=own, skip_corrupt=skip_corrupt)


def _free(
    paths: dict[str, Path],
    folder: Path,
    source: str | Path,
    split: str,
    *,
    evaluated: tuple[str, ...],
    skip_corrupt: bool,
) -> ImageDataset:
    """Open images but for those of the split, and those that are evaluated on or copies of them."""
    if source == "digits":
        return _of_files(folder.name, paths, skip_corrupt=skip_corrupt)
    opened = open_source(source)
    scored = opened.images_taken(evaluated)
    files = opened.images_taken([split]) | scored
    copies = same_files(paths.values(), {"evaluated": scored})
    free = {
        stem: path
        for stem, path in paths.items()
        if path not in copies and path.resolve() not in files
    }
    if not free:
        message = f"Expected images without masks, but all {len(paths)} belong to the splits "
        message += f"{', '.join(dict.fromkeys((split, *evaluated)))}, which are learnt from with "
        message += "their masks or evaluated on."
        raise DataProblemsError(Problem(str(folder), message, "Name another folder."))
    taken = tuple(stem for stem in paths if stem not in free)
    return _of_files(folder.name, free, skip_corrupt=skip_corrupt, taken=taken)


def _of_files(
    folder: str, paths: dict[str, Path], *, skip_corrupt: bool, taken: tuple[str, ...] = ()
) -> ImageDataset:
    """Open image files by name, once all of them are known to be readable."""
    problems = unreadable(paths.values())
    broken = {problem.file for problem in problems}
    files = {stem: path for stem, path in paths.items() if str(path) not in broken}
    if problems and not (skip_corrupt and files):
        raise DataProblemsError(*problems)
    skipped = tuple(stem for stem in paths if stem not in files)
    read = partial(_file, tuple(files.values()))
    return ImageDataset(folder, tuple(files), read, skipped=skipped, taken=taken)


def _other_scenes(split: str) -> ImageDataset:
    """Open the scenes of train that a fraction leaves out."""
    labelled, scenes = DigitScenes(split, labels="hard"), DigitScenes("train", labels="hard")
    if split not in DIGIT_FRACTIONS:
        message = f"Expected scenes without labels, but the split '{split}' leaves out none."
        raise DataProblemsError(Problem("digits", message, "Train on a part: --split 1_8."))
    numbers = range(len(labelled), len(scenes))
    stems = tuple(f"train/{scenes.stems[number]}" for number in numbers)
    return ImageDataset("train", stems, partial(_scene_of, scenes, numbers))


def _scene(scenes: DigitScenes, index: int) -> Tensor:
    return scenes[index]["image"]


def _scene_of(scenes: DigitScenes, numbers: range, index: int) -> Tensor:
    return scenes[numbers[index]]["image"]


def _file(files: tuple[Path, ...], index: int) -> Tensor:
    return read_image(files[index])
