"""Custom augmentation with transforms of torchvision or Albumentations.

Shapes: C classes, R annotators, H and W in pixels, h and w of the crop.
"""

import inspect
import random
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torchvision import tv_tensors

from softiou.data.base import Sample
from softiou.data.transforms import Augmentation, AugmentedSample, SoftLabelSource
from softiou.errors import ConfigError


@dataclass(frozen=True)
class CustomAugmentation:
    """Apply a callable to image and target together, then crop to the right size.

    The callable is used in one of two ways:

    - transform(Image, Mask) with tensors of `torchvision.tv_tensors`, which returns both: modules,
      such as torchvision's transforms v2, and functions of two positional arguments
    - transform(image=array, mask=array) with NumPy arrays (H, W, B) and (H, W) or (H, W, C), which
      returns a dict with both: callables that take arbitrary keywords, such as Albumentations'
      `Compose`, or whose `image` is keyword-only

    A result of another size is cropped or padded at a random position. During the call, the random
    states of torch, NumPy, `random`, and of a transform with the method `set_random_seed` (as in
    Albumentations) are derived from the seed of the sample, so that a resumed training sees the
    same samples.

    Args:
        transform: The callable.
        crop: Augmentation that crops or pads the result.
    """

    transform: Callable[..., Any]
    crop: Augmentation

    def __call__(
        self, sample: Sample, soft_labels: SoftLabelSource | None = None
    ) -> AugmentedSample:
        """Augment one sample."""
        if soft_labels is not None:
            raise ConfigError(
                "Soft labels on disk cannot be combined with a custom transform: distil from the "
                "teacher itself (distillation.teacher), or remove the transform."
            )
        with _seeded(self.transform):
            image, target = self._transformed(sample["image"], sample["target"])
        if image.ndim != 3 or target.shape[-2:] != image.shape[-2:]:
            raise ConfigError(
                "Expected the transform to return an image (B, H, W) and a target of its size, but "
                f"got {tuple(image.shape)} and {tuple(target.shape)}."
            )
        return self.crop({"image": image, "target": target, "stem": sample["stem"]})

    def _transformed(self, image: Tensor, target: Tensor) -> tuple[Tensor, Tensor]:
        if not takes_keywords(self.transform):
            found = self.transform(tv_tensors.Image(image), tv_tensors.Mask(target))
            image, target = (one.as_subclass(Tensor) for one in found)
            return image, target
        # OpenCV does not support int64.
        mask = target if target.is_floating_point() else target.to(torch.int32)
        found = self.transform(image=_channels_last(image), mask=_channels_last(mask))
        new = _channels_first(found["mask"])
        return _channels_first(found["image"]), new.to(target.dtype)


def takes_keywords(transform: Callable[..., Any]) -> bool:
    """Return whether a transform is called as transform(image=..., mask=...)."""
    if isinstance(transform, nn.Module):
        return False
    parameters = inspect.signature(transform).parameters
    image = parameters.get("image")
    return (image is not None and image.kind is image.KEYWORD_ONLY) or any(
        parameter.kind is parameter.VAR_KEYWORD for parameter in parameters.values()
    )


@contextmanager
def _seeded(transform: Callable[..., Any]) -> Iterator[None]:
    """Seed NumPy, `random` and the transform from torch's random state, and restore them."""
    seed = int(torch.randint(2**32, ()).item())
    before = random.getstate(), np.random.get_state()
    random.seed(seed)
    np.random.seed(seed)
    if hasattr(transform, "set_random_seed"):
        transform.set_random_seed(seed)
    try:
        yield
    finally:
        random.setstate(before[0])
        np.random.set_state(before[1])


def _channels_last(values: Tensor) -> np.ndarray[Any, Any]:
    """Convert (C, H, W) to (H, W, C); keep (H, W)."""
    return np.ascontiguousarray(values.numpy() if values.ndim == 2 else values.permute(1, 2, 0))


def _channels_first(values: Any) -> Tensor:
    """Convert (H, W, C) to (C, H, W); keep (H, W), and tensors, such as of `ToTensorV2`."""
    if isinstance(values, Tensor):
        return values
    if values.ndim == 3:
        values = np.moveaxis(values, -1, 0)
    return torch.from_numpy(np.ascontiguousarray(values))
