"""The one formula behind the losses of other libraries."""

import torch
from torch import Tensor


def smoothed_distance(
    tp: Tensor, errors: Tensor, *, numerator: float, denominator: float
) -> Tensor:
    """Compute 1 - (tp + numerator) / (tp + errors + denominator), without its cancellation.

    Args:
        tp: Overlap, at least 0.
        errors: Priced false positives and negatives, of the same shape.
        numerator: Added above, at least 0.
        denominator: Added below, at least 0.

    Returns:
        Of the same shape; `-numerator` (0 without smoothing) where there is nothing to divide by.
    """
    total = tp + errors + denominator
    return (errors + (denominator - numerator)) / torch.where(total > 0, total, 1.0)
