"""Networks small enough to know what they must answer."""

from collections.abc import Callable

import torch
from torch import Tensor, nn

from softiou.models import ModelSpec, SegmentationModel


class TinyModel(SegmentationModel):
    """The normalisation, padding and upsampling of the real one around any small network."""

    def __init__(self, net: Callable[[Tensor], Tensor], *, num_classes: int, stride: int) -> None:
        nn.Module.__init__(self)
        self.spec = ModelSpec("tiny", "none", num_classes)
        self.net = net
        self.stride = stride
        self.register_buffer("mean", torch.full((3, 1, 1), 0.5))
        self.register_buffer("std", torch.full((3, 1, 1), 0.25))

    @property
    def input_stride(self) -> int:
        return self.stride


def pointwise(num_classes: int = 3) -> TinyModel:
    """Each pixel for itself: the same wherever it lies, also at the border of a window."""
    return TinyModel(nn.Conv2d(3, num_classes, 1), num_classes=num_classes, stride=1).eval()


def local(num_classes: int = 3, *, radius: int = 1) -> TinyModel:
    """A convolution: a pixel sees `radius` pixels around it, and zeros beyond the border."""
    net = nn.Conv2d(3, num_classes, 2 * radius + 1, padding=radius)
    return TinyModel(net, num_classes=num_classes, stride=1).eval()


def strided(num_classes: int = 3, *, stride: int = 8) -> TinyModel:
    """Logits at half the stride of the input, as decoders have them."""
    layers = nn.Sequential(
        nn.Conv2d(3, 8, stride, stride=stride),
        nn.Tanh(),
        nn.Upsample(scale_factor=2, mode="nearest"),
        nn.Conv2d(8, num_classes, 3, padding=1),
    )
    return TinyModel(layers, num_classes=num_classes, stride=stride).eval()


def constant(*logits: float) -> TinyModel:
    """The same logits everywhere."""

    def net(images: Tensor) -> Tensor:
        return torch.tensor(logits).view(1, -1, 1, 1).expand(len(images), -1, *images.shape[-2:])

    return TinyModel(net, num_classes=len(logits), stride=1).eval()
