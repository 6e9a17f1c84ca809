"""Check a single mask file, and infer the meaning of its values.

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
_FULL_SCALE = (255, 65535)  # the value 1 scaled to the full range of 8 and 16 bits
_FIX = "`softiou check DATA --fix OUT` does this."


@dataclass(frozen=True)
class MaskCheck:
    """The result of checking a mask file."""

    target: Tensor | None  # class indices and `ignore_index` (H, W); None after an error
    # distinct values in the file; empty for colours
    values: tuple[int, ...]
    problems: tuple[Problem, ...]  # errors and warnings


def check_mask(path: Path | Drawing, reader: MaskReader) -> MaskCheck:
    """Read a mask, and collect its problems."""
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
        unread = error.problems[0].kind == "unreadable"  # reported by the check of the image
        return MaskCheck(None, values, () if unread else error.problems)
    if (target == reader.description.ignore_index).all():
        message = "All pixels of the mask are ignored."
        remedy = "Remove the image, or check `ignore_index` and `label_map` in dataset.yaml."
        problems.append(warning(str(path), "ignored_image", message, remedy))
    return MaskCheck(target, values, tuple(problems))


def check_size(
    path: Path | Drawing, size: tuple[int, ...], image: Path, found: ImageCheck
) -> list[Problem]:
    """Check that a mask of size (H, W) matches its image, considering EXIF rotation."""
    problem = size_problem(path, size, image, found.size)
    if problem is None:
        return [] if found.orientation == UPRIGHT else [_rotated(path, image, found)]
    if found.orientation in SWAPPED and size == found.stored_size:
        message = f"The EXIF orientation {found.orientation} of {image.name} rotates it upright, "
        message += "but the mask matches the stored image."
        remedy = f"Rotate the masks like their images: {_FIX}"
        return [Problem(str(path), message, remedy, kind="exif_rotation")]
    if differ_by_whole_factor(size, found.size):
        remedy = f"Scale the masks by an integer factor with nearest neighbour: {_FIX}"
        problem = replace(problem, remedy=remedy)
    return [problem]


def differ_by_whole_factor(size: tuple[int, ...], other: tuple[int, ...]) -> bool:
    """Return whether one size is an integer multiple of the other, equal for both sides."""
    (height, width), (other_height, other_width) = sorted((size, other))
    factor, rest = divmod(other_height, height)
    return rest == 0 and factor > 1 and other_width == factor * width


def _rotated(path: Path | Drawing, image: Path, found: ImageCheck) -> Problem:
    """Report a rotated image whose mask has the same size, which may still be unrotated."""
    message = f"{image.name} has the EXIF orientation {found.orientation} and is read upright"
    height, width = found.size
    if found.orientation in SWAPPED and height != width:
        message += "; the mask matches the upright image."
        return Problem(str(path), message, "No action is needed.", "note", kind="exif_rotation")
    message += "; the sizes do not show whether the mask is upright as well."
    remedy = "Check visually that the mask matches the upright image."
    return warning(str(path), "exif_rotation", message, remedy)


def _values(image: Image.Image, reader: MaskReader) -> tuple[int, ...]:
    """Return the sorted distinct values of a mask; empty for colours."""
    while reader.colours is None and (simpler := with_fewer_channels(image)):
        image, _ = simpler
    if image.mode in ("L", "P"):
        step = grey_step(image)
        return tuple(value // step for value, count in enumerate(image.histogram()) if count)
    if image.mode == "1" or image.mode.startswith("I"):
        return tuple(np.unique(np.asarray(image)).astype(int).tolist())
    return ()


def with_fewer_channels(stored: Image.Image) -> tuple[Image.Image, str] | None:
    """Return a mask with fewer channels and the step applied; None if that loses information.

    A fully opaque alpha channel is dropped first; then equal channels are merged.
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
        message = "The mask is a JPEG file, which changes values near every border."
        remedy = "Save masks as PNG, from the original annotation."
        yield warning(path, "jpeg_mask", message, remedy)
    orientation = orientation_of(image)
    if orientation != UPRIGHT:
        message = f"The mask has the EXIF orientation {orientation}; masks are read as stored."
        remedy = "Save it without the tag, aligned with its image."
        yield warning(path, "exif_mask", message, remedy)


def _palette_warnings(
    path: Path,
    image: Image.Image,
    values: tuple[int, ...],
    reader: MaskReader,
    colours: Mapping[Colour, int],
) -> Iterator[Problem]:
    """Warn if the values mean other classes than their palette colours."""
    palette = np.array(image.getpalette("RGB") or [], np.uint8).reshape(-1, 3)
    named = {
        value: colours.get(tuple(palette[value].tolist()))
        for value in values
        if value < len(palette)
    }
    if len(named) < 2 or None in named.values():
        return  # not the colours of the data set, so a palette for viewing
    for value, by_colour in named.items():
        if reader.class_of(value) != by_colour:
            message = f"The value {value} means class {reader.class_of(value)}, but its palette "
            message += f"colour is that of class {by_colour}."
            remedy = "Masks are read by value: if the colours are right, save them as RGB."
            yield warning(path, "palette_order", message, remedy)
            return


def infer_label_map(
    values: Iterable[int], description: DatasetDescription
) -> dict[int, int] | None:
    """Return the only `label_map` that is consistent with the values of all masks, or None.

    The map is for 0 and 255 (or 65535) with two classes, if no other value occurs; or for 1 to C
    with C classes, if C occurs and 0 does not. Masks with both 0 and C are ambiguous: the name of a
    class may be missing, or 0 may mean unlabelled. Masks are also ambiguous if `ignore_index` is
    the index of a class, because that class would be ignored.

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
