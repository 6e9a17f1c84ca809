"""Fast decoding of 8-bit JPEG and PNG files up to the rows of a window, equal to Pillow's.

Uses simplejpeg, isal or zlib, and native.c; Pillow decodes other files. Shapes: B bands, H, W.
"""

import re
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass
from importlib import import_module
from importlib.util import find_spec
from typing import Any, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from PIL.ExifTags import Base
from torch import Tensor

from softiou.data import native
from softiou.data.bands import BandImage

try:  # there is no wheel for every platform
    import simplejpeg
except ImportError:
    simplejpeg = None
inflating: Any = import_module("isal.isal_zlib" if find_spec("isal") else "zlib")

DAMAGED: tuple[Any, ...] = (ValueError, zlib.error, inflating.error)
_BANDS = {"L": 1, "P": 1, "RGB": 3}
_MORE = {"exif", "Raw profile type exif", "XML:com.adobe.xmp", "transparency", "interlace"}  # info


@dataclass(frozen=True)
class StoredImage:
    """An image file (B, H, W) whose windows image[..., rows, columns] are decoded lazily, uint8."""

    shape: tuple[int, int, int]
    rows: Callable[[int], NDArray[np.uint8]]  # decodes at least this number of rows to (h, W, B)
    whole: "Callable[[], Picture] | None" = None  # decodes with Pillow after an error

    def __getitem__(self, place: tuple[Any, ...]) -> Tensor:
        """Decode a window, but no rows below it; `place` is (..., rows, columns)."""
        try:
            pixels = self.rows(place[-2].indices(self.shape[1])[1])
        except DAMAGED:
            if self.whole is None:
                raise
            return self.whole()[place]
        return torch.from_numpy(pixels).permute(2, 0, 1)[place]  # (h, W, B) -> (B, h, W)


Picture: TypeAlias = Tensor | BandImage | StoredImage


def open_jpeg(image: Any) -> StoredImage | None:
    """Return a lazy decoder of an opened image if it is an upright RGB JPEG, otherwise None."""
    upright = image.format == "JPEG" and image.getexif().get(Base.Orientation, 1) == 1
    if simplejpeg is None or image.mode != "RGB" or not upright or image.fp is None:
        return None
    image.fp.seek(0)
    raw, height = image.fp.read(), image.height
    size = re.escape(struct.pack(">HH", height, image.width))
    has_end = b"\xff\xd9" in raw[-64:]  # Pillow reports truncated files
    frame = re.search(rb"\xff[\xc0-\xc2]\0\x11\x08" + size, raw) if has_end else None

    def rows(count: int) -> NDArray[np.uint8]:
        content, part = raw, False
        if frame:  # reduce the height in the header to decode fewer rows
            block = 8 * max(raw[frame.end() + 2 + 3 * band] & 15 for band in range(3))
            fewer = (-(-count // block) + 1) * block  # chroma is interpolated between rows
            if part := fewer < height:
                place = frame.start() + 5
                content = raw[:place] + fewer.to_bytes(2) + raw[place + 2 :]
        # Data after the last row are an error in strict mode; Pillow ignores them as well.
        return np.asarray(simplejpeg.decode_jpeg(content, strict=not part))

    return StoredImage((3, height, image.width), rows)


def open_png(image: Any) -> StoredImage | None:
    """Return a lazy decoder of an opened image if it is a plain PNG, otherwise None."""
    bands, file = _BANDS.get(image.mode), getattr(image, "fp", None)  # copies have no file
    plain = image.format == "PNG" and image.tile and image.tile[0][3] == image.mode
    if not (bands and file and plain) or _MORE & {*image.info}:
        return None
    file.seek(image.tile[0][2] - 8)
    data, behind = png_data(file.read(), 0)
    shape = bands, _, width = (bands, image.height, image.width)

    def rows(count: int) -> NDArray[np.uint8]:
        count = max(1, count)  # 0 means no limit for zlib
        filtered = inflating.decompressobj().decompress(data, count * (1 + bands * width))
        return native.unfiltered(filtered, (count, width, bands))

    return StoredImage(shape, rows) if behind == b"IEND" else None  # other chunks may be EXIF


def png_data(content: bytes, place: int) -> tuple[bytes, bytes]:
    """Join the IDAT chunks from an offset on; also return the type of the next chunk."""
    parts = []
    while (kind := content[place + 4 : place + 8]) == b"IDAT":
        end = place + 8 + int.from_bytes(content[place : place + 4])
        parts.append(content[place + 8 : end])
        place = end + 4
    return b"".join(parts), kind
