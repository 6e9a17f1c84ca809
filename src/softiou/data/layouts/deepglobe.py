"""DeepGlobe Land Cover: train/ID_sat.jpg with train/ID_mask.png."""

from pathlib import Path

from softiou.data.base import Colour, DatasetDescription
from softiou.data.layouts.base import Files, Layout, by_ending, no_labels, require
from softiou.data.layouts.tables import TABLES, colours
from softiou.data.reading import MaskReader

_IMAGE, _MASK = "_sat.jpg", "_mask.png"
_IGNORE = 255
_UNKNOWN: Colour = (0, 0, 0)  # clouds and other unknown pixels
_THRESHOLD = 128  # mask values are inexact; the authors recommend this threshold

CLASSES = colours(TABLES["deepglobe"])


class DeepGlobe(Layout):
    """Satellite images of 2448 x 2448 pixels with six classes of land; unknown land is ignored.

    Only the 803 images of train/ have public masks, and there is no official validation split.
    Here, `val` is the first fifth of the images, sorted by file name (160), as in the code of the
    Jaccard metric losses (fold 0 of 5), and `train` the others (643). The lists splits/train.txt,
    val.txt and test.txt can define other splits, such as the 455, 207 and 142 images of GLNet.

    References:
        I. Demir et al. DeepGlobe 2018: A Challenge to Parse the Earth through Satellite Images.
        https://arxiv.org/abs/1805.06561
    """

    split_form = "{split}/"
    pairing = f"The mask of ID{_IMAGE} is ID{_MASK} beside it: unpack the archive again."

    def __init__(self, root: Path) -> None:
        require(root, "deepglobe", ("train",))
        self.name = "deepglobe"
        self.root = root
        indices = {colour: index for index, colour in enumerate(CLASSES.values())}
        self.reader = MaskReader(
            DatasetDescription(tuple(CLASSES), _IGNORE, tuple(CLASSES.values())),
            label_map={},
            colours=indices | {_UNKNOWN: _IGNORE},
            threshold=_THRESHOLD,
        )
        self.splits, self.joined = ("train", "val"), ("all",)
        self.wider = dict.fromkeys(("train", "val", "test"), "all")
        self.unlabeled = tuple(split for split in ("valid", "test") if (root / split).is_dir())
        self.folders = {"val": "train", "all": "train"}

    def images(self, split: str) -> Files:
        """Return the images of a split."""
        return self._files(split, _IMAGE)

    def masks(self, split: str) -> tuple[Files, ...]:
        """Return the masks of a split."""
        if split in self.unlabeled:
            message = f"The masks of {split}/ are not public."
            raise no_labels(self.root / split, message, "Evaluate on val, a part of train/.")
        return (self._files(split, _MASK),)

    def _files(self, split: str, ending: str) -> Files:
        folder = self.root / self.folders.get(split, split)
        files = by_ending(folder.glob("*"), ending)
        if split in self.splits:
            held_out = self._held_out(folder)
            files = {s: f for s, f in files.items() if (s in held_out) == (split == "val")}
        return Files(files, folder)

    def _held_out(self, folder: Path) -> set[str]:
        stems = list(by_ending(folder.glob("*"), _IMAGE))  # sorted by file name
        return set(stems[: len(stems) // 5])
