"""Images of an evaluation: thumbnails and full size in the report; best and worst as files.

Shapes: (H, W) the image, (h, w) its thumbnail.
"""

import base64
import json
import pickle
import zlib
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from tempfile import TemporaryFile
from typing import IO, Any
from weakref import finalize

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from softiou.data import Colour
from softiou.inference import encode_image, index_image
from softiou.inference.pictures import picture_of

THUMBNAIL_PX = 320
FULL_PX = 4096  # longer side; not all browsers support a larger canvas

# Pixel values for the script of the report: width, height, base64 of deflated bytes.
Deflated = dict[str, Any]


@dataclass(frozen=True)
class Example:
    """An image with target and prediction: class indices (H, W), uint8 or int32."""

    stem: str
    miou: float
    image: Tensor
    target: Tensor
    preds: Tensor

    def files(self, palette: tuple[Colour, ...]) -> dict[str, bytes]:
        """Return the contents of image.jpg, target.png and preds.png."""
        return {
            "image.jpg": encode_image(picture_of(self.image), "JPEG"),
            "target.png": encode_image(index_image(self.target, palette), "PNG"),
            "preds.png": encode_image(index_image(self.preds, palette), "PNG"),
        }


def thumbnail(
    image: Tensor, target: Tensor, preds: Tensor, confidence: Tensor, palette: tuple[Colour, ...]
) -> dict[str, bytes]:
    """Return thumbnails of an image (B, H, W), its class maps and its uncertainty, at most 320 px.

    The files are image.jpg (the first three bands), target.png and preds.png (class indices (H,
    W)), and uncertainty.png (1 - confidence, in grey).
    """
    height, width = image.shape[-2:]
    scale = min(1.0, THUMBNAIL_PX / max(height, width))
    size = (max(1, round(width * scale)), max(1, round(height * scale)))
    # Sixteen grey levels look the same as 256, and need a third of the bytes.
    levels = ((1 - confidence.float()).clamp(0, 1) * 15).round() * 17
    uncertainty = Image.fromarray(levels.byte().cpu().numpy())
    nearest = Image.Resampling.NEAREST
    return {
        "image.jpg": encode_image(picture_of(image).resize(size), "JPEG", quality=80),
        "target.png": encode_image(index_image(target, palette).resize(size, nearest), "PNG"),
        "preds.png": encode_image(index_image(preds, palette).resize(size, nearest), "PNG"),
        "uncertainty.png": encode_image(uncertainty.resize(size, nearest), "PNG"),
    }


def full_picture(
    image: Tensor, target: Tensor, preds: Tensor, palette: tuple[Colour, ...]
) -> dict[str, bytes]:
    """Return an image and its class maps in full size, at most 4096 px; see `thumbnail`.

    The files are full.jpg and full.js. The latter is a script, because a page on disk may not open
    other files. Empty if the thumbnail already has full size.
    """
    if max(image.shape[-2:]) <= THUMBNAIL_PX:
        return {}
    photo, nearest = picture_of(image), Image.Resampling.NEAREST
    photo.thumbnail((FULL_PX, FULL_PX))
    maps = {
        name: index_map(index_image(x, palette).resize(photo.size, nearest), len(palette))
        for name, x in (("target", target), ("preds", preds))
    }
    script = f"softiouPicture({json.dumps(maps)});\n"
    return {"full.jpg": encode_image(photo, "JPEG", quality=85), "full.js": script.encode()}


def index_map(picture: Image.Image, num_classes: int) -> Deflated:
    """Return class indices, with C for ignored pixels, in 8 bits (16 above 255 classes)."""
    indices = np.asarray(picture).astype(np.int64)
    indices[(indices < 0) | (indices >= num_classes)] = num_classes
    return deflated(indices.astype("<u1" if num_classes <= 255 else "<u2"))


def deflated(values: NDArray[np.integer]) -> Deflated:
    """Return values (H, W) as compressed text."""
    height, width = values.shape
    data = base64.b64encode(zlib.compress(values.tobytes(), 6)).decode()
    return {"width": width, "height": height, "data": data}


_Ranked = tuple[float, int, Example]  # mIoU or its negative, number of the image


class PictureStore(Mapping[str, dict[str, bytes]]):
    """File contents of each image by stem, stored in a temporary file instead of memory."""

    def __init__(self) -> None:
        self._file = _temporary_file()
        self._places: dict[str, int] = {}
        finalize(self, self._file.close)

    def add(self, stem: str, files: Mapping[str, bytes]) -> None:
        """Add the files of an image, by suffix."""
        self._places[stem] = self._file.seek(0, 2)
        pickle.dump(dict(files), self._file)

    def __getitem__(self, stem: str) -> dict[str, bytes]:
        self._file.seek(self._places[stem])
        files: dict[str, bytes] = pickle.load(self._file)
        return files

    def __iter__(self) -> Iterator[str]:
        return iter(self._places)

    def __len__(self) -> int:
        return len(self._places)


def _temporary_file() -> IO[bytes]:
    return TemporaryFile()


class Examples:
    """Keeps the images with the highest and lowest mIoU."""

    def __init__(self, size: int) -> None:
        self.size = size
        self._high: list[_Ranked] = []
        self._low: list[_Ranked] = []

    def merge(self, parts: Iterable["Examples"]) -> None:
        """Keep the best and the worst of several collections."""
        several = list(parts)
        self._high = self._first([one for part in several for one in part._high])
        self._low = self._first([one for part in several for one in part._low])

    def offer(self, number: int, example: Example) -> None:
        """Keep image `number` if it is among the best or worst so far."""
        self._high = self._first([*self._high, (-example.miou, number, example)])
        self._low = self._first([*self._low, (example.miou, number, example)])

    def _first(self, ranked: list[_Ranked]) -> list[_Ranked]:
        return sorted(ranked, key=lambda one: one[:2])[: self.size]

    def best(self) -> tuple[Example, ...]:
        """Return the images with the highest mIoU, best first."""
        return tuple(example for *_, example in self._high)

    def worst(self) -> tuple[Example, ...]:
        """Return the images with the lowest mIoU, except those in `best`."""
        best = {example.stem for example in self.best()}
        return tuple(example for *_, example in self._low if example.stem not in best)
