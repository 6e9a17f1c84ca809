"""What a check learns from an image file beyond its pixels.

Shapes: H and W in pixels.
"""

import hashlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ExifTags import Base

from softiou.data.problems import DataProblemsError, Problem
from softiou.data.reading import decode_image, opened

UPRIGHT = 1
_DARK = 2**12  # the largest value of many cameras and scanners plus one
_DIGEST_BYTES = 16


@dataclass(frozen=True)
class Picture:
    """What one image file holds.

    Attributes:
        size: (H, W) as training sees it, upright.
        stored_size: (H, W) before the EXIF orientation is applied.
        orientation: The EXIF tag, 1 when the picture is stored upright.
        digest: Equal for equal pixels; None for a picture of one colour.
        problems: Warnings.
    """

    size: tuple[int, int]
    stored_size: tuple[int, int]
    orientation: int
    digest: bytes | None
    problems: tuple[Problem, ...]


def look_at_picture(path: Path) -> Picture:
    """Decode an image as training will.

    Raises:
        DataError: It cannot be decoded; the message names the likely cause.
    """
    try:
        with opened(path) as image:
            orientation = orientation_of(image)
            stored_size = image.height, image.width
            suspicions = _suspicions(path, image)
            pixels = decode_image(path, image)
    except DataProblemsError as error:
        raise DataProblemsError(*explained(path, error)) from error
    digest = _digest(pixels)
    if digest is None:
        suspicions.append(_blank(path, pixels))
    height, width = pixels.shape[:2]
    return Picture((height, width), stored_size, orientation, digest, tuple(suspicions))


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 when there is none or it makes no sense."""
    orientation = image.getexif().get(Base.Orientation, UPRIGHT)
    return orientation if orientation in range(1, 9) else UPRIGHT


def explained(path: Path, error: DataProblemsError) -> tuple[Problem, ...]:
    """Return the findings of an error; for what is no image at all, with what it is instead."""
    if error.problems[0].kind != "unreadable":
        return error.problems
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError:  # a broken link, a folder: the error says so
        return error.problems
    if not start:
        message, remedy = "The file is empty.", "Copy or download it again."
    elif start.startswith(b"version https://git-lfs"):
        message = "Expected an image, but this is a pointer of Git LFS to one."
        remedy = "Fetch the files themselves: `git lfs pull`."
    elif start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        message = "Expected an image, but this is a web page, perhaps the answer to a download."
        remedy = "Download it again, logged in where that is asked for."
    else:
        return error.problems
    return (Problem(str(path), message, remedy, kind="unreadable"),)


def _suspicions(path: Path, image: Image.Image) -> list[Problem]:
    """Warn about pixels that training sees otherwise than a person does."""
    found = []
    if image.has_transparency_data and np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
        message = "The image is transparent in places; training sees the colours underneath."
        remedy = "Where that is not meant, paste it onto a background and save it as RGB."
        found.append(Problem(str(path), message, remedy, "warning", kind="image_alpha"))
    if image.mode.startswith("I"):
        values = np.asarray(image)
        lowest, highest = values.min(), values.max()
        if lowest >= 0 and highest < _DARK:
            message = f"The 16-bit image uses the values {lowest}..{highest} of 0..65535 only."
            remedy = "Scaled to 8 bits it is next to black: stretch the values, save 8-bit images."
            found.append(Problem(str(path), message, remedy, "warning", kind="image_16_bit"))
    return found


def _digest(pixels: NDArray[np.uint8]) -> bytes | None:
    """Hash size and pixels (H, W, 3); blank pictures, equal by their nature, have no digest."""
    if (pixels[0] == pixels[0, 0]).all() and (pixels == pixels[0, 0]).all():
        return None
    shape = np.array(pixels.shape, np.int64).tobytes()
    digest = hashlib.blake2b(shape, digest_size=_DIGEST_BYTES)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()


def _blank(path: Path, pixels: NDArray[np.uint8]) -> Problem:
    colour = tuple(pixels[0, 0].tolist())
    message = f"Every pixel of the image has the colour {colour}."
    remedy = "Nothing can be learnt from it: replace it or leave it out."
    return Problem(str(path), message, remedy, "warning", kind="blank_image")
