"""The result of reading an annotation file, and common parsing functions.

Readers raise ValueError with the reason; the layout adds the file and the remedy.
"""

import base64
import binascii
import io
import zlib
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, TypeVar
from xml.etree import ElementTree

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from softiou._reading import MOST_JSON_BYTES, read_json, read_text
from softiou.data.drawings import Bitmap, Ring, Shape

T = TypeVar("T")
IGNORED = None  # name of a shape whose pixels are ignored
_LARGEST = 1e6  # pixels; larger coordinates in float32 are not exact to 1/16
_MOST_PX = 1 << 30
_KINDS = {dict: "an object", list: "a list", str: "a text", int: "a whole number"}


@dataclass(frozen=True)
class AnnotatedImage:
    """The shapes of one image."""

    name: str  # its name or path in the file; the suffix may be missing
    size: tuple[int, int] | None  # (H, W); None if coordinates are relative to the image size
    shapes: tuple[Shape, ...]  # in drawing order
    split: str = ""  # as stated in the file, or ""


@dataclass
class Annotations:
    """The contents of an annotation file."""

    images: list[AnnotatedImage] = field(default_factory=list)  # in any order
    names: tuple[str, ...] = ()  # class names that the file lists, in order
    # number of shapes that are not drawn, by kind
    left_out: Counter[str] = field(default_factory=Counter)

    def shape(
        self, name: str | None, outlines: Iterable[Ring], holes: Iterable[Ring] = ()
    ) -> list[Shape]:
        """Return a list with the shape; empty if it has no area."""
        kept = tuple(ring for ring in outlines if _has_area(ring))
        self.left_out["shapes without area"] += not kept
        return [Shape(name, kept, tuple(filter(_has_area, holes)))] if kept else []


def json_of(path: Path, kind: type[T]) -> T:
    """Return the content of a JSON file; raise unless it is an object or a list, as `kind` says."""
    content = read_json(path)
    if not isinstance(content, kind):
        raise ValueError(f"expected {_KINDS[kind]}, but found {_shown(content)}")
    return content


def xml_of(path: Path) -> ElementTree.Element:
    """Return the root of an XML file; raise if it defines entities."""
    text = read_text(path, most_bytes=MOST_JSON_BYTES)
    if "<!DOCTYPE" in text or "<!ENTITY" in text:
        raise ValueError("expected XML without DOCTYPE and entities, but found one")
    try:
        return ElementTree.fromstring(text)
    except ElementTree.ParseError as error:
        raise ValueError(f"not XML: {error}") from error


def entry(values: Any, key: str, kind: type[T], where: str) -> T:
    """Return an entry of an object; raise unless it has the expected type."""
    value = values.get(key) if isinstance(values, dict) else None
    if not isinstance(value, kind) or isinstance(value, bool):
        raise ValueError(
            f"{where}: expected `{key}` to be {_KINDS[kind]}, but found {_shown(value)}"
        )
    return value


def size_of(values: Any, height: str, width: str, where: str) -> tuple[int, int]:
    """Return the size (H, W) stated in an object."""
    size = entry(values, height, int, where), entry(values, width, int, where)
    if min(size) < 1 or size[0] * size[1] > _MOST_PX:
        raise ValueError(
            f"{where}: expected a size of 1 to 2^30 pixels, but found {size[1]}x{size[0]}"
        )
    return size


def ring(points: Any, where: str, scale: tuple[float, float] = (1, 1)) -> Ring:
    """Convert points [x, y, x, y, ...] or [[x, y], ...] to a scaled array (P, 2)."""
    try:
        found = np.asarray(points, np.float64).reshape(-1, 2) * scale
    except (TypeError, ValueError, OverflowError):
        raise ValueError(
            f"{where}: expected pairs of numbers, but found {_shown(points)}"
        ) from None
    if not (np.abs(found) <= _LARGEST).all():
        wrong = found[~(np.abs(found) <= _LARGEST)][0]
        raise ValueError(f"{where}: expected points in pixels, but found {wrong:g}")
    return found.astype(np.float32)


def rectangle(x0: float, y0: float, x1: float, y1: float) -> list[list[float]]:
    """Return the corners of a rectangle."""
    return [[x0, y0], [x1, y0], [x1, y1], [x0, y1]]


def bitmap(
    runs: Sequence[int] | NDArray[np.int64],
    size: tuple[int, int],
    where: str,
    place: tuple[int, int] = (0, 0),
    *,
    by_columns: bool = False,
) -> Bitmap:
    """Return a bitmap of run lengths; raise unless their sum is the number of pixels."""
    try:
        lengths = np.asarray(runs, np.int64).reshape(-1)
    except (TypeError, ValueError, OverflowError):
        raise ValueError(f"{where}: expected run lengths, but found {_shown(runs)}") from None
    total, pixels = int(lengths.clip(-1, _MOST_PX).sum()), size[0] * size[1]
    if (lengths < 0).any() or total != pixels:
        raise ValueError(
            f"{where}: expected non-negative run lengths with the sum {size[1]}x{size[0]} = "
            f"{pixels}, but their sum is {total}"
        )
    return Bitmap(lengths, size, place, by_columns)


def picture(
    data: str, where: str, most: tuple[int, int], *, packed: bool = False
) -> NDArray[np.bool_]:
    """Return the pixels of a Base64 PNG that are not 0 (or not transparent), bool (H, W).

    `most` is the largest allowed size (H, W). If `packed`, the PNG is also compressed by zlib.
    """
    try:
        content = base64.b64decode(data, validate=True)
        if packed:
            content = zlib.decompressobj().decompress(content, 4 * most[0] * most[1] + (1 << 16))
        with Image.open(io.BytesIO(content), formats=["PNG"]) as image:
            if image.height > most[0] or image.width > most[1]:
                sizes = f"{most[1]}x{most[0]}, but found {image.width}x{image.height}"
                raise ValueError(f"{where}: expected at most {sizes}")
            found = image.getchannel("A") if "A" in image.getbands() else image.getchannel(0)
            return np.asarray(found) > 0
    except (binascii.Error, zlib.error, OSError, SyntaxError) as error:
        raise ValueError(f"{where}: expected a PNG in Base64 ({error})") from error


def _has_area(points: Ring) -> bool:
    """Return whether an outline has at least three points that are not on one line."""
    if len(points) < 3:
        return False
    x, y = (points - points[0]).astype(np.float64).T
    # Without abs, the sum could be 0 for a self-intersecting outline.
    return bool(np.abs(x[:-1] * y[1:] - x[1:] * y[:-1]).sum() > 0)


def _shown(value: object) -> str:
    """Return a value as text, shortened to 60 characters."""
    text = "nothing" if value is None else repr(value)
    return text if len(text) <= 60 else f"{text[:57]}..."
