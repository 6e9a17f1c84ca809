"""The cross-entropy of each class, with label smoothing and focal factor, and its gradient.

With y' = (1 - epsilon) y + epsilon / K, where K is C for a softmax and 2 for a sigmoid:

    softmax:  e_c = |y'_c - p_c|^gamma y'_c (-log p_c)
    sigmoid:  the same e_c, and for negatives |y'_c - p_c|^gamma (1 - y'_c) (-log(1 - p_c))

For hard labels |y' - p| is 1 minus the probability of the label, the factor of the focal loss (Lin
et al., 2017); for soft labels it is that of the quality focal loss (Li et al., 2020), which is
minimal at p = y. With f = |y' - p|^gamma and the gradients G and H of both sums, the gradient of
the logits z is h for a sigmoid and h - p sum_k h_k for a softmax, where

    softmax:  h = G y' (gamma |y' - p|^(gamma - 1) sign(p - y') p (-log p) - f)
    sigmoid:  h = gamma |y' - p|^(gamma - 1) sign(p - y') p (1 - p) (G y' (-log p)
                  + H (1 - y') (-log(1 - p))) + f (H (1 - y') p - G y' (1 - p))

Shapes: `dim` is the dimension of the classes in all tensors.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from softiou.overlap.settings import PassSettings


def entropies(
    z: Tensor, p: Tensor, y: Tensor, settings: PassSettings, *, dim: int
) -> tuple[Tensor, Tensor | None]:
    """Return the terms of the cross-entropy, and for a sigmoid those of the negatives."""
    y = _smoothed(y, settings, dim)
    factor = _power((y - p).abs(), settings.focal_gamma) if settings.focal_gamma else y.new_ones(())
    if settings.activation == "softmax":
        # A logit of -inf must not give 0 * inf = NaN where the class is not in the target.
        return torch.where(y != 0, -factor * y * z.log_softmax(dim), 0.0), None
    on = torch.where(y != 0, -factor * y * F.logsigmoid(z), 0.0)
    return on, torch.where(y != 1, -factor * (1 - y) * F.logsigmoid(-z), 0.0)


def entropy_gradient(
    z: Tensor, p: Tensor, y: Tensor, on: Tensor, off: Tensor, settings: PassSettings
) -> Tensor:
    """Return h (C, T) for the gradients (C, 1) of the sums; see the docstring of the module."""
    y = _smoothed(y, settings, 0)
    gamma, softmax = settings.focal_gamma, settings.activation == "softmax"
    slope: Tensor = -on * y if softmax else off * (1 - y) * p - on * y * torch.sigmoid(-z)
    if not gamma:
        return slope
    gap = p - y
    steep = gamma * _power(gap.abs(), gamma - 1) * gap.sign()
    if softmax:
        of_factor: Tensor = on * y * torch.special.entr(p)
    else:
        costs = -on * y * F.logsigmoid(z) - off * (1 - y) * F.logsigmoid(-z)
        of_factor = p * torch.sigmoid(-z) * costs
    return steep * of_factor + _power(gap.abs(), gamma) * slope


def _smoothed(y: Tensor, settings: PassSettings, dim: int) -> Tensor:
    epsilon = settings.label_smoothing
    if not epsilon:
        return y
    return (1 - epsilon) * y + epsilon / (y.shape[dim] if settings.activation == "softmax" else 2)


def _power(x: Tensor, exponent: float) -> Tensor:
    """Return x^exponent; for x = 0, value and gradient are 0 instead of infinity or NaN."""
    return torch.where(x > 0, torch.where(x > 0, x, 1.0) ** exponent, 0.0)
