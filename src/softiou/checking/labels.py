"""What a check learns from a mask file beyond its classes.

Shapes: H and W in pixels.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from softiou.checking.channels import simpler
from softiou.checking.pictures import UPRIGHT, Picture, explained, orientation_of
from softiou.data.base import Colour
from softiou.data.folder import size_problem
from softiou.data.problems import DataProblemsError, Problem
from softiou.data.reading import MaskReader, opened

_LOSSY = frozenset({"JPEG", "MPO"})
TURNED = range(5, 9)  # EXIF orientations that swap height and width
_FIX = "`softiou check DATA --fix OUT` does it."


@dataclass(frozen=True)
class Labels:
    """What one mask file holds.

    Attributes:
        target: Class indices and `ignore_index` (H, W); None when it cannot be used.
        values: The distinct numbers in the file, if it holds numbers rather than colours.
        problems: Errors and warnings.
    """

    target: Tensor | None
    values: tuple[int, ...]
    problems: tuple[Problem, ...]


def look_at_labels(path: Path, reader: MaskReader) -> Labels:
    """Read a mask once, whatever is wrong with it."""
    values: tuple[int, ...] = ()
    try:
        with opened(path) as image:
            image.load()
            values = _values(image, reader)
            suspicions = _suspicions(path, image)
            target = reader.decode(path, image)
            if image.mode == "P" and reader.colours is not None:
                suspicions += _palette(path, image, values, reader, reader.colours)
    except DataProblemsError as error:
        return Labels(None, values, explained(path, error))
    if (target == reader.description.ignore_index).all():
        message = "No pixel of the mask counts: all of them are ignored."
        remedy = "Leave the image out, or look at `ignore_index` and `label_map` in dataset.yaml."
        suspicions.append(Problem(str(path), message, remedy, "warning", kind="ignored_image"))
    return Labels(target, values, tuple(suspicions))


def fit(path: Path, size: tuple[int, ...], image: Path, picture: Picture) -> list[Problem]:
    """Say whether a mask of a size (H, W) lies on its image, which may have been turned."""
    if size == picture.size:
        return [] if picture.orientation == UPRIGHT else [_turned(path, image, picture)]
    if picture.orientation in TURNED and size == picture.stored_size:
        message = (
            f"The EXIF orientation {picture.orientation} of {image.name} turns it upright, but "
            "the mask fits the picture as it is stored."
        )
        remedy = f"Turn the masks like their images: {_FIX}"
        return [Problem(str(path), message, remedy, kind="exif_rotation")]
    problem = size_problem(path, size, image, picture.size)
    if problem and whole_factor(size, picture.size):
        remedy = f"Scale the masks by a whole number with nearest neighbour: {_FIX}"
        problem = replace(problem, remedy=remedy)
    return [problem] if problem else []


def whole_factor(size: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Say whether two sizes are the same but for a whole number that both sides share."""
    (height, width), (other_height, other_width) = sorted((size, other))
    factor, rest = divmod(other_height, height)
    return rest == 0 and factor > 1 and other_width == factor * width


def _turned(path: Path, image: Path, picture: Picture) -> Problem:
    """Say of an image that was turned, with a mask of its size, whether it fits for sure."""
    message = f"{image.name} has the EXIF orientation {picture.orientation} and is read upright"
    height, width = picture.size
    if picture.orientation in TURNED and height != width:
        message += "; the mask fits it so."
        return Problem(str(path), message, "Nothing to do.", "note", kind="exif_rotation")
    message += "; the sizes do not tell whether the mask is upright, too."
    remedy = "Look at a few: does the mask lie on the picture as it is displayed?"
    return Problem(str(path), message, remedy, "warning", kind="exif_rotation")


def _values(image: Image.Image, reader: MaskReader) -> tuple[int, ...]:
    """Return the distinct numbers of a mask, in order; none when it holds colours."""
    while reader.colours is None and (form := simpler(image)):
        image, _ = form
    if image.mode in ("L", "P"):
        return tuple(value for value, count in enumerate(image.histogram()) if count)
    if image.mode == "1" or image.mode.startswith("I"):
        return tuple(np.unique(np.asarray(image)).astype(int).tolist())
    return ()


def _suspicions(path: Path, image: Image.Image) -> list[Problem]:
    """Warn about how a mask is stored."""
    found = []
    if image.format in _LOSSY:
        message = "The mask is a JPEG file, which changes the numbers near every border."
        remedy = "Save masks as PNG, from the original annotation."
        found.append(Problem(str(path), message, remedy, "warning", kind="jpeg_mask"))
    orientation = orientation_of(image)
    if orientation != UPRIGHT:
        message = f"The mask has the EXIF orientation {orientation}; masks are read as stored."
        remedy = "Save it without the tag, as it lies on its image."
        found.append(Problem(str(path), message, remedy, "warning", kind="exif_mask"))
    return found


def _palette(
    path: Path,
    image: Image.Image,
    values: tuple[int, ...],
    reader: MaskReader,
    colours: Mapping[Colour, int],
) -> list[Problem]:
    """Warn when numbers say one class and their colours another."""
    palette = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    named = {
        value: colours.get(tuple(palette[value].tolist()))
        for value in values
        if value < len(palette)
    }
    if len(named) < 2 or None in named.values():
        return []  # the colours are none of the data set's: a palette for viewing
    wrong = [value for value, by_colour in named.items() if reader.class_of(value) != by_colour]
    if not wrong:
        return []
    message = (
        f"By number, {wrong[0]} is class {reader.class_of(wrong[0])}, but in the palette of the "
        f"file it has the colour of class {named[wrong[0]]}."
    )
    remedy = "Numbers count: if the colours are right, save the masks as RGB."
    return [Problem(str(path), message, remedy, "warning", kind="palette_order")]
