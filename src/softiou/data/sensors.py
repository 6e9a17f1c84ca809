"""Augmentation that simulates sensors: tone, blur, noise and lost bands.

Shapes: B bands, h and w of the crop in pixels.
"""

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

_LEAST_PX = 0.1  # smallest sigma with an effect


@dataclass(frozen=True)
class SensorNoise:
    """Random gamma, blur, channel dropout and noise, in this order; the geometry is unchanged.

    Values of uint8 images are scaled to [0, 1]; bands are used with their scaled values, which may
    be outside [0, 1]. Strengths are drawn for each image from torch's global CPU generator.

    Args:
        gamma: x -> x ** exp(g), with g uniform in +-gamma.
        blur: Largest sigma of a Gaussian blur, in pixels.
        channel_dropout: Probability that one random band is replaced by its mean.
        noise: Largest standard deviation of Gaussian noise, independent for pixels and bands.
    """

    gamma: float = 0.0
    blur: float = 0.0
    channel_dropout: float = 0.0
    noise: float = 0.0

    def __call__(self, image: Tensor) -> Tensor:
        """Return an augmented copy of an image, uint8 or float32 (B, h, w); NaN is kept."""
        if not (self.gamma or self.blur or self.channel_dropout or self.noise):
            return image
        whole = image.dtype == torch.uint8
        values = image.float() / 255 if whole else image
        missing = values.isnan()
        values = values.where(~missing, values.nanmean().nan_to_num())
        if self.gamma:
            power = math.exp(_uniform(-self.gamma, self.gamma))
            values = values.clamp(min=0).pow(power).where(values > 0, values)
        if (sigma := _uniform(0, self.blur)) > _LEAST_PX:
            values = _blurred(values, sigma)
        if self.channel_dropout and float(torch.rand(())) < self.channel_dropout:
            band = int(torch.randint(len(values), ()))
            values = values.clone()
            values[band] = values[band].mean()
        if self.noise:
            values = values + _uniform(0, self.noise) * torch.randn(values.shape)
        if whole:
            return (values * 255).round_().clamp_(0, 255).to(torch.uint8)
        return values.masked_fill(missing, torch.nan)


def _uniform(low: float, high: float) -> float:
    """Draw a uniform number; an empty range uses no random state."""
    return float(torch.empty(()).uniform_(low, high)) if low < high else low


def _blurred(image: Tensor, sigma: float) -> Tensor:
    """Blur an image (B, h, w) with reflected borders; the kernel is limited by the image size."""
    reach = [min(math.ceil(3 * sigma), length - 1) for length in image.shape[-2:]]
    kernel = [2 * length + 1 for length in reversed(reach)]  # x first
    return cast(Tensor, F.gaussian_blur(image, kernel, [sigma, sigma]))
