"""CamVid in both variants: index masks by split (SegNet), and colour masks as published."""

import re
from collections.abc import Mapping, Set
from pathlib import Path

from softiou.data.base import Colour, DatasetDescription
from softiou.data.files import MASK_SUFFIXES, files_by_stem, images_by_stem
from softiou.data.layouts.base import (
    Files,
    Layout,
    by_ending,
    chosen,
    chosen_images,
    first_of,
    listed_stems,
    require,
)
from softiou.data.layouts.tables import TABLES, colours
from softiou.data.problems import Problem
from softiou.data.reading import MaskReader

_IGNORE = 255
_VOID = 11  # value of unlabelled pixels in SegNet's masks
_SPLITS = ("train", "val", "test")

CLASSES = {name: colours(members) for name, members in TABLES["camvid"].items()}
_VOID_COLOUR: Colour = (0, 0, 0)
_DESCRIPTION = DatasetDescription(
    tuple(CLASSES), _IGNORE, tuple(next(iter(members.values())) for members in CLASSES.values())
)


def camvid(root: Path) -> Layout:
    """Return the layout of the CamVid variant in a folder."""
    numbers = first_of(root, ("CamVid",), "trainannot")
    if (numbers / "trainannot").is_dir():
        return CamVidNumbers(numbers)
    return CamVidColours(root)


class CamVidNumbers(Layout):
    """CamVid of the SegNet tutorial: train/, trainannot/ and so on; 11 is ignored.

    If SPLIT.txt exists beside the folders, it lists the images of the split.
    """

    split_form = "{split}/ and {split}annot/"
    pairing = "The mask of train/X.png is trainannot/X.png: add it, or remove it from the lists."

    def __init__(self, root: Path) -> None:
        self.name = "camvid"
        self.root = root
        self.reader = MaskReader(_DESCRIPTION, label_map={_VOID: _IGNORE})
        self.splits = tuple(split for split in _SPLITS if (root / f"{split}annot").is_dir())

    def images(self, split: str) -> Files:
        """Return the images of a split, restricted to its list."""
        images, problems = images_by_stem(self.root / split)
        stems, unread = self._stems(split, images)
        return chosen_images(images, stems, self.root / split, problems + unread, split)

    def masks(self, split: str) -> tuple[Files, ...]:
        """Return the masks of a split, restricted to its list."""
        folder = self.root / f"{split}annot"
        masks, problems = files_by_stem(folder, MASK_SUFFIXES)
        stems, _ = self._stems(split, masks)  # problems of the list are reported for the images
        return (chosen(masks, stems, folder, problems),)

    def _stems(self, split: str, files: Mapping[str, Path]) -> tuple[Set[str], list[Problem]]:
        """Return the stems in the list of a split, or all stems without a list."""
        path = self.root / f"{split}.txt"
        return listed_stems(path) if path.is_file() else (files.keys(), [])


class CamVidColours(Layout):
    """CamVid as published: 701 frames with colours of 32 classes, grouped into 11.

    The splits are those of SegNet: 367 frames for train, 101 for val, 233 for test. splits/NAME.txt
    can define others.

    References:
        G. Brostow et al. Semantic Object Classes in Video. Pattern Recognition Letters, 2009.
        V. Badrinarayanan et al. SegNet. 2015. https://arxiv.org/abs/1511.00561
    """

    split_form = "a split of SegNet"
    pairing = "The mask of X.png is X_L.png: unpack both archives again."

    def __init__(self, root: Path) -> None:
        simple = (root / "labels").is_dir()
        folders = ("images", "labels") if simple else ("701_StillsRaw_full", "LabeledApproved_full")
        require(root, "camvid", folders)
        self._images, self._labels = (root / folder for folder in folders)
        self.name = "camvid"
        self.root = root
        indices = {
            colour: index
            for index, members in enumerate(CLASSES.values())
            for colour in members.values()
        }
        self.reader = MaskReader(
            _DESCRIPTION, label_map={}, colours=indices | {_VOID_COLOUR: _IGNORE}
        )
        self.splits, self.joined = _SPLITS, ("all",)
        self.folders = dict.fromkeys((*_SPLITS, "all"), self._images.name)
        self.wider = dict.fromkeys(_SPLITS, "all")

    def images(self, split: str) -> Files:
        """Return the frames of a split."""
        images, problems = images_by_stem(self._images)
        return Files(_frames(images, split), self._images, tuple(problems))

    def masks(self, split: str) -> tuple[Files, ...]:
        """Return the masks of a split."""
        masks = by_ending(self._labels.glob("*"), "_L.png")
        return (Files(_frames(masks, split), self._labels),)


def segnet_split(frame: str) -> str | None:
    """Return SegNet's split of a frame, from its sequence and number.

    Example:
        >>> [segnet_split(name) for name in ("0001TP_008520", "0001TP_008550", "0016E5_07959")]
        ['train', 'test', 'val']
    """
    found = re.fullmatch(r"(0001TP|0006R0|0016E5|Seq05VD)_f?(\d+)", frame)
    if found is None:
        return None
    sequence, number = found[1], int(found[2])
    if sequence == "0016E5":  # the densely labelled part is val
        return "val" if 7959 <= number <= 8159 else "train"
    if sequence == "0001TP":
        return "train" if number <= 8520 else "test"
    return "train" if sequence == "0006R0" else "test"


def _frames(files: Mapping[str, Path], split: str) -> Mapping[str, Path]:
    """Return the files of a split, or all for "all"."""
    if split == "all":
        return files
    return {stem: path for stem, path in files.items() if segnet_split(stem) == split}
