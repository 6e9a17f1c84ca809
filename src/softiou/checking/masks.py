"""Checks of one mask file beyond its classes, and what its numbers may mean.

Shapes: H and W in pixels.
"""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
from PIL import Image
from torch import Tensor

from softiou.checking.images import UPRIGHT, ImageCheck, explain_unreadable, orientation_of
from softiou.data.base import Colour, DatasetDescription
from softiou.data.drawings import Drawing
from softiou.data.folder import size_problem
from softiou.data.problems import DataProblemsError, Problem, warning
from softiou.data.reading import SWAPPED, MaskReader, grey_step, opened

_LOSSY = frozenset({"JPEG", "MPO"})
_FULL_SCALE = (255, 65535)  # what 1 becomes when a mask is saved as a picture, by depth
_FIX = "`softiou check DATA --fix OUT` does it."


@dataclass(frozen=True)
class MaskCheck:
    """What one mask file holds."""

    target: Tensor | None  # class indices and `ignore_index` (H, W); None when it cannot be used
    # the distinct numbers in the file, if it holds numbers rather than colours
    values: tuple[int, ...]
    problems: tuple[Problem, ...]  # errors and warnings


def check_mask(path: Path | Drawing, reader: MaskReader) -> MaskCheck:
    """Read a mask once, and collect its problems."""
    values: tuple[int, ...] = ()
    problems: list[Problem] = []
    try:
        if isinstance(path, Drawing):
            target = reader.read(path)
        else:
            with opened(path) as image:
                image.load()
                values = _values(image, reader)
                problems += _storage_warnings(path, image)
                target = reader.decode(path, image)
                if image.mode == "P" and reader.colours is not None:
                    problems += _palette_warnings(path, image, values, reader, reader.colours)
    except DataProblemsError as error:
        if not isinstance(path, Drawing):
            return MaskCheck(None, values, explain_unreadable(path, error))
        unread = error.problems[0].kind == "unreadable"  # the image, whose check says so
        return MaskCheck(None, values, () if unread else error.problems)
    if (target == reader.description.ignore_index).all():
        message = "All pixels of the mask are ignored."
        remedy = "Leave the image out, or check `ignore_index` and `label_map` in dataset.yaml."
        problems.append(warning(str(path), "ignored_image", message, remedy))
    return MaskCheck(target, values, tuple(problems))


def check_size(
    path: Path | Drawing, size: tuple[int, ...], image: Path, found: ImageCheck
) -> list[Problem]:
    """Check that a mask of size (H, W) fits its image, which EXIF may have rotated."""
    problem = size_problem(path, size, image, found.size)
    if problem is None:
        return [] if found.orientation == UPRIGHT else [_rotated(path, image, found)]
    if found.orientation in SWAPPED and size == found.stored_size:
        message = f"The EXIF orientation {found.orientation} of {image.name} rotates it upright, "
        message += "but the mask fits the image as it is stored."
        remedy = f"Rotate the masks like their images: {_FIX}"
        return [Problem(str(path), message, remedy, kind="exif_rotation")]
    if differ_by_whole_factor(size, found.size):
        remedy = f"Scale the masks by a whole number with nearest neighbour: {_FIX}"
        problem = replace(problem, remedy=remedy)
    return [problem]


def differ_by_whole_factor(size: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Return whether one size is a whole multiple of the other, the same for both sides."""
    (height, width), (other_height, other_width) = sorted((size, other))
    factor, rest = divmod(other_height, height)
    return rest == 0 and factor > 1 and other_width == factor * width


def _rotated(path: Path | Drawing, image: Path, found: ImageCheck) -> Problem:
    """Report a rotated image with a mask of its size, and whether the mask fits for sure."""
    message = f"{image.name} has the EXIF orientation {found.orientation} and is read upright"
    height, width = found.size
    if found.orientation in SWAPPED and height != width:
        message += "; the mask fits the upright image."
        return Problem(str(path), message, "Nothing to do.", "note", kind="exif_rotation")
    message += "; the sizes do not show whether the mask is upright, too."
    remedy = "Look at a few: does the mask lie on the image as it is displayed?"
    return warning(str(path), "exif_rotation", message, remedy)


def _values(image: Image.Image, reader: MaskReader) -> tuple[int, ...]:
    """Return the distinct numbers of a mask, in order; none when it holds colours."""
    while reader.colours is None and (simpler := with_fewer_channels(image)):
        image, _ = simpler
    if image.mode in ("L", "P"):
        step = grey_step(image)
        return tuple(value // step for value, count in enumerate(image.histogram()) if count)
    if image.mode == "1" or image.mode.startswith("I"):
        return tuple(np.unique(np.asarray(image)).astype(int).tolist())
    return ()


def with_fewer_channels(stored: Image.Image) -> tuple[Image.Image, str] | None:
    """Return the same mask with fewer channels, and how; None where that would lose something.

    Transparency that is opaque everywhere goes first, then two of three equal channels.
    """
    if stored.mode in ("LA", "RGBA") and stored.getchannel("A").getextrema() == (255, 255):
        return stored.convert(stored.mode[:-1]), "alpha dropped"
    if stored.mode == "RGB":
        red, green, blue = (stored.getchannel(channel).tobytes() for channel in "RGB")
        if red == green == blue:
            return stored.getchannel("R"), "equal channels joined"
    return None


def _storage_warnings(path: Path, image: Image.Image) -> Iterator[Problem]:
    """Warn about how a mask is stored."""
    if image.format in _LOSSY:
        message = "The mask is a JPEG file, which changes the numbers near every border."
        remedy = "Save masks as PNG, from the original annotation."
        yield warning(path, "jpeg_mask", message, remedy)
    orientation = orientation_of(image)
    if orientation != UPRIGHT:
        message = f"The mask has the EXIF orientation {orientation}; masks are read as stored."
        remedy = "Save it without the tag, as it lies on its image."
        yield warning(path, "exif_mask", message, remedy)


def _palette_warnings(
    path: Path,
    image: Image.Image,
    values: tuple[int, ...],
    reader: MaskReader,
    colours: Mapping[Colour, int],
) -> Iterator[Problem]:
    """Warn when the numbers give other classes than their colours in the palette."""
    palette = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    named = {
        value: colours.get(tuple(palette[value].tolist()))
        for value in values
        if value < len(palette)
    }
    if len(named) < 2 or None in named.values():
        return  # the colours are not those of the data set: a palette for viewing
    for value, by_colour in named.items():
        if reader.class_of(value) != by_colour:
            message = f"By number, {value} is class {reader.class_of(value)}, but in the palette "
            message += f"of the file it has the colour of class {by_colour}."
            remedy = "Masks are read by number: if the colours are right, save them as RGB."
            yield warning(path, "palette_order", message, remedy)
            return


def infer_label_map(
    values: Iterable[int], description: DatasetDescription
) -> dict[int, int] | None:
    """Return the `label_map` that the numbers of all masks imply, if there is only one.

    It is 0 and 255 (or 65535) for two classes, where no other number occurs; or 1 to C for C
    classes, where C occurs and 0 does not. Masks with both 0 and C are ambiguous: the name of a
    class may be missing, or 0 may mean unlabelled. So are masks where `ignore_index` is the number
    of a class: every way to renumber would have that class ignored.
    Returns None when there is nothing to repair, or more than one way.

    Example:
        >>> two = DatasetDescription(("ground", "box"))
        >>> maps = [infer_label_map(v, two) for v in ({0, 255}, {1, 2, 255}, {0, 1, 2})]
        >>> maps
        [{0: 0, 255: 1}, {1: 0, 2: 1}, None]
    """
    found, last = set(values), description.num_classes
    if description.ignores_a_class:
        return None
    for full in _FULL_SCALE:
        if last == 2 and found == {0, full}:
            return {0: 0, full: 1}
    labelled = found - {description.ignore_index}
    if last in labelled and min(labelled) == 1 and max(labelled) == last:
        return {value: value - 1 for value in range(1, last + 1)}
    return None
