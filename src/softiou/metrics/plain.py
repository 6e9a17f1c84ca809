"""The pass over the pixels in plain PyTorch: the reference, for any target and any device.

Shapes: N images, C classes, *S space, P pixels, B bins.
"""

from functools import reduce

import torch
from torch import Tensor

from softiou.metrics.bins import CalibrationBins, fine_bins, num_fine_bins
from softiou.metrics.calibration_sums import CalibrationSums
from softiou.metrics.decoding import DecodedTarget

# The smallest normal float32. Probabilities may underflow to 0; the loss of a pixel is at most 87.
TINY = torch.finfo(torch.float32).tiny


def confidence_sums(probs: Tensor, target: DecodedTarget, *, num_bins: int) -> CalibrationSums:
    """Compute the sums of exclusive classes; see `softiou.metrics.confidence_sums`."""
    confidence, preds = probs.max(1)
    brier = torch.zeros_like(confidence, dtype=torch.float64)
    nll = torch.zeros_like(brier)
    for c in range(probs.shape[1]):  # class by class, which needs memory for a few (N, P) only
        p, y = probs[:, c].double(), target.of_class(c)
        brier += (p - y).square()
        nll -= torch.where(y > 0, y * p.clamp(min=TINY).log(), 0.0)
    valid = target.valid.flatten(1)
    return CalibrationSums(
        _top_bins(confidence, target.of_classes(preds), target.valid, num_bins),
        brier=brier.flatten(1).where(valid, 0.0).sum(1),
        nll=nll.flatten(1).where(valid, 0.0).sum(1),
        pixels=valid.sum(1),
    )


def answer_sums(probs: Tensor, target: DecodedTarget, *, num_bins: int) -> CalibrationSums:
    """Compute the sums of independent classes over all entries (pixel, class)."""

    def of_class(c: int) -> CalibrationSums:
        p, y, valid = probs[:, c].double(), target.of_class(c), target.valid[:, c]
        nll = torch.where(y > 0, y * p.clamp(min=TINY).log(), 0.0)
        nll += torch.where(y < 1, (1 - y) * (1 - p).clamp(min=TINY).log(), 0.0)
        return CalibrationSums(
            _top_bins(probs[:, c], y, valid, num_bins),
            brier=(p - y).square().where(valid, 0.0).flatten(1).sum(1),
            nll=-nll.where(valid, 0.0).flatten(1).sum(1),
            pixels=valid.flatten(1).sum(1),
        )

    return reduce(CalibrationSums.plus, map(of_class, range(probs.shape[1])))


def class_bins(probs: Tensor, target: DecodedTarget, *, num_bins: int) -> CalibrationBins:
    """Compute the bins of every class (N, C, B); see `softiou.metrics.classwise_bins`."""
    independent = target.labels is None
    found = []
    for c in range(probs.shape[1]):
        p = probs[:, c]
        group = (p.double() * num_bins).nan_to_num(0.0).clamp(0, num_bins - 1).long()
        valid = target.valid[:, c] if independent else target.valid
        found.append(_histogram(group, p, target.of_class(c), valid, num_bins))
    return CalibrationBins(
        *(
            torch.stack([getattr(bins, name) for bins in found], 1)
            for name in ("count", "confidence", "correct")
        )
    )


def _top_bins(confidence: Tensor, correct: Tensor, valid: Tensor, B: int) -> CalibrationBins:
    group = fine_bins(confidence, B)
    return _histogram(group, confidence, correct, valid, num_fine_bins(B))


def _histogram(
    group: Tensor, confidence: Tensor, correct: Tensor, valid: Tensor, size: int
) -> CalibrationBins:
    """Sum confidence, correctness and count of the valid pixels of each image by bin."""
    N = len(group)
    image = torch.arange(N, device=group.device).unsqueeze(1) * size
    index = (group.flatten(1) + image)[valid.flatten(1)]
    confidence, correct = confidence[valid].double(), correct[valid].double()
    count, *sums = (
        torch.bincount(index, weights, minlength=N * size).view(N, size)
        for weights in (None, confidence, correct)
    )
    # bincount returns float32 for an empty input.
    return CalibrationBins(count, *(x.double() for x in sums))
