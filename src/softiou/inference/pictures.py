"""Convert class indices to images, and images to bytes of files."""

import io
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from softiou.data import Colour

_ROWS = 256  # rows blended at a time, in floating point


def index_image(indices: Tensor, palette: tuple[Colour, ...]) -> Image.Image:
    """Return class indices (H, W) as an image: 8-bit with a palette, 16-bit above 255 classes.

    Ignored pixels keep their value, or become 255 (65535) if it is out of range.
    """
    array = indices.cpu().numpy()
    if len(palette) > 255:
        return Image.fromarray(_unsigned(array, np.uint16))
    picture = Image.fromarray(_unsigned(array, np.uint8))
    # Pillow writes only as many bits as the palette needs, so 255 needs all 256 colours.
    colours = [*palette, *[(0, 0, 0)] * (256 - len(palette))]
    picture.putpalette([channel for colour in colours for channel in colour])
    return picture


def _unsigned(array: NDArray[np.integer], dtype: type[np.unsignedinteger]) -> NDArray[np.integer]:
    if array.dtype == dtype:
        return array
    largest = np.iinfo(dtype).max
    return np.where((array < 0) | (array > largest), largest, array).astype(dtype)


def shown(image: Tensor) -> Tensor:
    """Return an image (B, H, W) for display: three bands as RGB, or one as grey, uint8."""
    picture = image[:3] if len(image) >= 3 else image[:1].expand(3, -1, -1)
    if picture.is_floating_point():
        picture = (picture.nan_to_num(0).clamp(0, 1) * 255).round().byte()
    return picture.cpu()


def picture_of(image: Tensor) -> Image.Image:
    """Return an image (B, H, W) as a Pillow image, see `shown`."""
    return Image.fromarray(shown(image).permute(1, 2, 0).contiguous().numpy())


def overlay(
    image: Tensor, preds: Tensor, palette: tuple[Colour, ...], *, opacity: float = 0.5
) -> Image.Image:
    """Return an image (B, H, W) blended with the colours of its classes (H, W)."""
    table = torch.tensor([*palette, (0, 0, 0)], dtype=torch.float32)  # black for ignored pixels
    mixed = torch.empty(*preds.shape, 3, dtype=torch.uint8)
    for top in range(0, len(preds), _ROWS):
        rows = slice(top, top + _ROWS)
        pixels = shown(image[:, rows]).permute(1, 2, 0)
        colours = table[preds[rows].long().clamp(max=len(palette))]
        mixed[rows] = ((1 - opacity) * pixels + opacity * colours).round().byte()
    return Image.fromarray(mixed.numpy())


def encode_image(picture: Image.Image, kind: Literal["JPEG", "PNG"], *, quality: int = 90) -> bytes:
    """Return the bytes of an image file; `quality` is for JPEG."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **({"quality": quality} if kind == "JPEG" else {"optimize": True}))
    return buffer.getvalue()
