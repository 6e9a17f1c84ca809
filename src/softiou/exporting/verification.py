"""Verify that an exported file computes the same as its model.

Shapes: N images, C classes, (H, W) the image.
"""

from collections.abc import Iterable
from typing import TYPE_CHECKING

import torch
import torch.nn.functional as F
from torch import Tensor

from softiou.exporting.running import Exported, as_dtype
from softiou.inference import ModelPredictor
from softiou.temperature import LogitScaling

if TYPE_CHECKING:
    from softiou.models import SegmentationModel

TOLERANCE = 1e-4  # of probabilities; the order of float32 operations changes 1e-7 to 5e-5
_CELLS_PX = 16  # of the coloured squares


def example_images(smallest_px: int, *, stride: int) -> list[Tensor]:
    """Return batches of blurred squares with noise: odd sizes, two images at once, a small one.

    Args:
        smallest_px: Smallest height and width of the program.
        stride: The network's input is a multiple of it, in pixels.

    Returns:
        RGB (N, 3, H, W), uint8, always the same.
    """
    random = torch.Generator().manual_seed(0)
    least = max(96, smallest_px)
    even = -(-least // stride) * stride
    sizes = [
        (2, least + 5, least + 38),
        (1, even, even + stride),
        (1, smallest_px, smallest_px + 3),
    ]
    return [_squares(count, (height, width), random) for count, height, width in sizes]


def _squares(count: int, size: tuple[int, int], random: torch.Generator) -> Tensor:
    cells = [-(-length // _CELLS_PX) + 1 for length in size]
    colours = torch.rand(count, 3, *cells, generator=random)
    noise = torch.rand(count, 3, *size, generator=random)
    images = F.interpolate(colours, size, mode="bilinear") * 0.9 + noise * 0.1
    return (images * 255).round().to(torch.uint8)


def largest_difference(
    exported: Exported,
    model: "SegmentationModel",
    scaling: LogitScaling | None,
    batches: Iterable[Tensor],
) -> float:
    """Compute the largest difference between probabilities of a file and its model.

    Args:
        exported: The file, on the CPU.
        model: In eval mode, on the CPU; it computes in float32.
        scaling: Of the model's logits.
        batches: Images (N, 3, H, W), uint8.

    Returns:
        In [0, 1]; infinite where the file computes NaN.
    """
    original = ModelPredictor(model, "fp32", scaling)
    largest = 0.0
    for images in batches:
        size = (int(images.shape[-2]), int(images.shape[-1]))
        seen = as_dtype(images, exported.info.input_dtype)
        with torch.inference_mode():
            difference = exported.predictor.probs(seen, size) - original.probs(images, size)
        largest = max(largest, float(difference.abs().nan_to_num(torch.inf).max()))
    return largest
