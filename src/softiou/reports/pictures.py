"""Open the pictures of a run, and convert them for the page: colours, mistakes, data URIs.

Sizes: H, W image height and width.
"""

import base64
from collections.abc import Iterable, Sequence
from io import BytesIO
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from softiou.data.files import FORMATS
from softiou.errors import DataError
from softiou.evaluation.schema import Colour

HATCH_PX = 8
HATCH_DARK, HATCH_LIGHT = (128, 128, 128), (188, 188, 188)
MISTAKE: Colour = (255, 85, 0)  # distinguishable from greys for any colour vision
LONG_SIDE_PX = 640
INDEX_MODES = ("1", "L", "P", "I", "I;16")

Size = tuple[int, int]  # width, height, as Pillow has it


def colourize(indices: NDArray[np.int64], palette: Sequence[Colour]) -> NDArray[np.uint8]:
    """Return class colours (H, W, 3); ignored pixels (indices out of range) are hatched grey."""
    colours = np.asarray([*palette, HATCH_DARK, HATCH_LIGHT], dtype=np.uint8)
    rows, columns = np.indices(indices.shape)
    stripes = len(palette) + (rows + columns) // (HATCH_PX // 2) % 2
    return colours[np.where(is_class(indices, palette), indices, stripes)]


def mark_mistakes(
    image: NDArray[np.uint8],
    target: NDArray[np.int64],
    preds: NDArray[np.int64],
    palette: Sequence[Colour],
) -> NDArray[np.uint8]:
    """Return the image in pale grey with wrong pixels in orange (H, W, 3)."""
    luminance = image.mean(axis=2, keepdims=True)
    pale = np.repeat(96 + luminance * 0.6, 3, axis=2).astype(np.uint8)
    wrong = is_class(target, palette) & (target != preds)
    pale[wrong] = MISTAKE
    return pale


def is_class(indices: NDArray[np.int64], palette: Sequence[Colour]) -> NDArray[np.bool_]:
    """Return where an index is a class, bool (H, W); other pixels are ignored."""
    return (indices >= 0) & (indices < len(palette))


def present_classes(*maps: NDArray[np.int64] | None, palette: Sequence[Colour]) -> list[int]:
    """Return the classes in any of the maps, sorted by size."""
    pixels = np.zeros(len(palette), dtype=np.int64)
    for indices in maps:
        if indices is not None:
            pixels += np.bincount(indices[is_class(indices, palette)], minlength=len(palette))
    order = np.argsort(-pixels, kind="stable")
    return [int(index) for index in order if pixels[index] > 0]


def jpeg_uri(pixels: NDArray[np.uint8]) -> str:
    """Encode a photograph as a data: URI."""
    return _uri(pixels, "jpeg", quality=82, optimize=True)


def png_uri(pixels: NDArray[np.uint8]) -> str:
    """Encode a drawing with hard edges as a data: URI."""
    return _uri(pixels, "png", optimize=True)


def _uri(pixels: NDArray[np.uint8], kind: str, **options: object) -> str:
    buffer = BytesIO()
    Image.fromarray(pixels).save(buffer, kind, **options)
    return f"data:image/{kind};base64,{base64.b64encode(buffer.getvalue()).decode()}"


def open_image(path: Path) -> Image.Image | None:
    """Open a picture; return None if missing, raise a DataError if damaged."""
    if not path.is_file():
        return None
    try:
        with Image.open(path, formats=FORMATS) as image:
            image.load()
            return image
    except (OSError, SyntaxError) as error:  # Pillow reports a broken PNG as SyntaxError
        raise DataError(
            f"Expected {path} to be an image, but got {error} on opening it. "
            "Evaluate the run again with `softiou evaluate`."
        ) from error


def open_index_map(path: Path) -> Image.Image | None:
    """Open a map of class indices; None if missing, a DataError if damaged or in colour."""
    image = open_image(path)
    if image is not None and image.mode not in INDEX_MODES:
        raise DataError(
            f"Expected {path} to hold class indices (Pillow modes {', '.join(INDEX_MODES)}), but "
            f"got mode {image.mode}. Evaluate the run again with `softiou evaluate`."
        )
    return image


def display_size(images: Iterable[Image.Image | None]) -> Size:
    """Return the size of the first existing picture, its long side reduced to 640 px."""
    width, height = next((image.size for image in images if image is not None), (1, 1))
    scale = min(1.0, LONG_SIDE_PX / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def pixels(image: Image.Image | None, size: Size) -> NDArray[np.uint8] | None:
    """Return colours (H, W, 3)."""
    return None if image is None else np.asarray(image.convert("RGB").resize(size))


def class_indices(image: Image.Image | None, size: Size) -> NDArray[np.int64] | None:
    """Return class indices (H, W), resized by nearest neighbour, as classes have no mean."""
    if image is None:
        return None
    return np.asarray(image.resize(size, Image.Resampling.NEAREST)).astype(np.int64)
