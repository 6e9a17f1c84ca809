"""Moving averages of weights: how fast they move."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

HALF_LIFE = 0.05  # share of the steps after which weights have half of their influence
LONGEST = 693  # steps: a decay of 0.999


def ema_decay(steps: int) -> float:
    """Return the decay of an average that suits the number of steps of a whole run.

        decay = 0.5 ** (1 / half-life),    half-life = 5 % of the steps, from 1 to 693

    A fixed decay suits one length: with 0.99 the half-life is 69 steps, a sixth of a run of
    400.

    Example:
        >>> ema_decay(400), ema_decay(40_000)
        (0.96594, 0.999)
    """
    half_life = min(max(1.0, HALF_LIFE * steps), LONGEST)
    return round(math.pow(0.5, 1 / half_life), 5)


def averaging(decay: float) -> Any:
    """Return how `AveragedModel` moves the averages: fast at the start, with `decay` later."""

    @torch.no_grad()
    def average(averages: Sequence[Tensor], current: Sequence[Tensor], updates: Tensor) -> None:
        # The first update, number 0, copies; it does not come here.
        share = 1 - min(decay, 1 - 1 / (float(updates) + 1))
        if averages[0].is_floating_point():
            torch._foreach_lerp_(list(averages), list(current), share)
        else:  # batches that a batch norm has seen
            torch._foreach_copy_(list(averages), list(current))

    return average
