"""Views: the part of an image that becomes the crop, for images, labels and soft labels.

Shapes: C channels, H and W the image, h and w the crop, in pixels.
"""

from dataclasses import dataclass
from functools import cached_property

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

from softiou.data.decoders import Picture

# Encoders subtract this mean, so the padding is zero inside the model.
_IMAGENET_MEAN = (124.0, 116.0, 104.0)


@dataclass(frozen=True)
class View:
    """A window of an image, resized to the crop and optionally mirrored.

    The window may extend beyond the image. Cutting before resizing is equivalent to resizing the
    image first, and much cheaper.

    Args:
        top: First row of the window in the image; may be negative.
        left: First column; may be negative.
        height: Number of rows.
        width: Number of columns.
        crop_px: (h, w) that the window is resized to.
        flip: Whether to mirror left to right.
    """

    top: int
    left: int
    height: int
    width: int
    crop_px: tuple[int, int]
    flip: bool = False

    def image(self, image: Picture) -> Tensor:
        """Return the view of an image (B, H, W), resized bilinearly, padded with the ImageNet mean.

        Images without three bands are padded with grey. Of a lazy image, only the window is read.
        """
        return self.mirrored(F.resize_image(self._cut(image), self.crop_px, antialias=True))

    def labels(self, target: Tensor, *, fill: int) -> Tensor:
        """Return the view of labels (..., H, W), by nearest neighbour, padded with `fill`."""
        rows, columns = self._centres
        height, width = target.shape[-2:]
        shown = target.index_select(-2, rows.clamp(0, height - 1))
        # Selecting rows of the transposed labels is five times as fast as gathering pixels.
        shown = shown.mT.index_select(-2, columns.clamp(0, width - 1)).mT.contiguous()
        if self._is_inside((height, width)):
            return shown
        return shown.where(self.inside((height, width)), fill)

    def inside(self, size: tuple[int, int]) -> Tensor:
        """Return the pixels of the crop that are inside an image (H, W), bool (h, w)."""
        if self._is_inside(size):
            return torch.ones(self.crop_px, dtype=torch.bool)
        rows, columns = (
            (centres >= 0) & (centres < length)
            for centres, length in zip(self._centres, size, strict=True)
        )
        return rows.unsqueeze(1) & columns

    def box(self, size: tuple[int, int]) -> tuple[int, int, int, int]:
        """Return the visible box of an image (H, W): top, bottom, left, right."""
        bottom, right = self.top + self.height, self.left + self.width
        return max(0, self.top), min(size[0], bottom), max(0, self.left), min(size[1], right)

    def within(self, box: tuple[int, int, int, int]) -> "View":
        """Return the same view in coordinates of a part of the image."""
        top, left = self.top - box[0], self.left - box[2]
        return View(top, left, self.height, self.width, self.crop_px, self.flip)

    def mirrored(self, picture: Tensor) -> Tensor:
        """Mirror (..., h, w) if `flip` is set."""
        return picture.flip(-1) if self.flip else picture

    def _is_inside(self, size: tuple[int, int]) -> bool:
        bottom, right = self.top + self.height, self.left + self.width
        return self.box(size) == (self.top, bottom, self.left, right)

    @cached_property
    def _centres(self) -> tuple[Tensor, Tensor]:
        """Return the image rows (h,) and columns (w,) at the centres of the crop's pixels."""
        rows, columns = (
            _nearest(self.height, self.crop_px[0]),
            _nearest(self.width, self.crop_px[1]),
        )
        return self.top + rows, self.left + self.mirrored(columns)

    def _cut(self, picture: Picture) -> Tensor:
        """Cut the window out of an image (B, H, W), with padding outside."""
        rows, columns = picture.shape[-2:]
        bottom, right = self.top + self.height, self.left + self.width
        before = [max(0, -self.left), max(0, -self.top)]
        behind = [max(0, right - columns), max(0, bottom - rows)]
        inside = picture[..., max(0, self.top) : bottom, max(0, self.left) : right]
        if not any(before + behind):
            return inside
        padded: Tensor = F.pad(inside, before + behind, fill=_padding(inside))
        return padded


def _padding(image: Tensor) -> list[float]:
    colour = _IMAGENET_MEAN if len(image) == 3 else _IMAGENET_MEAN[1:2] * len(image)
    return [value / 255 for value in colour] if image.is_floating_point() else list(colour)


def _nearest(old: int, new: int) -> Tensor:
    """Return the old pixel at the centre of each new one (torchvision uses a corner)."""
    return ((torch.arange(new) + 0.5) * (old / new)).long().clamp(max=old - 1)
