"""Images as users have them: files, folders, arrays, pictures of Pillow and tensors."""

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor

from softiou.data import Bands, read_image
from softiou.data.bands import BandImage
from softiou.data.files import IMAGE_SUFFIXES, images_below
from softiou.data.volumes import NIFTI
from softiou.inference import find_images

_EXPECTED = (
    "Expected images to be paths, folders, RGB arrays (H, W, 3), tensors (3, H, W) or "
    "(N, 3, H, W), or pictures of Pillow"
)


@dataclass(frozen=True)
class ImageItem:
    """One image that is read when it is needed."""

    stem: str  # name of its file without the suffix; its number where there is no file
    file: Path | None = None  # its file, None for an image in memory
    # Of an image in memory: RGB (3, H, W), uint8 in [0, 255] or floating in [0, 1].
    pixels: Tensor | None = None
    bands: Bands | None = None  # to read of the file

    def read(self) -> Tensor | BandImage:
        """Return the pixels, or the file of bands; DataError when it cannot be read."""
        if self.pixels is not None:
            return self.pixels
        file = self.file or Path(self.stem)
        return read_image(file) if self.bands is None else BandImage(file, self.bands)


def find_items(images: Any, bands: Bands | None = None) -> list[ImageItem]:
    """Return the images in whatever a user has; a list may mix all kinds."""
    found = list(_items(images, bands))
    return [
        item if item.file else ImageItem(str(number), pixels=item.pixels)
        for number, item in enumerate(found)
    ]


def left_out(images: Any) -> Iterator[str]:
    """Count, for each folder in what a user has, what is no image directly in it."""
    for one in images if isinstance(images, list | tuple) else [images]:
        if isinstance(one, str | Path) and (folder := Path(one)).is_dir():
            files = [path for path in folder.glob("[!.]*") if path.is_file()]
            known = (*IMAGE_SUFFIXES, *NIFTI)
            others = sum(not path.name.lower().endswith(known) for path in files)
            if others:
                yield f"left out  {others} files of {folder} that are no images by their names"
            if below := images_below(folder):
                yield f"left out  {below} images in folders of {folder}"


def _items(images: Any, bands: Bands | None) -> Iterator[ImageItem]:
    if isinstance(images, list | tuple):
        for image in images:
            yield from _items(image, bands)
    elif isinstance(images, str | Path):
        files = find_images(Path(images), bands.axis or "z" if bands else "z")
        yield from (ImageItem(file.stem, file, bands=bands) for file in files)
    elif isinstance(images, Tensor):
        yield from (ImageItem("", pixels=image) for image in _tensors(images, bands))
    elif isinstance(images, np.ndarray):
        yield from (ImageItem("", pixels=image) for image in _arrays(images, bands))
    elif hasattr(images, "convert"):  # of Pillow
        yield from _items(np.array(images if bands else images.convert("RGB")), bands)
    else:
        raise TypeError(f"{_EXPECTED}, but got {type(images).__name__}.")


def _tensors(images: Tensor, bands: Bands | None) -> Tensor:
    """Return RGB images (N, 3, H, W), uint8 or floating, or scaled bands."""
    batch = images.unsqueeze(0) if images.ndim == 3 else images
    channels = len(bands.numbers) if bands else 3
    if batch.ndim != 4 or batch.shape[1] != channels:
        expected = _EXPECTED.replace("3,", f"{channels},").replace("3)", f"{channels})")
        raise ValueError(f"{expected}, but got a tensor of shape {tuple(images.shape)}.")
    if bands is not None:
        return bands.scaled(batch.float())
    if batch.dtype != torch.uint8 and not batch.is_floating_point():
        raise TypeError(
            f"Expected images to be uint8 in [0, 255] or floating in [0, 1], but got {batch.dtype}."
        )
    return batch


def _arrays(images: Any, bands: Bands | None) -> Tensor:
    """Return images (N, B, H, W) as `_tensors` of arrays (H, W), (H, W, B) or (N, H, W, B)."""
    batch = images
    if images.ndim == 2:
        batch = np.repeat(images[..., None], 1 if bands else 3, axis=-1)
    batch = batch[None] if batch.ndim == 3 else batch
    if batch.ndim != 4 or not (bands or batch.shape[-1] == 3):
        raise ValueError(f"{_EXPECTED}, but got an array of shape {images.shape}.")
    return _tensors(torch.from_numpy(np.ascontiguousarray(batch)).permute(0, 3, 1, 2), bands)
