"""Test-time augmentation of images or windows: several scales, and mirror images.

Shapes: N images, C classes, (H, W) the image.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from softiou.inference.predictors import Predictor
from softiou.inference.settings import InferenceSettings


def view_probs(predictor: Predictor, images: Tensor, *, settings: InferenceSettings) -> Tensor:
    """Compute probabilities (N, C, H, W) in float32, the mean over flips and scales.

    The images are RGB (N, 3, H, W), uint8 in [0, 255] or floating in [0, 1], on any device.
    """
    size = (int(images.shape[-2]), int(images.shape[-1]))
    views = _views(images.to(predictor.device), settings)
    total = torch.zeros(())
    for number, (seen, flipped) in enumerate(views):
        probs = predictor.probs(seen, size)
        probs = probs.flip(-1) if flipped else probs
        total = total.add_(probs) if number else probs
    return total if settings.views == 1 else total.div_(settings.views)


def _views(images: Tensor, settings: InferenceSettings) -> Iterator[tuple[Tensor, bool]]:
    """Yield the views of some images, and whether they are mirrored."""
    for scale in settings.scales:
        scaled = _resized(images, scale)
        yield scaled, False
        if settings.flips:
            yield scaled.flip(-1), True


def _resized(images: Tensor, scale: float) -> Tensor:
    """Resize RGB images by a factor, with antialiasing."""
    if scale == 1:
        return images
    if not images.is_floating_point():
        images = images.float() / 255
    size = [max(1, round(length * scale)) for length in images.shape[-2:]]
    return F.interpolate(images, size, mode="bilinear", antialias=True)
