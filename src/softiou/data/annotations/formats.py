"""The annotation formats by name, and their common layout."""

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

_OF_IMAGES = {"images", "image", "img"}  # folders preferred among images with the same name


@dataclass(frozen=True)
class Format:
    """How to find and read the files of a format.

    Attributes:
        read: Reads a file; takes the class names as well if `names` is set.
        patterns: Glob patterns; the first one with a match is used.
        of_each: Whether each image has its own file.
        names: Returns the class names listed in the folder.
        masks: Whether a folder named like each file has masks; uncovered pixels are ignored.
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
# Files that identify a format.
SIGNS = {
    **dict.fromkeys(_COCO[:2], "coco"),
    _PANOPTIC[0]: "coco-panoptic",
    **dict.fromkeys(("labels/*.txt", "*/labels/*.txt", "labels/*/*.txt"), "yolo"),
    "annotations.xml": "cvat",
    **dict.fromkeys(FORMATS["supervisely"].patterns, "supervisely"),
}


@dataclass
class _Contents:
    """The contents of all annotation files of a folder, and their problems."""

    images: dict[str, dict[str, tuple[Path, Path, AnnotatedImage]]] = field(default_factory=dict)
    names: dict[str, None] = field(default_factory=dict)  # class names, in order
    used: set[str] = field(default_factory=set)
    left_out: Counter[str] = field(default_factory=Counter)
    problems: list[Problem] = field(default_factory=list)


class AnnotationLayout(Layout):
    """Layout of images with annotation files of any format.

    The split of an image is stated in its file, or is the name of the file or of a folder (train,
    val or test); otherwise it is train. Images are searched by name in all folders.

    Args:
        name: Name of the format.
        root: Folder of the files, or a single file.
        described: Contents of dataset.yaml: classes, overlap and groups of classes.

    Raises:
        DataError: There are no such files, or the classes do not match.
    """

    split_form = "annotations in a file or folder named {split}"
    pairing = "Annotate the image, or remove it."

    def __init__(self, name: str, root: Path, described: AnnotationFile) -> None:
        self.name = name
        self.root = root.parent if root.is_file() else root
        files = (root,) if root.is_file() else _files(name, root)
        found = _contents(name, self.root, files, fingerprint(files))
        try:
            description, legend, parents = _legend(found, described)
        except ValueError as error:
            raise data_error(root, f"{error}.", "Correct dataset.yaml.") from error
        self.reader = MaskReader(description, label_map={}, parents=parents)
        self._problems = tuple(found.problems)
        left_out = found.left_out + Counter()  # drops zero counts
        self.drawings = drawings = dict[str, dict[str, Drawing]]()
        for split, images in found.images.items():
            drawings[split] = {}
            for stem, (file, path, image) in images.items():
                shapes = tuple(one for one in image.shapes if _shows(one, image.size))
                left_out["shapes outside their image"] += len(image.shapes) - len(shapes)
                drawings[split][stem] = Drawing(file, path, image.size, shapes, legend)
        self.splits = tuple(found.images)
        if kinds := [f"{count} {kind}" for kind, count in sorted(left_out.items()) if count]:
            self.note = f"not drawn: {', '.join(kinds)}"
        if not any(drawing.shapes for images in drawings.values() for drawing in images.values()):
            found_instead = f"found none in any image{self.note and ': '}{self.note}"
            message = f"Expected polygons or masks, but {found_instead}."
            raise data_error(root, message, "Export polygons or masks; boxes are not sufficient.")

    def images(self, split: str) -> Files:
        """Return the images of a split, with the problems of all files."""
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
    instead = "none" if root.is_dir() else "neither a folder nor a file"
    message = f"Expected annotation files ({', '.join(patterns)}), but found {instead}."
    raise data_error(root, message, f"Write the path of the folder or file as {name}:/path.")


@lru_cache(maxsize=4)
def _contents(name: str, root: Path, files: tuple[Path, ...], version: str) -> _Contents:
    """Read all files; the result is cached until `version` changes."""
    del version
    found, one = _Contents(), FORMATS[name]
    images = _ImageIndex(root, {file.with_suffix("") for file in files if one.masks})
    broken: list[Problem] = []
    try:
        names = (one.names(root),) if one.names else ()
    except (OSError, ValueError) as error:
        raise data_error(
            root, f"The names of the classes: {error}.", "Correct the file."
        ) from error
    for file in files:
        try:
            content = one.read(file, *names)
        except (OSError, ValueError) as error:
            message = f"Not a file of the format {name}: {error}."
            broken.append(Problem(str(file), message, "Export the file again, or correct it."))
            continue
        found.names |= dict.fromkeys(content.names)
        found.left_out += content.left_out
        _add(found, file, content, images, stated=one.of_each)
    found.names |= dict.fromkeys(sorted(found.used))
    if not (found.images or broken or found.problems):
        message = "Expected annotated images, but found none."
        broken.append(Problem(str(root), message, "Export the images with the annotations."))
    if broken or not found.images:
        raise DataProblemsError(*broken, *found.problems)
    return found


def _add(
    found: _Contents, file: Path, content: Annotations, images: "_ImageIndex", *, stated: bool
) -> None:
    """Add the images of an annotation file that are found on disk."""
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
        message = f"Images that are missing or ambiguous: {some_stems(missing)}."
        remedy = "Copy them to the folder of the file, or remove them from the file."
        found.problems.append(Problem(str(file), message, remedy, kind="unmatched"))
    if twice:
        message = f"Expected one image per stem and split, but found several: {some_stems(twice)}."
        found.problems.append(Problem(str(file), message, "Rename all but one.", kind="stems"))


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
        """Return the image of a name; of several, the one whose folders match best.

        `near` is the annotation file, relative to the root. Label Studio adds a prefix to uploads.
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
    """Return the classes, the legend of the shapes, and the children of each parent."""
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
            f"Expected only shapes of `classes`, but found {', '.join(unknown)}: list them in "
            "classes, merge, drop or ignore"
        )
    if uncovered not in ("ignore", *classes):
        raise ValueError(
            f"Expected `uncovered`, the class of uncovered pixels, to be ignore or one of "
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
    """Return whether a shape intersects its image."""
    height, width = size or (1, 1)
    if shape.bitmap is not None:
        (top, left), (rows, columns) = shape.bitmap.place, shape.bitmap.size
        return top < height and left < width and top + rows > 0 and left + columns > 0
    low, high = (np.stack([f(ring, 0) for ring in shape.outlines]) for f in (np.min, np.max))
    return bool(((low < (width, height)) & (high > 0)).all(1).any())
