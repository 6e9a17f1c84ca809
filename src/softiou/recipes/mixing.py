"""What of another image is pasted over an unlabelled one: CutMix and ClassMix.

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

_AREA = (0.02, 0.4)  # share of the crop that a box covers
_RATIO = (0.3, 1 / 0.3)  # its height by its width


def draw_regions(
    theirs: Tensor,
    size: tuple[int, int],
    *,
    cut_mix: float,
    class_mix: float,
    generators: Sequence[torch.Generator],
) -> Tensor:
    """Draw for every image which pixels are replaced by those of its partner: bool (N, H, W).

    Each image gets a box with the chance `cut_mix`, half of the partner's classes by the teacher's
    logits of the partners, `theirs` (N, C, h, w), with the chance `class_mix`, and is left alone
    otherwise. Each image has a generator of its own, on the CPU.
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
    """Return for every image the values (N, ...) of the one before it by `joined_numbers`."""
    rank, size = place()
    rolled = values.roll(1, 0)
    if size == 1:
        return rolled
    ends = list(accumulate(groups or [len(values)]))
    before = of_rank_before(values[[end - 1 for end in ends]])
    rolled[[0, *ends[:-1]]] = before if rank else before.roll(1, 0)
    return rolled


def joined_numbers(groups: Sequence[int]) -> list[int]:
    """Return the numbers of own images in the joined batch: one group of all after the other."""
    rank, size = place()
    starts = [size * sum(groups[:index]) + rank * count for index, count in enumerate(groups)]
    return [start + n for start, count in zip(starts, groups, strict=True) for n in range(count)]


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
