"""The decay of moving averages of weights."""

import math
from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor

HALF_LIFE = 0.05  # half-life as a fraction of all steps
LONGEST = 693  # longest half-life in steps, a decay of 0.999


def ema_decay(steps: int) -> float:
    """Return a decay of the moving average that depends on the number of steps of the run.

        decay = 0.5 ** (1 / half-life),    half-life = 5 % of the steps, from 1 to 693

    A fixed decay does not suit short runs: with 0.99, the half-life is 69 steps, a sixth of 400.

    Example:
        >>> ema_decay(400), ema_decay(40_000)
        (0.96594, 0.999)
    """
    half_life = min(max(1.0, HALF_LIFE * steps), LONGEST)
    return round(math.pow(0.5, 1 / half_life), 5)


def averaging(decay: float) -> Any:
    """Return the update function of `AveragedModel`; the decay rises from 0 to `decay`."""

    @torch.no_grad()
    def average(averages: Sequence[Tensor], current: Sequence[Tensor], updates: Tensor) -> None:
        # AveragedModel copies the weights at update 0, without calling this function.
        share = 1 - min(decay, 1 - 1 / (float(updates) + 1))
        if averages[0].is_floating_point():
            torch._foreach_lerp_(list(averages), list(current), share)
        else:  # the number of batches tracked by batch normalisation
            torch._foreach_copy_(list(averages), list(current))

    return average
