"""Cityscapes: leftImg8bit/SPLIT/CITY/, and gtFine/ or gtCoarse/."""

from pathlib import Path

from softiou.data.base import Colour, DatasetDescription
from softiou.data.layouts.base import Files, Layout, by_ending, no_labels, require
from softiou.data.layouts.tables import TABLES
from softiou.data.reading import MaskReader

_IMAGES = "leftImg8bit"
_IGNORE = 255
_LABEL_IDS = range(34)  # the label -1, licence plate, does not occur in the files

CLASSES: dict[str, tuple[int, Colour]] = {
    name: (label, (red, green, blue))
    for name, (label, (red, green, blue)) in TABLES["cityscapes"].items()
}
_LABEL_MAP = dict.fromkeys(_LABEL_IDS, _IGNORE) | {
    label: index for index, (label, _) in enumerate(CLASSES.values())
}


class Cityscapes(Layout):
    """Street scenes of 50 cities; stems are CITY_SEQUENCE_FRAME.

    Masks are `*_labelIds.png`, or `*_labelTrainIds.png` if there are no others. The labels of
    `test` are not public, so it counts as unlabelled. The coarse annotations have a split
    train_extra.
    """

    split_form = f"{_IMAGES}/{{split}}/"

    def __init__(self, root: Path, *, coarse: bool = False) -> None:
        self._annotation = "gtCoarse" if coarse else "gtFine"
        require(root, "cityscapes", (_IMAGES, self._annotation))
        self.name = "cityscapes-coarse" if coarse else "cityscapes"
        self.root = root
        palette = tuple(colour for _, colour in CLASSES.values())
        description = DatasetDescription(tuple(CLASSES), _IGNORE, palette)
        labelled = ("train", "train_extra", "val") if coarse else ("train", "val")
        there = [s for s in ("train", "train_extra", "val", "test") if self._folder(s).is_dir()]
        self.splits = tuple(split for split in there if split in labelled)
        self.unlabeled = tuple(split for split in there if split not in labelled)
        # Label ids (19 of 34 are classes) or train ids.
        in_label_ids = any((root / self._annotation).glob("*/*/*_labelIds.png"))
        self.reader = MaskReader(description, label_map=_LABEL_MAP if in_label_ids else {})
        kind = "labelIds" if in_label_ids else "labelTrainIds"
        self._ending = f"_{self._annotation}_{kind}.png"
        self.pairing = (
            f"The mask of CITY/X_{_IMAGES}.png is CITY/X{self._ending}: unpack the archive of "
            f"{self._annotation}/ into the same folder, or list the complete images in "
            "splits/NAME.txt."
        )

    def images(self, split: str) -> Files:
        """Return the images of all cities."""
        folder = self._folder(split)
        return Files(by_ending(folder.glob("*/*.png"), f"_{_IMAGES}.png"), folder)

    def masks(self, split: str) -> tuple[Files, ...]:
        """Return the masks of all cities."""
        folder = self.root / self._annotation / split
        if split == "test":
            message = "The labels of the split test are not public: all pixels are ignored."
            remedy = "Evaluate on val; `softiou predict` writes masks for the images of a city."
            raise no_labels(folder, message, remedy)
        if split not in self.splits:
            message = f"The split {split} has only coarse labels."
            raise no_labels(folder, message, "Open it as cityscapes-coarse:/path.")
        return (Files(by_ending(folder.glob("*/*.png"), self._ending), folder),)

    def _folder(self, split: str) -> Path:
        return self.root / _IMAGES / split
