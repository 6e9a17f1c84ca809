"""Cityscapes: leftImg8bit/SPLIT/CITY/ and gtFine/ or gtCoarse/ beside it."""

from pathlib import Path

from softiou.data.base import DatasetDescription
from softiou.data.layouts.base import Files, Layout, by_ending, no_labels, require
from softiou.data.reading import MaskReader

_IMAGES = "leftImg8bit"
_IGNORE = 255
_LABEL_IDS = range(34)  # a licence plate, -1, is not written into the files

# Name, `labelIds` and colour of the classes that are evaluated, in the order of their train ids:
# those without ignoreInEval in cityscapesscripts/helpers/labels.py.
CLASSES = (
    ("road", 7, (128, 64, 128)),
    ("sidewalk", 8, (244, 35, 232)),
    ("building", 11, (70, 70, 70)),
    ("wall", 12, (102, 102, 156)),
    ("fence", 13, (190, 153, 153)),
    ("pole", 17, (153, 153, 153)),
    ("traffic light", 19, (250, 170, 30)),
    ("traffic sign", 20, (220, 220, 0)),
    ("vegetation", 21, (107, 142, 35)),
    ("terrain", 22, (152, 251, 152)),
    ("sky", 23, (70, 130, 180)),
    ("person", 24, (220, 20, 60)),
    ("rider", 25, (255, 0, 0)),
    ("car", 26, (0, 0, 142)),
    ("truck", 27, (0, 0, 70)),
    ("bus", 28, (0, 60, 100)),
    ("train", 31, (0, 80, 100)),
    ("motorcycle", 32, (0, 0, 230)),
    ("bicycle", 33, (119, 11, 32)),
)
_LABEL_MAP = dict.fromkeys(_LABEL_IDS, _IGNORE) | {
    label: index for index, (_, label, _) in enumerate(CLASSES)
}


class Cityscapes(Layout):
    """Street scenes of 50 cities; stems are CITY_SEQUENCE_FRAME.

    Masks are `*_labelIds.png`, or `*_labelTrainIds.png` if there are no others. The labels of
    `test` are not public: all pixels of its files are ignored.

    Args:
        root: Folder with leftImg8bit/ and the annotation.
        coarse: Read gtCoarse/, which has train_extra, too, instead of gtFine/.

    Raises:
        DataError: The folders are missing.
    """

    split_form = f"{_IMAGES}/{{split}}/"

    def __init__(self, root: Path, *, coarse: bool = False) -> None:
        self._annotation = "gtCoarse" if coarse else "gtFine"
        require(root, "cityscapes", (_IMAGES, self._annotation))
        self.name = "cityscapes-coarse" if coarse else "cityscapes"
        self.root = root
        names, _, palette = zip(*CLASSES, strict=True)
        description = DatasetDescription(names, _IGNORE, palette)
        labelled = ("train", "train_extra", "val") if coarse else ("train", "val")
        there = [s for s in ("train", "train_extra", "val", "test") if self._folder(s).is_dir()]
        self.splits = tuple(split for split in there if split in labelled)
        self.unlabeled = tuple(split for split in there if split not in labelled)
        # Label ids, of which 19 are classes, or train ids.
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
            message = "The labels of the split test are not public: all of its pixels are ignored."
            remedy = "Evaluate on val; `softiou predict` writes masks of the images of a city."
            raise no_labels(folder, message, remedy)
        if split not in self.splits:
            message = f"The split {split} has coarse labels only."
            raise no_labels(folder, message, "Name the data set cityscapes-coarse:/path for them.")
        return (Files(by_ending(folder.glob("*/*.png"), self._ending), folder),)

    def _folder(self, split: str) -> Path:
        return self.root / _IMAGES / split
