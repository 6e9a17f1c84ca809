"""Use any PyTorch data set as a `SegmentationDataset`.

Shapes: B bands, C classes, R annotators, H and W in pixels.
"""

from collections.abc import Mapping, Sized
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor
from torch.utils.data import Dataset

from softiou.data.base import DatasetDescription, Sample, SegmentationDataset, TargetKind
from softiou.errors import DataError


class CustomDataset(SegmentationDataset):
    """Any map-style data set, with its samples validated and converted to `Sample`.

    A sample is {"image": ..., "target": ...} or a pair (image, target):

    - image: tensor (B, H, W), NumPy array (H, W, B) or (H, W), or PIL image; uint8, or floating in
      [0, 1]
    - target: tensor, array or PIL image; integers (H, W), the votes of annotators as integers
      (R, H, W), or probabilities as floats (C, H, W). The first sample decides which.

    Args:
        dataset: Data set with `__len__` and `__getitem__`.
        description: Classes and ignored label.
        split: Name of the split.

    Raises:
        DataError: The data set is empty, or its first sample is invalid.
    """

    def __init__(self, dataset: Dataset[Any], description: DatasetDescription, split: str) -> None:
        if not isinstance(dataset, Sized) or not len(dataset):
            raise DataError(
                f"Expected the data set {split!r} to have a length and samples, but it has none."
            )
        self._dataset = dataset
        self.description = description
        self.split = self.folder = split
        self.stems = tuple(f"{split}-{index:05d}" for index in range(len(dataset)))
        target = self[0]["target"]
        self.annotators = len(target) if _has_votes(target) else 1
        self.labels: TargetKind = "hard"
        if target.ndim == 3:
            self.labels = "votes" if _has_votes(target) else "soft"

    def files(self, index: int) -> tuple[Path, ...]:
        """Return no files: the origin of the samples is unknown."""
        return ()

    def __getitem__(self, index: int) -> Sample:
        """Return a sample, validated and converted."""
        index = range(len(self.stems))[index]
        sample = self._dataset[index]
        if isinstance(sample, Mapping) and {"image", "target"} <= set(sample):
            image, target = sample["image"], sample["target"]
        elif isinstance(sample, tuple | list) and len(sample) == 2:
            image, target = sample
        else:
            raise self._error(index, f"{{'image', 'target'}} or a pair, but got {_form(sample)}")
        image, target = _image(image), _target(target)
        if image is None or target is None:
            wanted = "an image (B, H, W) of uint8 or floats, and a target (H, W) or (C, H, W)"
            raise self._error(index, f"{wanted}, but got {_form(sample)}")
        if image.shape[-2:] != target.shape[-2:]:
            sizes = f"{tuple(image.shape)} and {tuple(target.shape)}"
            raise self._error(index, f"image and target of one size, but got {sizes}")
        return {"image": image, "target": target, "stem": self.stems[index]}

    def _error(self, index: int, what: str) -> DataError:
        return DataError(f"Expected sample {index} of the data set {self.split!r} to be {what}.")


def _has_votes(target: Tensor) -> bool:
    return target.ndim == 3 and not target.is_floating_point()


def _form(sample: Any) -> str:
    """Describe a sample in an error."""
    if isinstance(sample, Mapping):
        return f"{{{', '.join(f'{key!r}: {_form(value)}' for key, value in sample.items())}}}"
    if isinstance(sample, tuple | list):
        return f"({', '.join(map(_form, sample))})"
    shape = getattr(sample, "shape", None)
    return type(sample).__name__ if shape is None else f"{sample.dtype} {tuple(shape)}"


def _image(image: Any) -> Tensor | None:
    """Convert an image to uint8 or float32 (B, H, W); return None if that is impossible."""
    if isinstance(image, Image.Image):
        image = np.array(image.convert("RGB") if image.mode not in ("RGB", "L") else image)
    if isinstance(image, np.ndarray):
        if image.ndim == 2:
            image = image[:, :, None]
        image = torch.from_numpy(np.ascontiguousarray(np.moveaxis(image, -1, 0)))
    if not isinstance(image, Tensor) or image.ndim != 3:
        return None
    if image.is_floating_point():
        return image.float()
    return image if image.dtype == torch.uint8 else None


def _target(target: Any) -> Tensor | None:
    """Convert a target to int64 or float32; return None if its shape or type is invalid."""
    if isinstance(target, Image.Image | np.ndarray):
        target = torch.from_numpy(np.array(target))
    if not isinstance(target, Tensor) or target.ndim not in (2, 3):
        return None
    if target.is_floating_point():
        return target.float() if target.ndim == 3 else None
    return target.long()
