"""Compute probabilities at the original resolution, as a whole or in bands of rows.

Shapes: N images, C classes, (H, W) the image.
"""

from collections.abc import Callable, Iterable, Iterator
from typing import TYPE_CHECKING, TypeVar

import torch
from torch import Tensor

from softiou.data.bands import BandImage
from softiou.data.base import is_huge
from softiou.inference.devices import Precision
from softiou.inference.predictors import ModelPredictor, Predictor, full_logits
from softiou.inference.settings import WHOLE_IMAGE, InferenceSettings
from softiou.inference.views import Windows, view_probs, windows_along
from softiou.temperature import LogitScaling

if TYPE_CHECKING:
    from softiou.models import SegmentationModel

Item = TypeVar("Item")
_IMAGES_ON_GPU = 4  # in a pass, without the gradients of training
_BAND_ROWS = 64  # rows per band


def images_at_once(device: torch.device) -> int:
    """Return how many images of equal size to process in a pass; on a CPU more are not faster."""
    return 1 if device.type == "cpu" else _IMAGES_ON_GPU


def of_equal_size(
    items: Iterable[Item], image_of: Callable[[Item], Tensor | BandImage], *, at_most: int
) -> Iterator[list[Item]]:
    """Group successive items with images of the same shape; huge images stay alone.

    Example:
        >>> images = [torch.zeros(3, 4, side) for side in (5, 5, 5, 6, 5)]
        >>> [len(group) for group in of_equal_size(images, lambda image: image, at_most=2)]
        [2, 1, 1, 1]
    """
    group: list[Item] = []
    for item in items:
        shape = tuple(image_of(item).shape)
        if group and (
            len(group) == at_most or tuple(image_of(group[0]).shape) != shape or is_huge(shape)
        ):
            yield group
            group = []
        group.append(item)
    if group:
        yield group


@torch.inference_mode()
def predict_logits(model: "SegmentationModel", image: Tensor, *, precision: Precision) -> Tensor:
    """Compute the logits of a whole image.

    They give original and calibrated probabilities from one forward pass, equal to those of
    `predict_probs` with default settings. The arguments are those of `predict_probs`:

        logits = predict_logits(model, image, precision=precision)
        plain, calibrated = logits.softmax(0), scaling.apply(logits, dim=0).softmax(0)

    Returns:
        Logits (C, H, W) in float32, on the model's device.
    """
    size = (int(image.shape[-2]), int(image.shape[-1]))
    images = image.to(model.mean.device).unsqueeze(0)
    return full_logits(model, images, precision=precision, size=size)[0]


@torch.inference_mode()
def predict_probs(
    model: "SegmentationModel",
    image: Tensor,
    *,
    precision: Precision,
    settings: InferenceSettings = WHOLE_IMAGE,
    scaling: LogitScaling | None = None,
) -> Tensor:
    """Compute the class probabilities of one image.

    Args:
        model: Model in eval mode, on the device to use.
        image: RGB (3, H, W), uint8 in [0, 255] or floating in [0, 1], of any size.
        precision: Precision of the network; the softmax is in float32.
        settings: Windows, flips and scales; default: one pass over the whole image.
        scaling: Scaling of the logits before each softmax, or None.

    Returns:
        Probabilities (C, H, W) in float32, on the model's device.
    """
    return image_probs(ModelPredictor(model, precision, scaling), image, settings=settings)


@torch.inference_mode()
def image_probs(
    predictor: Predictor, image: Tensor, *, settings: InferenceSettings = WHOLE_IMAGE
) -> Tensor:
    """Compute the class probabilities (C, H, W) of one image, see `probability_bands`."""
    settings = settings.of(image.shape)
    bands = probability_bands(predictor, image, settings=settings)
    if settings.window_px is None:
        return next(bands)[1]
    rows, first = next(bands)
    probs = first.new_empty(len(first), *image.shape[-2:])
    probs[:, rows] = first
    for rows, band in bands:
        probs[:, rows] = band
    return probs


@torch.inference_mode()
def predict_batch(
    model: "SegmentationModel",
    images: Tensor,
    *,
    precision: Precision,
    settings: InferenceSettings = WHOLE_IMAGE,
    scaling: LogitScaling | None = None,
) -> Tensor:
    """Compute the class probabilities of images of equal size, RGB (N, 3, H, W), N > 0.

    The arguments are those of `predict_probs`; without windows, `batch_size` is the number of
    images per pass.

    Returns:
        Probabilities (N, C, H, W) in float32, on the model's device; equal to those of single
        images up to rounding.
    """
    if settings.window_px is None:
        predictor = ModelPredictor(model, precision, scaling)
        parts = [
            view_probs(predictor, part, settings=settings)
            for part in torch.split(images, settings.batch_size)
        ]
        return torch.cat(parts)
    alone = [
        predict_probs(model, image, precision=precision, settings=settings, scaling=scaling)
        for image in images
    ]
    return torch.stack(alone)


def predict_bands(
    model: "SegmentationModel",
    image: Tensor,
    *,
    precision: Precision,
    settings: InferenceSettings,
    scaling: LogitScaling | None = None,
) -> Iterator[tuple[slice, Tensor]]:
    """Compute the class probabilities of an image in bands of rows, from top to bottom.

    The arguments are those of `predict_probs`, the result is that of `probability_bands`. The image
    may be on the CPU.
    """
    return probability_bands(ModelPredictor(model, precision, scaling), image, settings=settings)


@torch.inference_mode()
def probability_bands(
    predictor: Predictor, image: Tensor | BandImage, *, settings: InferenceSettings
) -> Iterator[tuple[slice, Tensor]]:
    """Compute the class probabilities of an image in bands of rows, from top to bottom.

    A row of windows is kept until the overlap with the next one has been added, so the memory is
    that of (C, window height, W) instead of all probabilities.

    Args:
        predictor: A model, or an exported file of `softiou.exporting.open_exported`.
        image: RGB (3, H, W), uint8 in [0, 255] or floating in [0, 1], of any size and on any
            device; or a file of bands, read one row of windows at a time.
        settings: Windows, flips and scales; without windows, the image is one band unless it is
            huge, see `InferenceSettings`.

    Yields:
        Rows, and their probabilities (C, rows, W) in float32, on the predictor's device; the
        bands cover each row once, in order.
    """
    settings = settings.of(image.shape)
    if settings.window_px is None:
        probs = view_probs(predictor, image[:, :].unsqueeze(0), settings=settings)
        yield slice(0, int(image.shape[-2])), probs[0]
        return
    device = predictor.device
    down, across = (
        windows_along(int(length), window_px, settings.overlap).to(device)
        for length, window_px in zip(image.shape[-2:], settings.window_px, strict=True)
    )
    strip = torch.zeros(predictor.num_classes, down.length, image.shape[-1], device=device)
    for top, end, row_weights in zip(down.starts, down.ends, down.weights, strict=True):
        pixels = image[:, top : top + down.length]
        for left, weights, probs in _across(predictor, pixels, across, settings):
            part = strip[:, :, left : left + across.length]
            part.addcmul_(probs, row_weights.unsqueeze(1) * weights)
        for row in range(0, end - top, _BAND_ROWS):
            below = min(row + _BAND_ROWS, end - top)
            yield slice(top + row, top + below), strip[:, row:below].clone()
        _move_up(strip, end - top)


def _across(
    predictor: Predictor, pixels: Tensor, windows: Windows, settings: InferenceSettings
) -> Iterator[tuple[int, Tensor, Tensor]]:
    """Yield start, weights (w,) and probabilities of each window of a row (3, h, W)."""
    for first in range(0, len(windows.starts), settings.batch_size):
        some = slice(first, first + settings.batch_size)
        starts = windows.starts[some]
        crops = torch.stack([pixels[..., left : left + windows.length] for left in starts])
        probs = view_probs(predictor, crops, settings=settings)
        yield from zip(starts, windows.weights[some], probs, strict=True)


def _move_up(strip: Tensor, rows: int) -> None:
    """Shift the rows (C, h, W) up in place, and fill with zeros."""
    height = int(strip.shape[1])
    for row in range(0, height - rows, rows):  # blocks that do not overlap their target
        below = min(row + rows, height - rows)
        strip[:, row:below] = strip[:, row + rows : below + rows]
    strip[:, height - rows :] = 0
