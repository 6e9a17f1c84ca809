"""Sample random pixels of a data set with their logits, to fit a scaling.

Shapes: C classes, (H, W) the image, (h, w) the logits at the decoder's stride, P pixels.
"""

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from softiou._processes import joined, own_share
from softiou.data import Sample, SegmentationDataset, truth
from softiou.data.base import is_huge, valid_pixels
from softiou.errors import CheckpointError, DataError
from softiou.inference import Precision, autocast
from softiou.models import SegmentationModel

_WINDOWS, _SIDE_PX = 16, 1024  # number and side of the windows sampled in a huge image


@dataclass(frozen=True)
class PixelSample:
    """Logits and targets of sampled pixels, on the CPU.

    Attributes:
        logits: float32 (P, C), at full resolution.
        target: Class indices (P,), or probabilities (P, C).
    """

    logits: Tensor
    target: Tensor


def sample_pixels(
    model: SegmentationModel,
    dataset: SegmentationDataset,
    *,
    precision: Precision,
    samples: Iterable[Sample] | None = None,
    most: int = 200_000,
    seed: int = 0,
) -> PixelSample:
    """Run a model on a data set, and sample equally many random pixels of each image.

    Args:
        model: Model in eval mode, on the device to use.
        dataset: The images and targets.
        precision: Precision of the network.
        samples: Samples of this rank in order, see `softiou._processes.own_share`, such as from a
            loader; None for all samples.
        most: Approximate number of pixels, at least one of each image.
        seed: Random seed; the choice depends only on the seed and the image number.

    Returns:
        The sampled valid pixels, ordered by image.

    Raises:
        DataError: No pixel has a label.
        CheckpointError: The model predicts NaN.
    """
    share = math.ceil(most / max(1, len(dataset)))
    logits, targets = [], []
    shared = samples is not None  # shared among processes
    numbers = own_share(len(dataset)) if shared else range(len(dataset))
    for number, sample in zip(numbers, dataset if samples is None else samples, strict=False):
        parts = _windows(sample["image"].shape, (seed, number))
        for place, window in enumerate(parts):
            target = truth(sample["target"][window], dataset.description)
            key = (seed, number) if len(parts) == 1 else (seed, number, place)
            valid = valid_pixels(target, dataset.description)
            places = draw_pixels(valid, math.ceil(share / len(parts)), key)
            found = logits_at(model, sample["image"][window], places, precision=precision).cpu()
            if not bool(found.isfinite().all()):
                raise CheckpointError(
                    f"The model's logits for {sample['stem']} are NaN or infinite: its training "
                    "has diverged. Use an earlier checkpoint, or train with a lower "
                    "optim.learning_rate."
                )
            logits.append(found)
            flat = target.flatten(-2)  # (H, W) -> (H W), (C, H, W) -> (C, H W)
            targets.append(flat[..., places].mT if flat.ndim == 2 else flat[places])
    if shared:
        logits, targets = joined(logits), joined(targets)
    if not sum(map(len, targets)):
        raise DataError(
            f"The split {dataset.split!r} has no labelled pixel to calibrate on. Choose another "
            "split with --split."
        )
    return PixelSample(torch.cat(logits), torch.cat(targets))


def _windows(size: Sequence[int], seed: tuple[int, ...]) -> list[tuple[Any, ...]]:
    """Return the windows of an image (B, H, W) to sample from: all of it, or some if huge."""
    if not is_huge(size):
        return [(..., slice(None), slice(None))]
    random, last = np.random.default_rng(seed), [max(0, length - _SIDE_PX) for length in size[-2:]]
    firsts = (map(int, random.integers(0, last, endpoint=True)) for _ in range(_WINDOWS))
    return [(..., *(slice(first, first + _SIDE_PX) for first in two)) for two in firsts]


def draw_pixels(valid: Tensor, most: int, seed: tuple[int, ...]) -> Tensor:
    """Draw up to `most` of the valid pixels, as ascending flat indices."""
    places = valid.flatten().nonzero().squeeze(1)
    if len(places) <= most:
        return places
    chosen = np.random.default_rng(seed).choice(len(places), most, replace=False, shuffle=False)
    return places[torch.from_numpy(np.sort(chosen))]


@torch.inference_mode()
def logits_at(
    model: SegmentationModel, image: Tensor, places: Tensor, *, precision: Precision
) -> Tensor:
    """Compute the logits (P, C) at flat indices (P,) of an image, equal to `predict_logits`."""
    device = model.mean.device
    with autocast(device, precision):
        logits = model(image.to(device).unsqueeze(0))
    height, width = (int(length) for length in image.shape[-2:])
    stride = model.input_stride
    # grid_sample coordinates are in [-1, 1] from border to border, including the padding
    y, x = (
        2 * (place.to(device) + 0.5) / (length + -length % stride) - 1
        for place, length in ((places // width, height), (places % width, width))
    )
    grid = torch.stack([x, y], -1).view(1, 1, -1, 2)
    values = F.grid_sample(logits.float(), grid, padding_mode="border", align_corners=False)
    return values[0, :, 0].T  # (1, C, 1, P) -> (P, C)
