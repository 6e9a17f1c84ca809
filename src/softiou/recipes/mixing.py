"""CutMix and ClassMix: choose the pixels of an image that are replaced by those of another.

Shapes: N images, C classes, (H, W) the crop, (h, w) the teacher's logits at their stride.

References:
    Yun et al., CutMix, ICCV 2019. French et al., Semi-supervised semantic segmentation needs
    strong, varied perturbations, BMVC 2020. Olsson et al., ClassMix, WACV 2021.
"""

import math
from collections.abc import Sequence
from itertools import accumulate

import torch
import torch.nn.functional as F
from torch import Tensor

from softiou.overlap.processes import of_rank_before, place

_AREA = (0.02, 0.4)  # fraction of the crop that a box covers
_RATIO = (0.3, 1 / 0.3)  # height / width of a box


def draw_regions(
    theirs: Tensor,
    size: tuple[int, int],
    *,
    cut_mix: float,
    class_mix: float,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """Draw the pixels of each image that are replaced by those of its partner: bool (N, H, W).

    An image gets a box of its partner with probability `cut_mix`, half of the partner's classes
    with probability `class_mix`, and nothing otherwise. `theirs` (N, C, h, w) are the teacher's
    logits of the partners. Each image has its own generator, on the CPU.
    """
    regions = theirs.new_zeros((len(theirs), *size), dtype=torch.bool)
    for region, logits, generator in zip(regions, theirs, generators, strict=True):
        kind = torch.rand((), generator=generator).item()
        if kind < cut_mix:
            top, bottom, left, right = _box(size, generator)
            region[top:bottom, left:right] = True
        elif kind < cut_mix + class_mix:
            region.copy_(_half_of_the_classes(logits, size, generator))
    return regions


def partners(values: Tensor, groups: Sequence[int] = ()) -> Tensor:
    """Return for each image the values (N, ...) of its partner, the previous image of all."""
    rank, size = place()
    rolled = values.roll(1, 0)
    if size == 1:
        return rolled
    ends = list(accumulate(groups or [len(values)]))
    before = of_rank_before(values[[end - 1 for end in ends]])
    rolled[[0, *ends[:-1]]] = before if rank else before.roll(1, 0)
    return rolled


def joined_numbers(groups: Sequence[int]) -> list[int]:
    """Return the positions of this process's images in the joint batch, group after group."""
    rank, size = place()
    starts = [size * sum(groups[:index]) + rank * count for index, count in enumerate(groups)]
    return [start + n for start, count in zip(starts, groups, strict=True) for n in range(count)]


def _box(size: tuple[int, int], generator: torch.Generator) -> tuple[int, int, int, int]:
    """Draw top, bottom, left and right of a box inside the crop."""
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
    """Choose half of the classes, and return where their probability exceeds 1/2: bool (H, W)."""
    probs = logits.float().softmax(0)
    present = torch.unique(probs.argmax(0)).cpu()
    order = torch.randperm(len(present), generator=generator)
    chosen = present[order[: len(present) // 2]].to(logits.device)  # empty for a single class
    mass = probs[chosen].sum(0)[None, None]  # (1, 1, h, w)
    return F.interpolate(mass, size, mode="bilinear", align_corners=False)[0, 0] > 0.5


def _uniform(low: float, high: float, generator: torch.Generator) -> float:
    return low + (high - low) * torch.rand((), generator=generator).item()


def _integer(largest: int, generator: torch.Generator) -> int:
    """Draw an integer from 0 to `largest`, both included."""
    return int(torch.randint(largest + 1, (), generator=generator).item())


def at_the_stride_of(logits: Tensor, inside: Tensor) -> Tensor:
    """Return which cells of logits (N, C, h, w) have their centre inside: bool (N, h, w)."""
    cells = F.interpolate(inside.unsqueeze(1).float(), logits.shape[2:], mode="nearest-exact")
    return cells[:, 0] > 0
