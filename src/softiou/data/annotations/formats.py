"""The formats of annotation files by name, and the layout that they share."""

import os
import re
from collections import Counter
from collections.abc import Callable, Mapping, Set
from dataclasses import dataclass, field
from functools import lru_cache
from pathlib import Path, PurePosixPath

import numpy as np

from softiou.data.annotations import coco, cvat, label_studio, labelme, panoptic, supervisely, yolo
from softiou.data.annotations.parsing import IGNORED, AnnotatedImage, Annotations
from softiou.data.base import DatasetDescription
from softiou.data.dataset_yaml import AnnotationFile
from softiou.data.drawings import Drawing, Legend, Shape
from softiou.data.files import IMAGE_SUFFIXES, composed, fingerprint, some_stems
from softiou.data.layouts.base import Files, Layout
from softiou.data.patterns import split_named
from softiou.data.problems import DataProblemsError, Problem, data_error
from softiou.data.reading import MaskReader

_OF_IMAGES = {"images", "image", "img"}  # folders that are preferred among images of one name


@dataclass(frozen=True)
class Format:
    """How the files of a format are found and read.

    Attributes:
        read: Reads a file; with the names of the classes, if a list in the folder has them.
        patterns: Of its files; the first one that finds some counts.
        of_each: Whether each image has a file of its own.
        names: Returns the names in such a list.
        masks: Whether a folder of the name of each file has masks, and other pixels are ignored.
    """

    read: Callable[..., Annotations]
    patterns: tuple[str, ...]
    of_each: bool = False
    names: Callable[[Path], tuple[str, ...]] | None = None
    masks: bool = False


_JSON = ("*.json", "*/*.json")
_COCO = ("annotations/instances_*.json", "*/_annotations.coco.json", "annotations/*.json")
_PANOPTIC = ("annotations/panoptic_*.json", "panoptic_*.json", "annotations/*.json")
FORMATS: Mapping[str, Format] = {
    "coco": Format(coco.read, (*_COCO, *_JSON)),
    "coco-panoptic": Format(panoptic.read, (*_PANOPTIC, *_JSON), masks=True),
    "labelme": Format(labelme.read, ("**/*.json",), of_each=True),
    "yolo": Format(yolo.read, ("**/labels/**/*.txt",), of_each=True, names=yolo.names_of),
    "cvat": Format(cvat.read, ("*.xml", "*/*.xml")),
    "label-studio": Format(label_studio.read, _JSON),
    "supervisely": Format(
        supervisely.read, ("ann/*.json", "*/ann/*.json"), of_each=True, names=supervisely.names_of
    ),
}
# Files that only one format has.
SIGNS = {
    **dict.fromkeys(_COCO[:2], "coco"),
    _PANOPTIC[0]: "coco-panoptic",
    **dict.fromkeys(("labels/*.txt", "*/labels/*.txt", "labels/*/*.txt"), "yolo"),
    "annotations.xml": "cvat",
    **dict.fromkeys(FORMATS["supervisely"].patterns, "supervisely"),
}


@dataclass
class _Contents:
    """What all files of a folder hold: images by split and stem, and what is wrong."""

    images: dict[str, dict[str, tuple[Path, Path, AnnotatedImage]]] = field(default_factory=dict)
    names: dict[str, None] = field(default_factory=dict)  # in order
    used: set[str] = field(default_factory=set)
    left_out: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)


class AnnotationLayout(Layout):
    """Images with their annotation files, of any format.

    An image belongs to the split that the file states, or that its file or a folder is called
    after: train, val or test; else to train. The image is looked for by its name in all folders.

    Args:
        name: Of the format.
        root: Folder of the files, or one of them.
        described: Classes of one's own, overlap and groups of classes.

    Raises:
        DataError: There are no such files, or the classes do not fit.
    """

    split_form = "annotations whose file or folder is called {split}"
    pairing = "Annotate the image, or take it out."

    def __init__(self, name: str, root: Path, described: AnnotationFile) -> None:
        self.name = name
        self.root = root.parent if root.is_file() else root
        files = (root,) if root.is_file() else _files(name, root)
        found = _contents(name, self.root, files, fingerprint(files))
        try:
            description, legend, parents = _legend(found, described)
        except ValueError as error:
            raise data_error(root, f"{error}.", "Say so in dataset.yaml.") from error
        self.reader = MaskReader(description, label_map={}, parents=parents)
        self._problems = tuple(found.problems)
        left_out = found.left_out + Counter()  # without those that are 0
        self.drawings = drawings = dict[str, dict[str, Drawing]]()
        for split, images in found.images.items():
            drawings[split] = {}
            for stem, (file, path, image) in images.items():
                shapes = tuple(one for one in image.shapes if _shows(one, image.size))
                left_out["shapes outside of their image"] += len(image.shapes) - len(shapes)
                drawings[split][stem] = Drawing(file, path, image.size, shapes, legend)
        self.splits = tuple(found.images)
        if kinds := [f"{count} {kind}" for kind, count in sorted(left_out.items()) if count]:
            self.note = f"not drawn: {', '.join(kinds)}"
        if not any(drawing.shapes for images in drawings.values() for drawing in images.values()):
            found_instead = f"found none in any image{self.note and ': '}{self.note}"
            message = f"Expected polygons or masks, but {found_instead}."
            raise data_error(root, message, "Export polygons or masks; boxes are not enough.")

    def images(self, split: str) -> Files:
        """Return the images of a split, and what is wrong with any file."""
        images = {stem: drawing.image for stem, drawing in self.drawings[split].items()}
        return Files(images, self.root, self._problems)

    def masks(self, split: str) -> tuple[Files, ...]:
        """Return the annotation file of each image."""
        files = {stem: drawing.file for stem, drawing in self.drawings[split].items()}
        return (Files(files, self.root),)


def _files(name: str, root: Path) -> tuple[Path, ...]:
    """Return the annotation files in a folder."""
    patterns = FORMATS[name].patterns
    for pattern in patterns if root.is_dir() else ():
        found = sorted(path for path in root.glob(pattern) if not path.name.startswith("."))
        if found:
            return tuple(found)
    instead = "none" if root.is_dir() else "neither such a folder nor a file"
    message = f"Expected annotation files ({', '.join(patterns)}), but found {instead}."
    raise data_error(root, message, f"Name the folder or the file: {name}:/path.")


@lru_cache(maxsize=4)
def _contents(name: str, root: Path, files: tuple[Path, ...], version: str) -> _Contents:
    """Read all files, once as long as they do not change."""
    del version
    found, one = _Contents(), FORMATS[name]
    images = _ImageIndex(root, {file.with_suffix("") for file in files if one.masks})
    broken: list[Problem] = []
    try:
        names = (one.names(root),) if one.names else ()
    except (OSError, ValueError) as error:
        raise data_error(root, f"The names of the classes: {error}.", "Correct it.") from error
    for file in files:
        try:
            content = one.read(file, *names)
        except (OSError, ValueError) as error:
            message = f"Not a file of the format {name}: {error}."
            broken.append(Problem(str(file), message, "Export it again, or correct it."))
            continue
        found.names |= dict.fromkeys(content.names)
        found.left_out += content.left_out
        _add(found, file, content, images, stated=one.of_each)
    found.names |= dict.fromkeys(sorted(found.used))
    if not (found.images or broken or found.problems):
        message = "Expected annotated images, but found none."
        broken.append(Problem(str(root), message, "Export them with the annotations."))
    if broken or not found.images:
        raise DataProblemsError(*broken, *found.problems)
    return found


def _add(
    found: _Contents, file: Path, content: Annotations, images: "_ImageIndex", *, stated: bool
) -> None:
    """Add the images of a file whose picture can be found."""
    missing, twice = [], []
    inner = file.relative_to(images.root)
    for image in content.images:
        found.used |= {shape.name for shape in image.shapes if shape.name is not IGNORED}
        path = images.find(image.name, inner)
        if path is None:
            missing.append(image.name)
            continue
        folders = str(path.relative_to(images.root).parent)
        split = image.split.lower() if image.split.lower() not in ("", "default") else ""
        split = split_named(split) or split or split_named(str(inner.parent if stated else inner))
        of_split = found.images.setdefault(split or split_named(folders) or "train", {})
        if of_split.setdefault(composed(path.stem), (file, path, image))[2] is not image:
            twice.append(path.stem)
    if missing:
        message = f"Images that are not here, or several times: {some_stems(missing)}."
        remedy = "Copy them beside the file, or take them out of it."
        found.problems.append(Problem(str(file), message, remedy, kind="unmatched"))
    if twice:
        message = f"Expected one image per stem and split, but found two: {some_stems(twice)}."
        found.problems.append(Problem(str(file), message, "Rename one.", kind="stems"))


class _ImageIndex:
    """The images in all folders of a data set, by name."""

    def __init__(self, root: Path, without: Set[Path]) -> None:
        self.root = root
        self._named: dict[str, list[PurePosixPath]] = {}
        for folder, inner, names in os.walk(root):
            visible = sorted(name for name in inner if not name.startswith("."))
            inner[:] = [name for name in visible if Path(folder, name) not in without]
            place = PurePosixPath(Path(folder).relative_to(root).as_posix())
            for name in sorted(names):
                path = place / name
                if path.suffix.lower() in IMAGE_SUFFIXES and not name.startswith("."):
                    self._named.setdefault(composed(name), []).append(path)
                    self._named.setdefault(composed(path.stem), []).append(path)

    def find(self, name: str, near: Path) -> Path | None:
        """Return the image of a name; of several, that in the place that name and file say.

        Uploads of Label Studio have a prefix; `near` is relative to the folder.
        """
        stated = PurePosixPath(composed(name.replace("\\", "/")))
        names = (stated.name, stated.stem, re.sub(r"^[0-9a-f]{8}-", "", stated.name))
        found = next((self._named[one] for one in names if one in self._named), [])
        wanted = {*stated.parts[:-1], *near.parts[:-1]}
        scores = [
            (len(wanted.intersection(p.parts)), len(_OF_IMAGES.intersection(p.parts)))
            for p in found
        ]
        if not found or scores.count(max(scores)) > 1:
            return None
        return self.root / found[scores.index(max(scores))]


def _legend(
    found: _Contents, described: AnnotationFile
) -> tuple[DatasetDescription, Legend, dict[int, list[int]]]:
    """Return the classes, what the names of the shapes mean, and the children of parents."""
    names, uncovered = list(found.names), described.uncovered
    if uncovered is None:
        uncovered = "ignore" if FORMATS[described.layout].masks else "background"
    if uncovered == "background":
        usual = (n for n in names if n.strip("_").casefold() == "background")
        uncovered = next(usual, uncovered)
    classes = described.classes
    if classes is None:
        first = [] if uncovered == "ignore" else [uncovered]
        classes = [*first, *(name for name in names if name not in first)]
    groups = described.grouped({*names, *classes})
    mentioned = {*classes, *described.mentioned}
    if unknown := sorted(found.used - mentioned):
        raise ValueError(
            f"Expected only shapes of `classes`, but found {', '.join(unknown)}: add, merge, drop "
            "or ignore them"
        )
    if uncovered not in ("ignore", *classes):
        raise ValueError(
            f"Expected `uncovered`, of the pixels that no shape covers, to be ignore or one of "
            f"{', '.join(classes)}, but it is {uncovered}"
        )
    named = dict.fromkeys(to for name in classes if (to := groups.get(name)) is not None)
    kept = tuple(name for name in named if name not in described.parents)
    ignore_index = 255 if len(kept) + len(described.parents) <= 255 else 65535
    numbers = {name: number for number, name in enumerate((*kept, *described.parents))}
    labels = {
        name: ignore_index if to is None else numbers[to]
        for name, to in groups.items()
        if to is None or to in numbers
    }
    legend = Legend(
        labels | {IGNORED: ignore_index},
        len(kept),
        ignore_index,
        labels.get(uncovered, ignore_index),
        described.overlap,
    )
    parents = {
        numbers[name]: [numbers[child] for child in several]
        for name, several in described.parents.items()
    }
    return DatasetDescription(kept, ignore_index), legend, parents


def _shows(shape: Shape, size: tuple[int, int] | None) -> bool:
    """Return whether a shape has a part in its image."""
    height, width = size or (1, 1)
    if shape.bitmap is not None:
        (top, left), (rows, columns) = shape.bitmap.place, shape.bitmap.size
        return top < height and left < width and top + rows > 0 and left + columns > 0
    low, high = (np.stack([f(ring, 0) for ring in shape.outlines]) for f in (np.min, np.max))
    return bool(((low < (width, height)) & (high > 0)).all(1).any())
