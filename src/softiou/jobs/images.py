"""Read images from files, folders, arrays, Pillow images and tensors."""

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
    "(N, 3, H, W), or Pillow images"
)


@dataclass(frozen=True)
class ImageItem:
    """An image that is read on demand."""

    stem: str  # file name without the suffix, or the image's number if there is no file
    file: Path | None = None  # None for an image in memory
    # The pixels of an image in memory: RGB (3, H, W), uint8 in [0, 255] or floating in [0, 1].
    pixels: Tensor | None = None
    bands: Bands | None = None  # bands to read from the file

    def read(self) -> Tensor | BandImage:
        """Return the pixels, or a `BandImage`; raise DataError if the file is unreadable."""
        if self.pixels is not None:
            return self.pixels
        file = self.file or Path(self.stem)
        return read_image(file) if self.bands is None else BandImage(file, self.bands)


def find_items(images: Any, bands: Bands | None = None) -> list[ImageItem]:
    """Return the images of a path, array, tensor, Pillow image, or a list that mixes them."""
    found = list(_items(images, bands))
    return [
        item if item.file else ImageItem(str(number), pixels=item.pixels)
        for number, item in enumerate(found)
    ]


def left_out(images: Any) -> Iterator[str]:
    """Yield, for each folder, the number of files and of subfolder images left out."""
    for one in images if isinstance(images, list | tuple) else [images]:
        if isinstance(one, str | Path) and (folder := Path(one)).is_dir():
            files = [path for path in folder.glob("[!.]*") if path.is_file()]
            known = (*IMAGE_SUFFIXES, *NIFTI)
            others = sum(not path.name.lower().endswith(known) for path in files)
            if others:
                yield f"left out  {others} files of {folder} without the suffix of an image"
            if below := images_below(folder):
                yield f"left out  {below} images in subfolders of {folder}"


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
    elif hasattr(images, "convert"):  # a Pillow image
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
    """Convert arrays (H, W), (H, W, B) or (N, H, W, B) to images (N, B, H, W)."""
    batch = images
    if images.ndim == 2:
        batch = np.repeat(images[..., None], 1 if bands else 3, axis=-1)
    batch = batch[None] if batch.ndim == 3 else batch
    if batch.ndim != 4 or not (bands or batch.shape[-1] == 3):
        raise ValueError(f"{_EXPECTED}, but got an array of shape {images.shape}.")
    return _tensors(torch.from_numpy(np.ascontiguousarray(batch)).permute(0, 3, 1, 2), bands)
