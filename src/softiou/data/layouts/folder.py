"""The folder layout: DATA/dataset.yaml, DATA/SPLIT/images/ and DATA/SPLIT/masks/ or masks_1/..."""

from pathlib import Path

from softiou.data.dataset_yaml import DatasetFile
from softiou.data.files import MASK_SUFFIXES, files_by_stem, images_by_stem, mask_folders
from softiou.data.layouts.base import Files, Layout
from softiou.data.problems import Problem, data_error

_MAKE_TRAIN = "Make train/images/ and train/masks/ (or masks_1/ to masks_R/)."
_MOVE_INTO_TRAIN = (
    "Move images/ and the masks into train/; lists in splits/, such as train.txt and val.txt, "
    "choose among them."
)


class FolderLayout(Layout):
    """Images and masks of the same stem; dataset.yaml names the classes.

    Args:
        root: Folder of the data set.
        contents: Of its dataset.yaml.
    """

    split_form = "{split}/images/"
    pairing = (
        "A mask is a PNG file with the stem of its image: add or rename it. Images that have none "
        "go to unlabeled/images, or are left out by a list of the others in splits/."
    )

    def __init__(self, root: Path, contents: DatasetFile) -> None:
        self.name = "folder"
        self.root = root
        self.reader = contents.mask_reader()
        found = sorted(path.parent.name for path in root.glob("*/images") if path.is_dir())
        self.splits = tuple(name for name in found if mask_folders(root / name))
        self.unlabeled = tuple(name for name in found if name not in self.splits)
        loose = (root / "images").is_dir() and mask_folders(root)
        self.absent = {"train": _MOVE_INTO_TRAIN if loose else _MAKE_TRAIN}

    def images(self, split: str) -> Files:
        """Return the images of the folder."""
        folder = self.root / split / "images"
        images, problems = images_by_stem(folder)
        return Files(images, folder, tuple(problems))

    def masks(self, split: str) -> tuple[Files, ...]:
        """Return the masks of each annotator."""
        folder = self.root / split
        folders = mask_folders(folder)
        if not folders:
            message = "Expected masks/ or masks_1/ to masks_R/ beside images/, but found neither."
            remedy = "Add the masks; `softiou predict` needs none."
            raise data_error(folder, message, remedy)
        ambiguous: tuple[Problem, ...] = ()
        if (folder / "masks").is_dir() and (folder / "masks_1").is_dir():
            message = "Found both masks/ and masks_1/: one annotator or several?"
            ambiguous = (Problem(str(folder), message, "Move one of them away."),)
        annotators = []
        for masks_folder in folders:
            masks, problems = files_by_stem(masks_folder, MASK_SUFFIXES)
            annotators.append(Files(masks, masks_folder, (*problems, *ambiguous)))
        return tuple(annotators)
