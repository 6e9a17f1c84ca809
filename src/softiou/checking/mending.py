"""The mask that a faulty file can only have meant, or an error.

Shapes: H and W in pixels.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from softiou.checking.channels import simpler
from softiou.checking.labels import TURNED, fit, whole_factor
from softiou.checking.pictures import Picture, explained, look_at_picture, orientation_of
from softiou.data.files import SampleFiles
from softiou.data.problems import DataProblemsError
from softiou.data.reading import MaskReader, opened

Mask = NDArray[np.int64]
_TURNS: dict[int, Callable[[Mask], Mask]] = {  # to upright, by the EXIF orientation
    5: lambda mask: mask.T,
    6: lambda mask: np.rot90(mask, -1),
    7: lambda mask: np.rot90(mask, 2).T,
    8: lambda mask: np.rot90(mask),
}


@dataclass(frozen=True)
class Mended:
    """A mask (H, W) of class indices and `ignore_index`, and what was done to the file for it."""

    mask: Mask
    steps: tuple[str, ...]


class Mender:
    """Reads masks as a `MaskReader` does, and those that it refuses where no doubt is left.

    Args:
        reader: Reads the masks that are right.
        label_map: The classes of all numbers, where all masks of the data set were numbered
            otherwise than `reader` expects (see `meant_by`).
    """

    def __init__(self, reader: MaskReader, label_map: Mapping[int, int] | None) -> None:
        self._renumbered = label_map is not None
        self._reader = reader
        if label_map is not None:
            description, colours = reader.description, reader.colours
            self._reader = MaskReader(description, label_map=label_map, colours=colours)

    def mend(self, files: SampleFiles) -> list[Mended]:
        """Return the masks of a sample, each of the size of the image.

        Raises:
            DataError: A file cannot be read, or there are several ways to understand it.
        """
        picture = look_at_picture(files.image)
        return [self._mend(path, files.image, picture) for path in files.masks]

    def _mend(self, path: Path, image: Path, picture: Picture) -> Mended:
        try:
            with opened(path) as stored:
                stored.load()
                orientation = orientation_of(stored)
                mask, steps = self._classes(path, stored)
        except DataProblemsError as error:
            raise DataProblemsError(*explained(path, error)) from error
        mask, moved = _fitted(mask, orientation, picture)
        if mask.shape != picture.size:
            raise DataProblemsError(*fit(path, mask.shape, image, picture))
        return Mended(mask, (*steps, *moved))

    def _classes(self, path: Path, stored: Image.Image) -> tuple[Mask, tuple[str, ...]]:
        """Return the classes of the pixels, through other channels or colours where it takes."""
        try:
            mask = self._reader.decode(path, stored).numpy()
        except DataProblemsError:
            form = self._other_form(stored)
            if form is None:
                raise
        else:
            renumbered = self._renumbered and len(stored.getbands()) == 1
            return mask, ("renumbered",) if renumbered else ()
        other, step = form
        mask, steps = self._classes(path, other)
        return mask, (step, *steps)

    def _other_form(self, stored: Image.Image) -> tuple[Image.Image, str] | None:
        """Return another form of the same mask: with fewer channels, or with its colours."""
        if stored.mode == "P" and self._reader.colours is not None:
            return stored.convert("RGB"), "read by the colours of its palette"
        return simpler(stored)


def _fitted(mask: Mask, orientation: int, picture: Picture) -> tuple[Mask, tuple[str, ...]]:
    """Turn or scale a mask onto its image, if there is one way only."""
    if mask.shape == picture.size:
        return mask, ()
    if picture.orientation in TURNED and mask.shape == picture.stored_size:
        return _TURNS[picture.orientation](mask), ("turned like its image",)
    if orientation in TURNED and mask.shape[::-1] == picture.size:
        return _TURNS[orientation](mask), ("turned by its own EXIF tag",)
    if whole_factor(mask.shape, picture.size):
        return _nearest(mask, picture.size), ("scaled by a whole number",)
    return mask, ()


def _nearest(mask: Mask, size: tuple[int, int]) -> Mask:
    """Scale a mask with nearest neighbour, pixel centres onto pixel centres."""
    rows, columns = (
        (2 * np.arange(new) + 1) * old // (2 * new)
        for new, old in zip(size, mask.shape, strict=True)
    )
    scaled: Mask = mask[rows][:, columns]
    return scaled
