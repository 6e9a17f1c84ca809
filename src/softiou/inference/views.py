"""A model over images or windows of one size: flips, scales, and the softmax.

Shapes: N images, C classes, (H, W) the image, (h, w) the logits at the decoder's stride.
"""

from collections.abc import Iterator

import torch
import torch.nn.functional as F
from torch import Tensor

from softiou.data import interpolate_at
from softiou.inference.devices import Precision, autocast
from softiou.inference.settings import InferenceSettings
from softiou.models import SegmentationModel
from softiou.temperature import LogitScaling


def view_probs(
    model: SegmentationModel,
    images: Tensor,
    *,
    precision: Precision,
    settings: InferenceSettings,
    scaling: LogitScaling | None,
) -> Tensor:
    """Compute probabilities (N, C, H, W) in float32, the mean over flips and scales.

    Args:
        model: In eval mode, on the device to use.
        images: RGB (N, 3, H, W), uint8 in [0, 255] or floating in [0, 1], on any device.
        precision: Of the network.
        settings: Flips and scales.
        scaling: Of the logits, before the softmax.
    """
    size = (int(images.shape[-2]), int(images.shape[-1]))
    views = _views(images.to(model.mean.device), settings)
    total = torch.zeros(())
    for number, (seen, flipped) in enumerate(views):
        logits = full_logits(model, seen, precision=precision, size=size)
        probs = (logits if scaling is None else scaling.apply(logits)).softmax(1)
        probs = probs.flip(-1) if flipped else probs
        total = total.add_(probs) if number else probs
    return total if settings.views == 1 else total.div_(settings.views)


def _views(images: Tensor, settings: InferenceSettings) -> Iterator[tuple[Tensor, bool]]:
    """Hand out what the network sees of some images, and whether it is their mirror image."""
    for scale in settings.scales:
        scaled = _resized(images, scale)
        yield scaled, False
        if settings.flips:
            yield scaled.flip(-1), True


def full_logits(
    model: SegmentationModel, images: Tensor, *, precision: Precision, size: tuple[int, int]
) -> Tensor:
    """Compute logits (N, C, H, W) in float32 at the size of the original of resized images."""
    with autocast(images.device, precision):
        logits = model(images)
    logits = logits.float()
    seen = (int(images.shape[-2]), int(images.shape[-1]))
    if seen == size:
        return model.upsample(logits, size)
    # From the decoder's stride to the original at once: nothing of the scaled size is made.
    rows, columns = (
        _cells(length, inside, cells, model.input_stride, logits.device)
        for length, inside, cells in zip(size, seen, logits.shape[-2:], strict=True)
    )
    full = interpolate_at(logits.flatten(0, 1), rows, columns)  # (N C, h, w) -> (N C, H, W)
    return full.view(*logits.shape[:2], *size)


def _cells(length: int, seen: int, cells: int, stride: int, device: torch.device) -> Tensor:
    """Return where the pixels of the original lie in the grid of the logits, in cells.

    The logits cover what the network saw, padded to a multiple of its stride.
    """
    centres = (torch.arange(length, device=device) + 0.5) * (seen / length)
    return centres * (cells / (seen + -seen % stride)) - 0.5


def _resized(images: Tensor, scale: float) -> Tensor:
    """Resize RGB images by a factor, smoothed when they become smaller."""
    if scale == 1:
        return images
    if not images.is_floating_point():
        images = images.float() / 255
    size = [max(1, round(length * scale)) for length in images.shape[-2:]]
    return F.interpolate(images, size, mode="bilinear", antialias=True)
