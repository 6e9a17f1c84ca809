"""Read masks, and repair errors that have an unambiguous repair.

Shapes: H and W in pixels.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from softiou.checking.images import ImageCheck, check_image, explain_unreadable, orientation_of
from softiou.checking.masks import check_size, differ_by_whole_factor, with_fewer_channels
from softiou.data.bands import Bands
from softiou.data.drawings import Drawing
from softiou.data.files import SampleFiles
from softiou.data.problems import DataProblemsError
from softiou.data.reading import SWAPPED, MaskReader, opened

Mask = NDArray[np.int64]
_ROTATIONS: dict[int, Callable[[Mask], Mask]] = {  # to upright, by EXIF orientation
    5: lambda mask: mask.T,
    6: lambda mask: np.rot90(mask, -1),
    7: lambda mask: np.rot90(mask, 2).T,
    8: lambda mask: np.rot90(mask),
}


@dataclass(frozen=True)
class RepairedMask:
    """A mask (H, W) of class indices and `ignore_index`, and the repair steps."""

    mask: Mask
    steps: tuple[str, ...]


class MaskRepair:
    """Reads masks like `MaskReader`, and repairs rejected masks if the repair is unambiguous.

    `label_map` is the map of all values if the masks are numbered differently from what `reader`
    expects (see `infer_label_map`).
    """

    def __init__(
        self, reader: MaskReader, label_map: Mapping[int, int] | None, bands: Bands | None = None
    ) -> None:
        self._bands = bands
        self._renumbered = label_map is not None
        self._reader = reader
        if label_map is not None:
            description, colours = reader.description, reader.colours
            self._reader = MaskReader(description, label_map=label_map, colours=colours)

    def read(self, files: SampleFiles) -> list[RepairedMask]:
        """Return the masks of a sample, in the size of the image."""
        image = check_image(files.image, self._bands)
        return [self._read(path, files.image, image) for path in files.masks]

    def _read(self, path: Path | Drawing, image_path: Path, image: ImageCheck) -> RepairedMask:
        if isinstance(path, Drawing):
            return RepairedMask(self._reader.read(path).numpy(), ())
        try:
            with opened(path) as stored:
                stored.load()
                orientation = orientation_of(stored)
                mask, steps = self._classes(path, stored)
        except DataProblemsError as error:
            raise DataProblemsError(*explain_unreadable(path, error)) from error
        mask, moved = _fitted(mask, orientation, image)
        if mask.shape != image.size:
            raise DataProblemsError(*check_size(path, mask.shape, image_path, image))
        return RepairedMask(mask, (*steps, *moved))

    def _classes(self, path: Path, stored: Image.Image) -> tuple[Mask, tuple[str, ...]]:
        """Return the class indices, from merged channels or palette colours if necessary."""
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
        """Return a mask with fewer channels, or with its palette colours."""
        if stored.mode == "P" and self._reader.colours is not None:
            return stored.convert("RGB"), "read by the colours of its palette"
        return with_fewer_channels(stored)


def _fitted(mask: Mask, orientation: int, image: ImageCheck) -> tuple[Mask, tuple[str, ...]]:
    """Rotate or scale a mask to the size of its image, if the repair is unambiguous."""
    if mask.shape == image.size:
        return mask, ()
    if image.orientation in SWAPPED and mask.shape == image.stored_size:
        return _ROTATIONS[image.orientation](mask), ("turned like its image",)
    if orientation in SWAPPED and mask.shape[::-1] == image.size:
        return _ROTATIONS[orientation](mask), ("turned by its own EXIF tag",)
    if differ_by_whole_factor(mask.shape, image.size):
        return _nearest(mask, image.size), ("scaled by a whole number",)
    return mask, ()


def _nearest(mask: Mask, size: tuple[int, int]) -> Mask:
    """Scale a mask with nearest neighbour, aligned at pixel centres."""
    rows, columns = (
        (2 * np.arange(new) + 1) * old // (2 * new)
        for new, old in zip(size, mask.shape, strict=True)
    )
    scaled: Mask = mask[rows][:, columns]
    return scaled
