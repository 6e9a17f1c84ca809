"""PASCAL VOC 2012: JPEGImages/, SegmentationClass/ and the lists of ImageSets/Segmentation/."""

from pathlib import Path
from types import MappingProxyType

from softiou.data.base import Colour, DatasetDescription
from softiou.data.files import MASK_SUFFIXES, files_by_stem
from softiou.data.layouts.base import (
    Files,
    Layout,
    chosen,
    chosen_images,
    first_of,
    listed_stems,
    no_labels,
    require,
)
from softiou.data.layouts.tables import TABLES
from softiou.data.problems import Problem
from softiou.data.reading import MaskReader

_IMAGES, _MASKS, _LISTS = "JPEGImages", "SegmentationClass", "ImageSets/Segmentation"
_AUGMENTED = "SegmentationClassAug"
_IGNORE = 255  # the border of an object, and what is hard to tell
CLASSES: tuple[str, ...] = tuple(TABLES["voc"])


def voc_colour(index: int) -> Colour:
    """Return the colour of a class in the devkit's palette.

    Bits 0, 3 and 6 of the index become the highest bits of red, 1, 4 and 7 those of green, 2 and 5
    those of blue.

    Example:
        >>> voc_colour(1), voc_colour(15), voc_colour(255)
        ((128, 0, 0), (192, 128, 128), (224, 224, 192))
    """
    red, green, blue = (
        sum((index >> (3 * place + channel) & 1) << (7 - place) for place in range(3))
        for channel in range(3)
    )
    return red, green, blue


class Voc(Layout):
    """Objects of 20 classes before a background; masks are palette images, 255 is ignored.

    `trainaug` are the 10,582 images that papers train on: those of the Semantic Boundaries Dataset
    (SBD) and of train that are not in val, with masks in SegmentationClassAug/. They are listed in
    trainaug.txt or train_aug.txt; without such a list they are all masks of that folder that are
    not in val. Where it is there, lists of stems choose from trainaug, else from train.

    Args:
        root: The folder VOCdevkit or VOCdevkit/VOC2012.

    Raises:
        DataError: The folders are missing.
    """

    split_form = f"{_LISTS}/{{split}}.txt"
    pairing = (
        f"The mask of {_IMAGES}/X.jpg is {_MASKS}/X.png, for trainaug {_AUGMENTED}/X.png: add it, "
        "or shorten the list."
    )
    absent = MappingProxyType(
        {"trainaug": f"It needs masks of the SBD in {_AUGMENTED}/: `softiou fetch voc --sbd`."}
    )

    def __init__(self, root: Path) -> None:
        root = first_of(root, ("VOC2012", "VOCdevkit/VOC2012"), _IMAGES)
        require(root, "voc", (_IMAGES, _MASKS, _LISTS))
        self.name = "voc"
        self.root = root
        palette = tuple(voc_colour(index) for index in range(len(CLASSES)))
        description = DatasetDescription(CLASSES, _IGNORE, palette)
        self.reader = MaskReader(description, label_map={})
        self.splits = self._there("train", "trainaug", "val")
        self.joined = self._there("trainval")
        self.unlabeled = self._there("test")
        self.folders = dict.fromkeys(self.own, _IMAGES)
        if "trainaug" in self.splits:
            self.pool, self.wider = "trainaug", {"train": "trainaug"}

    def images(self, split: str) -> Files:
        """Return the listed images."""
        folder = self.root / _IMAGES
        images, problems = files_by_stem(folder, frozenset({".jpg"}))
        stems, unread = self._stems(split)
        return chosen_images(images, stems, folder, problems + unread, split)

    def masks(self, split: str) -> tuple[Files, ...]:
        """Return the masks of the listed images."""
        if split in self.unlabeled:
            message = f"The labels of the split {split} are not public."
            raise no_labels(self.root, message, "Evaluate on val instead.")
        augmented = self.root / _AUGMENTED
        folder = augmented if split == "trainaug" and augmented.is_dir() else self.root / _MASKS
        masks, problems = files_by_stem(folder, MASK_SUFFIXES)
        stems, _ = self._stems(split)  # problems of the list are reported for the images
        return (chosen(masks, stems, folder, problems),)

    def _there(self, *splits: str) -> tuple[str, ...]:
        derivable = (self.root / _AUGMENTED).is_dir() and self._list("val").is_file()
        derived = ["trainaug"] if derivable else []
        return tuple(split for split in splits if split in derived or self._list(split).is_file())

    def _list(self, split: str) -> Path:
        lists = self.root / _LISTS
        other = lists / "train_aug.txt"
        return other if split == "trainaug" and other.is_file() else lists / f"{split}.txt"

    def _stems(self, split: str) -> tuple[set[str], list[Problem]]:
        """Read the list of a split; trainaug may be all of its masks that are not in val."""
        path = self._list(split)
        if not path.is_file():
            masks, _ = files_by_stem(self.root / _AUGMENTED, MASK_SUFFIXES)
            held_out, problems = self._stems("val")
            return (set() if problems else set(masks) - held_out), problems
        return listed_stems(path)
