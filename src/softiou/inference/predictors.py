"""Predictors compute probabilities of images with a model or an exported file.

Shapes: N images, C classes, (H, W) the image, (h, w) the input of the network.
"""

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

import torch
from torch import Tensor

from softiou.errors import CheckpointError
from softiou.inference.devices import Precision, autocast
from softiou.soft_labels import interpolate_at
from softiou.temperature import LogitScaling

if TYPE_CHECKING:  # exported files run without model libraries
    from softiou.models import SegmentationModel


class Predictor(Protocol):
    """Interface to compute probabilities; windows, flips and scales are applied by the caller."""

    @property
    def num_classes(self) -> int:
        """C, the number of classes."""

    @property
    def device(self) -> torch.device:
        """The device of images and probabilities."""

    def probs(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        """Compute probabilities (N, C, H, W) in float32 at the original size (H, W).

        `images` are RGB (N, 3, h, w), uint8 in [0, 255] or floating in [0, 1], on `device`.
        """


def require_finite(probs: Tensor, *, model: str, image: str) -> None:
    """Raise CheckpointError with model and image unless all probabilities are finite."""
    if not bool(probs.isfinite().all()):
        raise CheckpointError(
            f"{model} predicts NaN for {image}: its training has diverged. Use an earlier "
            "checkpoint, or train with a lower optim.learning_rate."
        )


@dataclass(frozen=True)
class ModelPredictor:
    """A predictor for a model: scales and interpolates its logits before the softmax.

    Attributes:
        model: Model in eval mode, on the device to use.
        precision: Precision of the network; the softmax is in float32.
        scaling: Scaling of the logits, or None.
    """

    model: "SegmentationModel"
    precision: Precision
    scaling: LogitScaling | None = None

    @property
    def num_classes(self) -> int:
        """C, the number of classes."""
        return self.model.spec.num_classes

    @property
    def device(self) -> torch.device:
        """The device of the model."""
        return self.model.mean.device

    def probs(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        """Compute probabilities (N, C, H, W), see `Predictor`."""
        logits = full_logits(self.model, images, precision=self.precision, size=size)
        return (logits if self.scaling is None else self.scaling.apply(logits)).softmax(1)


@torch.inference_mode()
def full_logits(
    model: "SegmentationModel", images: Tensor, *, precision: Precision, size: tuple[int, int]
) -> Tensor:
    """Compute logits (N, C, H, W) in float32 at the original size of resized images."""
    with autocast(images.device, precision):
        logits = model(images)
    logits = logits.float()
    seen = (int(images.shape[-2]), int(images.shape[-1]))
    if seen == size:
        return model.upsample(logits, size)
    # interpolate directly from the decoder's stride to the original size
    rows, columns = (
        _cells(length, inside, cells, model.input_stride, logits.device)
        for length, inside, cells in zip(size, seen, logits.shape[-2:], strict=True)
    )
    full = interpolate_at(logits.flatten(0, 1), rows, columns)  # (N C, h, w) -> (N C, H, W)
    return full.view(*logits.shape[:2], *size)


def _cells(length: int, seen: int, cells: int, stride: int, device: torch.device) -> Tensor:
    """Return the positions of the original pixels in the grid of the logits, in cells.

    The logits cover the input of the network, padded to a multiple of its stride.
    """
    centres = (torch.arange(length, device=device) + 0.5) * (seen / length)
    return centres * (cells / (seen + -seen % stride)) - 0.5
