"""Prediction: probabilities of a whole image at its own resolution, and masks as files.

Shapes: C classes, (H, W) the image.
"""

import io
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image
from torch import Tensor

from softiou._files import write_atomically
from softiou.data import Colour, DatasetDescription, read_image
from softiou.data.layout import IMAGE_SUFFIXES, visible_files
from softiou.errors import DataError, RunExistsError
from softiou.models import SegmentationModel

Precision = Literal["bf16", "fp16", "fp32"]
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def best_device() -> torch.device:
    """Return the accelerator of this machine, or the CPU."""
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    return accelerator or torch.device("cpu")


def best_precision(device: torch.device) -> Precision:
    """Return the fastest precision that the device has hardware for and that needs no care."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return "bf16"
    return "fp32"


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Return the context that runs a model in a precision."""
    dtype = _DTYPES.get(precision, torch.float32)
    return torch.autocast(device.type, dtype=dtype, enabled=precision != "fp32")


@torch.inference_mode()
def predict_probs(model: SegmentationModel, image: Tensor, *, precision: Precision) -> Tensor:
    """Compute the class probabilities of one image.

    Args:
        model: In eval mode, on the device to use.
        image: RGB (3, H, W), uint8 in [0, 255] or floating in [0, 1], of any size.
        precision: Of the network; the softmax is taken in float32.

    Returns:
        Probabilities (C, H, W) in float32, on the model's device.
    """
    device = model.mean.device
    with autocast(device, precision):
        logits = model(image.to(device).unsqueeze(0))
    full = model.upsample(logits.float(), (int(image.shape[-2]), int(image.shape[-1])))
    return full.softmax(1)[0]


@dataclass(frozen=True)
class MaskWriter:
    """Predicts image files and writes what was asked for into one folder.

    Attributes:
        model: In eval mode, on the device to use.
        description: Classes of the model.
        out: Folder for STEM.png, STEM.probs.npy and STEM.overlay.jpg.
        precision: Of the network.
        probabilities: Whether to write (C, H, W) probabilities in float16.
        overlays: Whether to write the image with its classes in colour.
    """

    model: SegmentationModel
    description: DatasetDescription
    out: Path
    precision: Precision
    probabilities: bool = False
    overlays: bool = False

    def paths(self, file: Path) -> list[Path]:
        """Return the files that `write` makes for an image, the mask first."""
        endings = [".png"]
        endings += [".probs.npy"] if self.probabilities else []
        endings += [".overlay.jpg"] if self.overlays else []
        return [self.out / f"{file.stem}{ending}" for ending in endings]

    def prepare(self, files: list[Path], *, overwrite: bool) -> None:
        """Make the folder, and see that no result would be lost.

        Raises:
            DataError: Two images have the same stem, or a result would replace an image.
            RunExistsError: A result exists already, and `overwrite` is False.
        """
        stems: dict[str, Path] = {}
        for file in files:
            if (other := stems.setdefault(file.stem, file)) is not file:
                raise DataError(f"{other} and {file} would write the same mask. Rename one.")
        results = [path for file in files for path in self.paths(file)]
        own = {file.resolve() for file in files}
        for path in results:
            if path.resolve() in own:
                raise DataError(f"The mask would replace the image {path}. Give another --out.")
        there = [path for path in results if path.exists()]
        if there and not overwrite:
            raise RunExistsError(
                f"{len(there)} results exist already, such as {there[0]}; nothing was changed. "
                "Choose another folder with --out, or give --overwrite."
            )
        self.out.mkdir(parents=True, exist_ok=True)

    def write(self, file: Path) -> None:
        """Predict one image and write its files, each whole or not at all.

        Raises:
            DataError: The image cannot be read.
        """
        image = read_image(file)
        probs = predict_probs(self.model, image, precision=self.precision).cpu()
        preds = probs.argmax(0)
        contents = [encode_image(index_image(preds, self.description.palette), "PNG")]
        if self.probabilities:
            buffer = io.BytesIO()
            np.save(buffer, probs.half().numpy())
            contents.append(buffer.getvalue())
        if self.overlays:
            contents.append(encode_image(overlay(image, preds, self.description.palette), "JPEG"))
        for path, content in zip(self.paths(file), contents, strict=True):
            write_atomically(content, path)


def find_images(path: Path) -> list[Path]:
    """Return an image file, or the image files of a folder, by name.

    Raises:
        DataError: There are none.
    """
    if path.is_file():
        return [path]
    files = visible_files(path, IMAGE_SUFFIXES)
    if not files:
        what = "holds no images" if path.is_dir() else "does not exist"
        raise DataError(f"{path} {what}: expected a picture, or a folder of pictures.")
    return files


def index_image(indices: Tensor, palette: tuple[Colour, ...]) -> Image.Image:
    """Return class indices (H, W) as a picture: 8-bit with the palette, 16-bit above 255 classes.

    Ignored pixels keep their value, or become 255 (65535) when that is out of range.
    """
    array = indices.cpu().numpy()
    if len(palette) > 255:
        return Image.fromarray(_unsigned(array, np.uint16))
    picture = Image.fromarray(_unsigned(array, np.uint8))
    # All 256 colours: Pillow writes as few bits a pixel as the palette needs, and 255 would be cut.
    colours = [*palette, *[(0, 0, 0)] * (256 - len(palette))]
    picture.putpalette([channel for colour in colours for channel in colour])
    return picture


def _unsigned(array: NDArray[np.integer], dtype: type[np.unsignedinteger]) -> NDArray[np.integer]:
    largest = np.iinfo(dtype).max
    return np.where((array < 0) | (array > largest), largest, array).astype(dtype)


def overlay(
    image: Tensor, preds: Tensor, palette: tuple[Colour, ...], *, opacity: float = 0.5
) -> Image.Image:
    """Return an image (3, H, W) with the colours of its classes (H, W) laid over it."""
    colours = torch.tensor(palette, dtype=torch.float32)[preds].permute(2, 0, 1)
    mixed = (1 - opacity) * image.float() + opacity * colours
    return Image.fromarray(mixed.round().byte().permute(1, 2, 0).contiguous().numpy())


def encode_image(picture: Image.Image, kind: Literal["JPEG", "PNG"]) -> bytes:
    """Return the bytes of an image file."""
    buffer = io.BytesIO()
    picture.save(buffer, kind, **({"quality": 90} if kind == "JPEG" else {"optimize": True}))
    return buffer.getvalue()
