"""Read a teacher's soft labels for the view of an augmented image.

Shapes: C classes, K classes kept, h and w of the crop; at a stride, the store has a grid of cells.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

from softiou.data.decoders import Picture
from softiou.data.transforms import SoftLabels
from softiou.data.views import View
from softiou.soft_labels.codes import Codes, no_class
from softiou.soft_labels.store import SoftLabelStore
from softiou.targets import sparse, to_probs

# below any stored probability; its logarithm is finite in half precision
_NOTHING = 1e-7


class SoftLabelReader:
    """Reads a teacher's soft labels for the view of an image, and only this part of the file.

    At full resolution, each pixel of the crop takes the codes of the nearest pixel of the image,
    like hard labels. With a stride s, log-probabilities are interpolated to the grid of the crop
    with the same stride. They equal the teacher's logits up to a constant per pixel, which does not
    affect the softmax.

    Args:
        store: The soft labels.
        split: Name of the folder of the images; "" for stems FOLDER/STEM.
    """

    def __init__(self, store: SoftLabelStore, split: str) -> None:
        self._store = store
        self._split = split
        self._verified: set[tuple[str, str]] = set()  # images checked by this process

    @property
    def stride(self) -> int:
        """Return the stride of the logits; 1 for labels of pixels."""
        return self._store.manifest.quantisation.stride

    def read(self, stem: str, view: View, image: Picture) -> SoftLabels:
        """Read the soft labels of a view of an image, uint8 (3, H, W) or bands.

        Raises DataError with the name of the image if its soft labels are missing, damaged, or
        those of another image.
        """
        size = (int(image.shape[-2]), int(image.shape[-1]))
        place = self._place(stem)
        if place not in self._verified:
            self._store.check_image(*place, image[..., :, :])
            self._verified.add(place)
        if self.stride == 1:
            indices, weights = self._store.sparse(self._codes(place, view, size))
            return {"soft_indices": indices, "soft_weights": weights}
        return {"soft_logits": view.mirrored(self._interpolated(place, view, size)).half()}

    def _place(self, stem: str) -> tuple[str, str]:
        """Return the folder and the stem of an image in the store."""
        if self._split:
            return self._split, stem
        folder, _, name = stem.partition("/")
        return folder, name

    def _codes(self, place: tuple[str, str], view: View, size: tuple[int, int]) -> Codes:
        """Return the codes of the pixels of a view; pixels outside the image have no class.

        Codes are cropped and mirrored, because weights need four times as much memory.
        """
        box = view.box(size)
        codes = self._store.read_codes(*place, size, box)
        own, nothing = view.within(box), no_class(self._store.manifest.num_classes)
        return Codes(
            own.labels(torch.from_numpy(codes.best), fill=nothing).numpy(),
            own.labels(torch.from_numpy(codes.levels), fill=0).numpy(),
            codes.classes,
        )

    def _interpolated(self, place: tuple[str, str], view: View, size: tuple[int, int]) -> Tensor:
        """Return log-probabilities on the grid of the crop (C, h / s, w / s)."""
        manifest = self._store.manifest
        stride = self.stride
        cells = [math.ceil(length / stride) for length in size]
        rows, columns = (
            _cells_of(start, length, crop, stride, count / whole)
            for start, length, crop, count, whole in zip(
                (view.top, view.left),
                (view.height, view.width),
                view.crop_px,
                cells,
                size,
                strict=True,
            )
        )
        top, bottom = _needed(rows, cells[0])
        left, right = _needed(columns, cells[1])
        box = (top, bottom, left, right)
        indices, weights = self._store.read(*place, size, box)
        probs, _ = to_probs(
            sparse(indices.unsqueeze(0), weights.unsqueeze(0)), num_classes=manifest.num_classes
        )
        least = (1 - manifest.quantisation.mass) / (4 * manifest.num_classes)
        return interpolate_at(_logarithms(probs[0], least=least), rows - top, columns - left)


def _logarithms(probs: Tensor, *, least: float) -> Tensor:
    """Return log p (C, h, w), which is finite even for classes that were not kept.

    Next to a cell with the class, it is log `least`, about half of the smallest stored value, so
    that the class fades out as in the teacher's output. Elsewhere p is nearly zero, because small
    values at all pixels would add up to the area of an object in overlap losses.
    """
    kept = probs > _NOTHING
    beside = F.max_pool2d(kept.unsqueeze(0).float(), 3, stride=1, padding=1)[0] > 0
    return probs.clamp(min=_NOTHING).where(kept | ~beside, max(least, _NOTHING)).log()


def _cells_of(start: int, length: int, crop: int, stride: int, scale: float) -> Tensor:
    """Return the centres of the crop's cells in the grid of the image, in cells."""
    count = math.ceil(crop / stride)
    centres = start + (torch.arange(count) + 0.5) * (length / count)  # in pixels of the image
    return centres * scale - 0.5


def _needed(places: Tensor, count: int) -> tuple[int, int]:
    """Return the range of cells needed for interpolation at some positions."""
    first = min(max(math.floor(float(places[0])), 0), count - 1)
    last = min(max(math.floor(float(places[-1])) + 1, 0), count - 1)
    return first, last + 1


def interpolate_at(values: Tensor, rows: Tensor, columns: Tensor) -> Tensor:
    """Interpolate a map bilinearly at rows and columns, with replicated borders.

    Args:
        values: Floating (C, h, w).
        rows: Positions (h',) in cells: 0 is the centre of the first cell, h - 1 of the last.
        columns: Positions (w',).

    Returns:
        The values (C, h', w').

    Example:
        >>> interpolate_at(torch.tensor([[[0.0, 8.0]]]), torch.zeros(1), torch.tensor([0.25, 7]))
        tensor([[[2., 8.]]])
    """
    height, width = values.shape[-2:]
    y, x = 2 * (rows + 0.5) / height - 1, 2 * (columns + 0.5) / width - 1
    grid = torch.stack([x.expand(len(y), -1), y.unsqueeze(1).expand(-1, len(x))], -1)
    return F.grid_sample(
        values.unsqueeze(0), grid.unsqueeze(0), padding_mode="border", align_corners=False
    )[0]
