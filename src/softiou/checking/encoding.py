"""Masks as plain files: PNG of class indices, and the dataset.yaml that goes with them.

Shapes: C classes, H and W in pixels.
"""

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from softiou.data.base import DatasetDescription, default_palette

_BYTE, _WORD = 2**8, 2**16
_IGNORED_COLOUR = (255, 255, 255)


class MaskEncoder:
    """Writes masks with their own numbers, 8-bit with a palette for viewing, or 16-bit.

    Args:
        description: The classes and the `ignore_index`. One that no file can hold, such as -1, is
            written as the largest number.
    """

    def __init__(self, description: DatasetDescription) -> None:
        self._description = description
        last, ignored = description.num_classes - 1, description.ignore_index
        if not 0 <= ignored < _WORD:
            ignored = _BYTE - 1 if last < _BYTE - 1 else _WORD - 1
        self._ignored = ignored
        self._bytewise = max(last, ignored) < _BYTE
        colours = np.zeros((_BYTE, 3), np.uint8)
        if self._bytewise:
            colours[ignored] = _IGNORED_COLOUR
            colours[: last + 1] = description.palette
        self._palette = colours.ravel().tolist()

    def write(self, mask: NDArray[np.int64], path: Path) -> None:
        """Write a mask (H, W) as PNG."""
        numbers = np.where(mask == self._description.ignore_index, self._ignored, mask)
        image = Image.fromarray(numbers.astype(np.uint8 if self._bytewise else np.uint16))
        if self._bytewise:
            image.putpalette(self._palette)
        image.save(path, format="PNG")

    def dataset_file(self) -> dict[str, Any]:
        """Return what dataset.yaml says of masks that were written so."""
        about = self._description
        content: dict[str, Any] = {
            "classes": list(about.classes),
            "ignore_index": about.ignore_index,
        }
        distinct = len(set(about.palette)) == about.num_classes
        if distinct and about.palette != default_palette(about.classes):
            content["palette"] = [list(colour) for colour in about.palette]
        if self._ignored != about.ignore_index:
            content["label_map"] = {self._ignored: about.ignore_index}
        return content
