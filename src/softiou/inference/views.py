"""Views of an image for inference: sliding windows, scales and mirror images.

Along one axis, a window of n pixels has the raw weights sin^2(pi (i + 1/2) / n), which are largest
in the middle, where the network has most context, and never 0. They are divided by their sum over
all windows at each pixel. Windows form a grid; the weight of a pixel in a window is the product of
the weights along both axes, and the weights of each pixel sum to 1.

Shapes: N images, C classes, (H, W) the image.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from softiou.inference.predictors import Predictor
from softiou.inference.settings import InferenceSettings


@dataclass(frozen=True)
class Windows:
    """Windows along one axis."""

    starts: tuple[int, ...]  # first pixels, ascending; the last window ends at the end of the axis
    weights: Tensor  # (K, n) float32, for K windows of n pixels; they sum to 1 at each pixel

    @property
    def length(self) -> int:
        """Return n."""
        return int(self.weights.shape[1])

    @property
    def ends(self) -> tuple[int, ...]:
        """Return for each window the first pixel to which later windows contribute."""
        return (*self.starts[1:], self.starts[-1] + self.length)

    def to(self, device: torch.device) -> "Windows":
        """Return the windows with weights on a device."""
        return Windows(self.starts, self.weights.to(device))


def windows_along(length: int, window_px: int, overlap: float) -> Windows:
    """Return the windows along an axis; the last one is aligned with its end.

    `length` and `window_px` are in pixels; `overlap` is the fraction of a window that overlaps with
    the next one, in [0, 1).

    Example:
        >>> windows_along(10, 4, 0.5).starts, windows_along(9, 4, 0.5).starts
        ((0, 2, 4, 6), (0, 2, 4, 5))
    """
    size = min(window_px, length)
    step = max(1, round(size * (1 - overlap)))
    count = math.ceil((length - size) / step) + 1
    starts = tuple(min(index * step, length - size) for index in range(count))
    raw = torch.sin(torch.pi * (torch.arange(size, dtype=torch.float64) + 0.5) / size) ** 2
    total = torch.zeros(length, dtype=torch.float64)
    for start in starts:
        total[start : start + size] += raw
    weights = torch.stack([raw / total[start : start + size] for start in starts])
    return Windows(starts, weights.float())


def view_probs(
    predictor: Predictor,
    images: Tensor,
    *,
    settings: InferenceSettings,
    size: tuple[int, int] | None = None,
) -> Tensor:
    """Compute probabilities (N, C, H, W) in float32, averaged over flips and scales.

    The images are RGB (N, 3, H, W), uint8 in [0, 255] or floating in [0, 1], on any device.
    """
    size = size or (int(images.shape[-2]), int(images.shape[-1]))
    views = _views(images.to(predictor.device), settings)
    total = torch.zeros(())
    for number, (seen, flipped) in enumerate(views):
        probs = predictor.probs(seen, size)
        probs = probs.flip(-1) if flipped else probs
        total = total.add_(probs) if number else probs
    return total if settings.views == 1 else total.div_(settings.views)


def _views(images: Tensor, settings: InferenceSettings) -> Iterator[tuple[Tensor, bool]]:
    """Yield each view of images, and whether it is mirrored."""
    for scale in settings.scales:
        height, width = (max(1, round(length * scale)) for length in images.shape[-2:])
        scaled = resized(images, (height, width))
        yield scaled, False
        if settings.flips:
            yield scaled.flip(-1), True


def resized(images: Tensor, size: tuple[int, int]) -> Tensor:
    """Resize images (N, B, H, W), uint8 or in [0, 1], with antialiasing, to floating."""
    if tuple(images.shape[-2:]) == size:
        return images
    if not images.is_floating_point():
        images = images.float() / 255
    return F.interpolate(images, size, mode="bilinear", antialias=True)
