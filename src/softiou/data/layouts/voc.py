"""PASCAL VOC: JPEGImages/, SegmentationClass/ and lists in ImageSets/Segmentation/.

For other data in these folders, the classes are read from labelmap.txt, which annotation tools
write, or from dataset.yaml.
"""

from pathlib import Path
from types import MappingProxyType

from softiou.data.base import Colour, DatasetDescription
from softiou.data.dataset_yaml import DatasetFile
from softiou.data.files import IMAGE_SUFFIXES, MASK_SUFFIXES, files_by_stem, lines_of
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
from softiou.data.problems import Problem, data_error
from softiou.data.reading import MaskReader

_IMAGES, _MASKS, _LISTS = "JPEGImages", "SegmentationClass", "ImageSets/Segmentation"
_AUGMENTED = "SegmentationClassAug"
_KNOWN = {"train", "trainaug", "train_aug", "val", "trainval", "test", "default"}
_BORDER = (224, 224, 192)
_IGNORE = 255  # borders of objects, and ambiguous pixels
CLASSES: tuple[str, ...] = tuple(TABLES["voc"])


def voc_colour(index: int) -> Colour:
    """Return the colour of a class in the palette of the devkit.

    Bits 0, 3 and 6 of the index become the highest bits of red; bits 1, 4 and 7 those of green;
    bits 2 and 5 those of blue.

    Example:
        >>> voc_colour(1), voc_colour(15), voc_colour(255)
        ((128, 0, 0), (192, 128, 128), (224, 224, 192))
    """
    red, green, blue = (
        sum((index >> (3 * place + channel) & 1) << (7 - place) for place in range(3))
        for channel in range(3)
    )
    return red, green, blue


def _reader(labelmap: Path) -> MaskReader:
    """Return a reader with the classes of labelmap.txt, or of VOC if it does not exist."""
    if not labelmap.is_file():
        palette = tuple(voc_colour(index) for index in range(len(CLASSES)))
        return MaskReader(DatasetDescription(CLASSES, _IGNORE, palette), label_map={})
    rows = [line.split(":") for line in lines_of(labelmap)[0] if line.strip() and line[0] != "#"]
    try:
        names = tuple(row[0] for row in rows)
        red, green, blue = zip(*(map(int, row[1].split(",")) for row in rows), strict=True)
        palette = tuple(zip(red, green, blue, strict=True))
        description = DatasetDescription(names, _IGNORE, palette)
    except (IndexError, ValueError) as error:
        message = f"Expected lines such as `cat:48,112,32::`, but got {error}."
        raise data_error(
            labelmap, message, "Export it again, or name the classes in dataset.yaml."
        ) from error
    colours = {_BORDER: _IGNORE} | {colour: index for index, colour in enumerate(palette)}
    return MaskReader(description, label_map={}, colours=colours)


class Voc(Layout):
    """20 object classes and background, or custom classes; 255 is ignored.

    Each list defines the split of its name; default.txt is train if there is no train.txt. The
    split test has labels if masks exist for its images.

    `trainaug` are the 10,582 images used in papers: the images of the Semantic Boundaries Dataset
    (SBD) and of train that are not in val, with masks in SegmentationClassAug/. They are listed in
    trainaug.txt or train_aug.txt; without such a list, they are all images with masks in that
    folder that are not in val. If trainaug exists, lists of stems choose from it, otherwise from
    train.

    Args:
        root: The folder VOCdevkit, VOCdevkit/VOC2012 or that of another year.
        contents: Contents of dataset.yaml with custom classes; None for labelmap.txt or VOC's.

    Raises:
        DataError: The folders are missing.
    """

    split_form = f"{_LISTS}/{{split}}.txt"
    pairing = (
        f"The mask of {_IMAGES}/X.jpg is {_MASKS}/X.png, for trainaug {_AUGMENTED}/X.png: add it, "
        "or remove it from the list."
    )
    absent = MappingProxyType(
        {"trainaug": f"It needs masks of the SBD in {_AUGMENTED}/: `softiou fetch voc --sbd`."}
    )

    def __init__(self, root: Path, contents: DatasetFile | None = None) -> None:
        found = (path for form in ("VOC2*", "VOCdevkit/VOC2*") for path in root.glob(form))
        years = sorted((str(path.relative_to(root)) for path in found), reverse=True)
        root = first_of(root, ("VOC2012", "VOCdevkit/VOC2012", *years), _IMAGES)
        require(root, "voc", (_IMAGES, _MASKS, _LISTS))
        self.name = "voc"
        self.root = root
        self.reader = contents.mask_reader() if contents else _reader(root / "labelmap.txt")
        masks, _ = files_by_stem(root / _MASKS, MASK_SUFFIXES)
        tested = self._there("test")
        self.unlabeled = () if tested and self._stems("test")[0] <= masks.keys() else tested
        others = {path.stem for path in (root / _LISTS).glob("[!.]*.txt")} - _KNOWN
        labelled = ("train", "trainaug", "val", *(() if self.unlabeled else tested))
        self.splits = (*self._there(*labelled), *sorted(others))
        self.joined = self._there("trainval")
        self.folders = dict.fromkeys(self.own, _IMAGES)
        if "trainaug" in self.splits:
            self.pool, self.wider = "trainaug", {"train": "trainaug"}

    def images(self, split: str) -> Files:
        """Return the listed images."""
        folder = self.root / _IMAGES
        images, problems = files_by_stem(folder, IMAGE_SUFFIXES)
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
        own, augmented = lists / f"{split}.txt", lists / "train_aug.txt"
        if split == "trainaug" and augmented.is_file():
            return augmented
        exported = lists / "default.txt"  # written by annotation tools
        return exported if split == "train" and exported.is_file() and not own.is_file() else own

    def _stems(self, split: str) -> tuple[set[str], list[Problem]]:
        """Return the stems in the list of a split; without a list, trainaug are all but val."""
        path = self._list(split)
        if not path.is_file():
            masks, _ = files_by_stem(self.root / _AUGMENTED, MASK_SUFFIXES)
            held_out, problems = self._stems("val")
            return (set() if problems else set(masks) - held_out), problems
        return listed_stems(path)
