"""What of another image is pasted over an unlabelled one: CutMix and ClassMix.

Shapes: N images, C classes, (H, W) the crop, (h, w) the teacher's logits at their stride.

References:
    Yun et al., CutMix, ICCV 2019. French et al., Semi-supervised semantic segmentation needs
    strong, varied perturbations, BMVC 2020. Olsson et al., ClassMix, WACV 2021.
"""

import math

import torch
import torch.nn.functional as F
from torch import Tensor

_AREA = (0.02, 0.4)  # share of the crop that a box covers
_RATIO = (0.3, 1 / 0.3)  # its height by its width


def draw_regions(
    logits: Tensor,
    size: tuple[int, int],
    *,
    cut_mix: float,
    class_mix: float,
    generator: torch.Generator,
) -> Tensor:
    """Draw for every image which pixels are replaced by those of its partner: bool (N, H, W).

    The partner of image n is image n - 1, as `partners` hands them out. Each image gets a box
    with the chance `cut_mix`, half of the partner's classes by the teacher's logits (N, C, h,
    w) with the chance `class_mix`, and is left alone otherwise. The generator is on the CPU.
    """
    kinds = torch.rand(len(logits), generator=generator).tolist()
    regions = logits.new_zeros((len(logits), *size), dtype=torch.bool)
    for number, (kind, theirs) in enumerate(zip(kinds, partners(logits), strict=True)):
        if kind < cut_mix:
            top, bottom, left, right = _box(size, generator)
            regions[number, top:bottom, left:right] = True
        elif kind < cut_mix + class_mix:
            regions[number] = _half_of_the_classes(theirs, size, generator)
    return regions


def partners(values: Tensor) -> Tensor:
    """Return for every image the values (N, ...) of the one that is pasted over it."""
    return values.roll(1, 0)


def _box(size: tuple[int, int], generator: torch.Generator) -> tuple[int, int, int, int]:
    """Draw top, bottom, left and right of a box inside of the crop."""
    area = _uniform(*_AREA, generator) * size[0] * size[1]
    ratio = math.exp(_uniform(math.log(_RATIO[0]), math.log(_RATIO[1]), generator))
    height = min(size[0], max(1, round(math.sqrt(area * ratio))))
    width = min(size[1], max(1, round(math.sqrt(area / ratio))))
    top = _integer(size[0] - height, generator)
    left = _integer(size[1] - width, generator)
    return top, top + height, left, left + width


def _half_of_the_classes(
    logits: Tensor, size: tuple[int, int], generator: torch.Generator
) -> Tensor:
    """Return the pixels (H, W) that are likelier one of half of the classes, from (C, h, w)."""
    probs = logits.float().softmax(0)
    present = torch.unique(probs.argmax(0)).cpu()
    order = torch.randperm(len(present), generator=generator)
    chosen = present[order[: len(present) // 2]].to(logits.device)  # none of a single one
    mass = probs[chosen].sum(0)[None, None]  # (1, 1, h, w)
    return F.interpolate(mass, size, mode="bilinear", align_corners=False)[0, 0] > 0.5


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * torch.rand((), generator=generator).item()


def _integer(largest: int, generator: torch.Generator) -> int:
    """Draw an integer from 0 to the largest, both included."""
    return int(torch.randint(largest + 1, (), generator=generator).item())


def at_the_stride_of(logits: Tensor, inside: Tensor) -> Tensor:
    """Return which cells of logits (N, C, h, w) have their centre inside: bool (N, h, w)."""
    cells = F.interpolate(inside.unsqueeze(1).float(), logits.shape[2:], mode="nearest-exact")
    return cells[:, 0] > 0
