"""Open the pictures that a run has written, at the size of the page.

Sizes: H, W image height and width.
"""

from collections.abc import Iterable
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from softiou.data.files import FORMATS
from softiou.errors import DataError

LONG_SIDE_PX = 640
INDEX_MODES = ("1", "L", "P", "I", "I;16")

Size = tuple[int, int]  # width, height, as Pillow has it


def open_image(path: Path) -> Image.Image | None:
    """A picture, None without a file; DataError for a broken one."""
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
    """A picture of class indices, None without a file; DataError for a broken or coloured one."""
    image = open_image(path)
    if image is not None and image.mode not in INDEX_MODES:
        raise DataError(
            f"Expected {path} to hold class indices (Pillow modes {', '.join(INDEX_MODES)}), but "
            f"got mode {image.mode}. Evaluate the run again with `softiou evaluate`."
        )
    return image


def display_size(images: Iterable[Image.Image | None]) -> Size:
    """Size of the first of them that is there, its long side at most 640 px, never enlarged."""
    width, height = next((image.size for image in images if image is not None), (1, 1))
    scale = min(1.0, LONG_SIDE_PX / max(width, height))
    return max(1, round(width * scale)), max(1, round(height * scale))


def pixels(image: Image.Image | None, size: Size) -> NDArray[np.uint8] | None:
    """Colours (H, W, 3)."""
    return None if image is None else np.asarray(image.convert("RGB").resize(size))


def class_indices(image: Image.Image | None, size: Size) -> NDArray[np.int64] | None:
    """Class indices (H, W); resized without mixing neighbours: the mean of two classes is none."""
    if image is None:
        return None
    return np.asarray(image.resize(size, Image.Resampling.NEAREST)).astype(np.int64)
