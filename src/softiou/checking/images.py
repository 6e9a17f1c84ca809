"""Check a single image file.

Shapes: H and W in pixels.
"""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from PIL.ExifTags import Base

from softiou.data.bands import BandImage, Bands, missing
from softiou.data.problems import DataProblemsError, Problem, warning
from softiou.data.reading import decode_image, opened

UPRIGHT = 1
_DIGEST_BYTES = 16
_ROWS = 512  # rows of bands read at a time


@dataclass(frozen=True)
class ImageCheck:
    """The result of checking an image file."""

    size: tuple[int, int]  # (H, W) as in training: upright
    stored_size: tuple[int, int]  # (H, W) before the EXIF orientation is applied
    orientation: int  # EXIF orientation; 1 if stored upright
    digest: bytes | None  # hash of the pixels; None for an image of one colour
    problems: tuple[Problem, ...]  # warnings


def check_image(path: Path, bands: Bands | None = None) -> ImageCheck:
    """Decode an image as in training."""
    try:
        if bands is not None:
            return _check_bands(BandImage(path, bands))
        with opened(path) as image:
            orientation = orientation_of(image)
            stored_size = image.height, image.width
            pixels = decode_image(path, image)
            problems = [*_value_warnings(path, image)]
    except DataProblemsError as error:
        raise DataProblemsError(*explain_unreadable(path, error)) from error
    digest = _digest(pixels)
    if digest is None:
        problems.append(_blank(path, pixels[0, 0].tolist()))
    height, width = pixels.shape[:2]
    return ImageCheck((height, width), stored_size, orientation, digest, tuple(problems))


def _check_bands(image: BandImage) -> ImageCheck:
    """Check an image of bands, some rows at a time."""
    _, *size = image.shape
    digest, first = hashlib.blake2b(f"{image.shape}".encode(), digest_size=_DIGEST_BYTES), None
    blank, found = True, 0
    for top in range(0, size[0], _ROWS):
        pixels = image[:, slice(top, top + _ROWS)]
        first = pixels[:, :1, :1] if first is None else first
        blank = blank and bool((pixels == first).logical_or_(pixels.isnan()).all())
        found += int((~missing(pixels)).sum())
        digest.update(pixels.contiguous().numpy().data)
    problems = [_blank(image.path, first.flatten().tolist())] if blank and first is not None else []
    if 0 < found < size[0] * size[1]:
        share = 1 - found / (size[0] * size[1])
        message = f"{share:.1%} of the pixels are missing (NaN or nodata) and ignored."
        problems.append(
            Problem(str(image.path), message, "No action is needed.", "note", "no_value")
        )
    own = None if blank else digest.digest()
    return ImageCheck((size[0], size[1]), (size[0], size[1]), UPRIGHT, own, tuple(problems))


def _blank(path: Path, colour: list[float]) -> Problem:
    message = f"Every pixel of the image has the colour {tuple(colour)}."
    remedy = "The image is useless for training: replace or remove it."
    return warning(path, "blank_image", message, remedy)


def orientation_of(image: Image.Image) -> int:
    """Return the EXIF orientation, 1 to 8; 1 if it is missing or invalid."""
    orientation = image.getexif().get(Base.Orientation, UPRIGHT)
    return orientation if orientation in range(1, 9) else UPRIGHT


def explain_unreadable(path: Path, error: DataProblemsError) -> tuple[Problem, ...]:
    """Return the problems of an error, with an explanation for files that are not images."""
    if error.problems[0].kind != "unreadable":
        return error.problems
    try:
        with path.open("rb") as file:
            start = file.read(64)
    except OSError:  # a broken link or a folder: the error explains it
        return error.problems
    if not start:
        message, remedy = "The file is empty.", "Copy or download it again."
    elif start.startswith(b"version https://git-lfs"):
        message = "Expected an image, but this is a Git LFS pointer to one."
        remedy = "Fetch the files themselves: `git lfs pull`."
    elif start.lstrip().lower().startswith((b"<!doctype", b"<html", b"<?xml")):
        message = "Expected an image, but this is a web page, perhaps from a failed download."
        remedy = "Download it again; log in if the site requires it."
    else:
        return error.problems
    return (Problem(str(path), message, remedy, kind="unreadable"),)


def _value_warnings(path: Path, image: Image.Image) -> Iterator[Problem]:
    """Warn about transparent pixels, whose hidden colours are used in training."""
    if image.has_transparency_data and np.asarray(image.convert("RGBA"))[..., 3].min() < 255:
        message = "The image is partly transparent; training uses the colours underneath."
        remedy = "If this is not intended, paste it onto a background and save it as RGB."
        yield warning(path, "image_alpha", message, remedy)


def _digest(pixels: NDArray[np.uint8]) -> bytes | None:
    """Return a hash of size and pixels (H, W, 3); None for an image of one colour."""
    if (pixels[0] == pixels[0, 0]).all() and (pixels == pixels[0, 0]).all():
        return None
    shape = np.array(pixels.shape, np.int64).tobytes()
    digest = hashlib.blake2b(shape, digest_size=_DIGEST_BYTES)
    digest.update(np.ascontiguousarray(pixels).data)
    return digest.digest()
