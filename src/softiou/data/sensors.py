"""Changes of pixels as cameras and other sensors make them: tone, sharpness, noise, a lost band.

Shapes: B bands, h and w of the crop in pixels.
"""

import math
from dataclasses import dataclass
from typing import cast

import torch
from torch import Tensor
from torchvision.transforms.v2 import functional as F

_LEAST_PX = 0.1  # sigma of a blur that changes anything


@dataclass(frozen=True)
class SensorNoise:
    """Random tone, blur, lost bands and noise of an image, in this order; the geometry stays.

    Values of uint8 images count as 0 to 1, and so do the ranges of chosen bands, which may reach
    beyond. Each strength is drawn anew for an image, from torch's global CPU generator.

    Args:
        gamma: x -> x ** exp(g), with g uniform in +-gamma.
        blur: Largest sigma of a Gaussian blur, in pixels.
        channel_dropout: Probability that one of the bands becomes its mean.
        noise: Largest standard deviation of Gaussian noise, independent in pixels and bands.
    """

    gamma: float = 0.0
    blur: float = 0.0
    channel_dropout: float = 0.0
    noise: float = 0.0

    def __call__(self, image: Tensor) -> Tensor:
        """Return a changed copy of an image, uint8 or float32 (B, h, w); NaN stays where it is."""
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
    """Draw a number; none is drawn from an empty range."""
    return float(torch.empty(()).uniform_(low, high)) if low < high else low


def _blurred(image: Tensor, sigma: float) -> Tensor:
    """Blur an image (B, h, w); its border is mirrored, as far as it is large enough."""
    reach = [min(math.ceil(3 * sigma), length - 1) for length in image.shape[-2:]]
    kernel = [2 * length + 1 for length in reversed(reach)]  # x first
    return cast(Tensor, F.gaussian_blur(image, kernel, [sigma, sigma]))
