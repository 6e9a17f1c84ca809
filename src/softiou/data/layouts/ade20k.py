"""ADE20K SceneParsing: images/training/, annotations/training/, and validation/ in both."""

from pathlib import Path

from softiou.data.base import DatasetDescription
from softiou.data.files import MASK_SUFFIXES, files_by_stem, images_by_stem
from softiou.data.layouts.base import Files, Layout, first_of, require
from softiou.data.layouts.tables import TABLES, colours
from softiou.data.reading import MaskReader

_IGNORE = 255
CLASSES = colours(TABLES["ade20k"])
_FOLDERS = {"train": "training", "val": "validation"}


class Ade20k(Layout):
    """Scenes with 150 classes; masks have values 1..150, and 0 for ignored pixels."""

    split_form = "images/{split}/ (training, validation)"
    pairing = (
        "The mask of images/X.jpg is annotations/X.png, each in training/ or validation/: unpack "
        "the archive again, or list the complete images in splits/NAME.txt."
    )

    def __init__(self, root: Path) -> None:
        root = first_of(root, ("ADEChallengeData2016",), "annotations")
        require(root, "ade20k", ("images/training", "annotations/training"))
        self.name = "ade20k"
        self.root = root
        shift = {value: value - 1 for value in range(1, len(CLASSES) + 1)}
        description = DatasetDescription(tuple(CLASSES), _IGNORE, tuple(CLASSES.values()))
        self.reader = MaskReader(description, label_map={0: _IGNORE} | shift)
        self.splits = tuple(s for s, f in _FOLDERS.items() if (root / "images" / f).is_dir())

    def images(self, split: str) -> Files:
        """Return the images of a split."""
        folder = self.root / "images" / _FOLDERS[split]
        images, problems = images_by_stem(folder)
        return Files(images, folder, tuple(problems))

    def masks(self, split: str) -> tuple[Files, ...]:
        """Return the masks of a split."""
        folder = self.root / "annotations" / _FOLDERS[split]
        masks, problems = files_by_stem(folder, MASK_SUFFIXES)
        return (Files(masks, folder, tuple(problems)),)
