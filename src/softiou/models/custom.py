"""Custom networks with the interface of `SegmentationModel`."""

from collections.abc import Mapping

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from softiou.data import Bands
from softiou.models.segmentation import SegmentationModel
from softiou.models.spec import CUSTOM, ModelSpec, qualified_name


class CustomModel(SegmentationModel):
    """Wrap any module that maps images to logits.

    Args:
        net: Maps floats in [0, 1] (N, B, H, W) to logits (N, C, h, w) at any stride, or to a dict
            with the logits as "out", like torchvision's models. It has to normalise its input. Two
            optional attributes are used: `encoder`, a submodule with its own learning rate, and
            `input_stride`: height and width are padded with zeros at the bottom and right to
            multiples of it.
        num_classes: C.
        bands: As in `ModelSpec`.
    """

    def __init__(self, net: nn.Module, num_classes: int, bands: Bands | None = None) -> None:
        nn.Module.__init__(self)  # nothing is built from the spec
        self.net = net
        self.spec = ModelSpec(f"{CUSTOM}{qualified_name(net)}", "", num_classes, bands=bands)
        self.auxiliary = None
        self.register_buffer("mean", torch.zeros(3, 1, 1))
        self.register_buffer("std", torch.ones(3, 1, 1))

    def forward(self, images: Tensor) -> Tensor:
        """Compute logits at the network's own stride.

        The images are (N, B, H, W), uint8 in [0, 255] or floating in [0, 1]. Raises ValueError if
        the network returns something other than logits (N, C, h, w).
        """
        if not images.is_floating_point():
            images = images.to(self.mean.dtype) / 255
        if self.spec.bands is not None:
            images = images.nan_to_num(0.5)  # the mean of each band
        height, width = images.shape[-2:]
        stride = self.input_stride
        if height % stride or width % stride:
            images = F.pad(images, (0, -width % stride, 0, -height % stride))
        logits = logits_of(self.net, images)
        if logits.shape[1] != self.spec.num_classes:
            raise ValueError(
                f"Expected the model to return logits of {self.spec.num_classes} classes, but got "
                f"{tuple(logits.shape)}. Change its last layer or the classes."
            )
        return logits

    @property
    def input_stride(self) -> int:
        """Number that height and width of the network's input must be multiples of."""
        return int(getattr(self.net, "input_stride", 1))

    def encoder_parameters(self) -> set[nn.Parameter]:
        """Return the parameters of the submodule `encoder`; empty if there is none."""
        encoder = getattr(self.net, "encoder", None)
        return set(encoder.parameters()) if isinstance(encoder, nn.Module) else set()


def logits_of(net: nn.Module, images: Tensor) -> Tensor:
    """Return the logits (N, C, h, w) for floats (N, B, H, W); raise ValueError for others."""
    found = net(images)
    logits = found.get("out") if isinstance(found, Mapping) else found
    if not isinstance(logits, Tensor) or logits.ndim != 4:
        kind = tuple(logits.shape) if isinstance(logits, Tensor) else type(found).__name__
        raise ValueError(
            "Expected the model to return logits (N, C, h, w), or a dict with them as 'out', but "
            f"got {kind}. Wrap it in a module that returns only the logits."
        )
    return logits


def count_classes(net: nn.Module, image: Tensor) -> int:
    """Return the number of classes that a network predicts for an image (B, H, W)."""
    training, stride = net.training, int(getattr(net, "input_stride", 1))
    height, width = (length - length % stride for length in image.shape[-2:])
    pixels = image[None, :, :height, :width]
    try:
        with torch.no_grad():
            logits = logits_of(
                net.eval(), pixels if pixels.is_floating_point() else pixels.float() / 255
            )
    finally:
        net.train(training)
    return int(logits.shape[1])
