"""The images of a split without their labels: what a model predicts on.

Sizes: H and W in pixels.
"""

from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import TypedDict

from torch import Tensor
from torch.utils.data import Dataset

from softiou.data.base import DatasetDescription
from softiou.data.dataset_yaml import read_dataset_file
from softiou.data.digits import DigitScenes
from softiou.data.layout import data_folder, split_folder, split_images
from softiou.data.problems import DataProblemsError
from softiou.data.reading import read_image, unreadable


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
    """

    def __init__(
        self,
        folder: str,
        stems: tuple[str, ...],
        read: Callable[[int], Tensor],
        *,
        skipped: tuple[str, ...] = (),
    ) -> None:
        self.folder = folder
        self.stems = stems
        self.skipped = skipped
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
        return ImageDataset(split, scenes.stems, partial(_scene, scenes)), scenes.description
    root = data_folder(source)
    description = read_dataset_file(root).description
    paths = split_images(root, split)
    problems = unreadable(paths.values())
    if problems and not skip_corrupt:
        raise DataProblemsError(*problems)
    broken = {problem.file for problem in problems}
    skipped = tuple(stem for stem, path in paths.items() if str(path) in broken)
    files = {stem: path for stem, path in paths.items() if stem not in skipped}
    images = ImageDataset(
        split_folder(root, split).name,
        tuple(files),
        partial(_file, tuple(files.values())),
        skipped=skipped,
    )
    return images, description


def _scene(scenes: DigitScenes, index: int) -> Tensor:
    return scenes[index]["image"]


def _file(files: tuple[Path, ...], index: int) -> Tensor:
    return read_image(files[index])
