"""The folder layout: DATA/dataset.yaml, DATA/SPLIT/images/ and DATA/SPLIT/masks/ or masks_1/...

dataset.yaml can define other folders and names; without SPLIT/, all images are in train.
"""

from pathlib import Path

from softiou.data.dataset_yaml import DatasetFile
from softiou.data.files import (
    MASK_SUFFIXES,
    files_by_stem,
    images_by_stem,
    left_below,
    mask_folders,
)
from softiou.data.layouts.base import Files, Layout
from softiou.data.names import FileTable
from softiou.data.patterns import FilePattern, paired
from softiou.data.problems import Problem, data_error

_MAKE_TRAIN = (
    "Create train/images/ and train/masks/ (or masks_1/ to masks_R/), or define patterns in "
    "dataset.yaml: `images: FOLDER/{stem}.jpg`, `masks: FOLDER/{stem}_mask.png`."
)


class FolderLayout(Layout):
    """Images and masks with equal or similar stems (see `paired`); classes in dataset.yaml.

    Args:
        root: Folder of the data set.
        contents: Contents of its dataset.yaml.

    Attributes:
        named: Whether dataset.yaml has a pattern for masks; otherwise similar stems are paired.
    """

    split_form = "{split}/images/"
    pairing = (
        "A mask is a PNG file with the stem of its image: add or rename it, or define a pattern in "
        'dataset.yaml, such as `masks: "{stem}_mask.png"`. Move images without a mask to '
        "unlabeled/images, or list only the others in splits/."
    )

    def __init__(self, root: Path, contents: DatasetFile) -> None:
        self.name = "folder"
        self.root = root
        self.reader = contents.mask_reader()
        self._axis = contents.axis
        loose = not (root / "train").is_dir() and (root / "images").is_dir() and mask_folders(root)
        form = contents.images or ("images/{stem}.*" if loose else "{split}/images/{stem}.*")
        masks = contents.mask_patterns
        if not (contents.images or masks or loose or any(root.glob("*/images"))) and any(
            root.glob("*/*_mask.png")
        ):
            form, masks = "{split}/{stem}.*", ["{split}/{stem}_mask.png"]  # side by side
        if not (contents.images or masks) and (root / "labelsTr").is_dir():
            form, masks = "imagesTr/{stem}.*", ["labelsTr/{stem}.*"]  # nnU-Net's layout
        self._images = FilePattern.parse(form)
        self._masks = tuple(map(FilePattern.parse, masks))
        self.named = bool(self._masks)
        found = self._images.splits(root)
        self.splits = tuple(name for name in found if self.mask_places(name))
        self.unlabeled = tuple(name for name in found if name not in self.splits)
        self.split_form = f"{self._images.folder}/"
        if self._masks:
            self.pairing = f"Masks are {' and '.join(masks)}: add or rename them."
        self.absent = {"train": _MAKE_TRAIN}
        self._listed: dict[str, Files] = {}

    def mask_places(self, split: str) -> tuple[Path, ...]:
        """Return the existing mask folders, one for each annotator."""
        beside = mask_folders(self._images.place(self.root, split).parent)
        if not self._masks or not self._masks[0].folder:  # no pattern, or a file name only
            return beside
        places = (pattern.place(self.root, split) for pattern in self._masks)
        return tuple(place for place in places if place.is_dir())

    def images(self, split: str) -> Files:
        """Return the images of a split; the folder is listed once."""
        if split not in self._listed:
            self._listed[split] = self._list(split)
        return self._listed[split]

    def _list(self, split: str) -> Files:
        folder = self._images.place(self.root, split)
        beside = [mask for mask in self._masks if mask.place(self.root, split) == folder]

        def stem_of(name: str) -> str | None:
            is_mask = any(mask.stem_of(name) for mask in beside)
            return None if is_mask else self._images.stem_of(name)

        plain = self._images.name == "{stem}.*" and not beside
        own = None if plain else stem_of
        images, problems = images_by_stem(folder, own, below=False, axis=self._axis)
        if images and not any(place.is_relative_to(folder) for place in self.mask_places(split)):
            problems += left_below(folder)
        return Files(images, folder, tuple(problems))

    def masks(self, split: str) -> tuple[Files, ...]:
        """Return the masks of each annotator, by the stems of their images."""
        folder = self._images.place(self.root, split).parent
        places = self.mask_places(split)
        if not places:
            message = "Expected masks/ or masks_1/ to masks_R/ beside images/, but found neither."
            remedy = "Add the masks, or define their pattern in dataset.yaml as `masks: "
            remedy += "FOLDER/{stem}_mask.png`; `softiou predict` needs no masks."
            raise data_error(folder, message, remedy)
        ambiguous: tuple[Problem, ...] = ()
        if (folder / "masks").is_dir() and (folder / "masks_1").is_dir() and not self._masks:
            message = "Found both masks/ and masks_1/: one annotator or several?"
            ambiguous = (Problem(str(folder), message, "Remove one of them."),)
        images = FileTable.of(self.images(split).by_stem)
        patterns = self._masks if len(self._masks) == len(places) else self._masks[:1] * len(places)
        annotators = []
        for number, place in enumerate(places):
            stem_of = patterns[number].stem_of if patterns else None
            masks, problems = files_by_stem(place, MASK_SUFFIXES, stem_of, axis=self._axis)
            if masks.stems == images.stems:
                masks = FileTable(images.stems, masks.paths)  # shared stems need half the memory
            elif not patterns:
                theirs, own = set(images), set(masks)
                if same := paired(theirs - own, own - theirs):
                    stems = (same.get(stem, stem) for stem in masks)
                    masks = FileTable.of(dict(zip(stems, masks.paths, strict=True)))
            annotators.append(Files(masks, place, (*problems, *ambiguous)))
        return tuple(annotators)
