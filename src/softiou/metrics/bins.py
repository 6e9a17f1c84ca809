"""Bins of confidence: fine ones, which are kept, and what becomes of them when they are merged.

Shapes: N images, C classes, B bins, F fine bins.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from softiou import _checks
from softiou.metrics.image_sums import ImageSums

# Fine bins of each of the B bins; a power of two, so that no rounding moves a pixel between bins.
PARTS = 16
# Further fine bins near 1, where models that are sure of themselves put most of the pixels.
TAIL = 16


@dataclass(frozen=True)
class CalibrationBins(ImageSums):
    """Sums over the pixels of each image whose confidence lies in a bin, (N, B) or (N, C, B).

    Attributes:
        count: Pixels, int64.
        confidence: Sum of their probabilities, float64.
        correct: Sum of their truth, float64: 1 where the class is there, or its share in a soft
            target.
    """

    count: Tensor
    confidence: Tensor
    correct: Tensor

    def gaps(self) -> Tensor:
        """Compute |correct - confidence| of each bin, a sum over its pixels."""
        return (self.correct - self.confidence).abs()

    def error(self) -> Tensor:
        """Compute the expected calibration error, sum_b gap_b / n, in [0, 1]; NaN without pixels.

        float64 (N,) or (N, C), over the last dimension.
        """
        return self.gaps().sum(-1) / self.count.sum(-1)

    def largest_error(self) -> Tensor:
        """Compute the maximum calibration error, max_b gap_b / n_b, in [0, 1]; else NaN."""
        gaps = torch.where(self.count > 0, self.gaps() / self.count, -torch.inf)
        largest = gaps.amax(-1)  # amax, unlike where(largest >= 0), lets a NaN through
        return largest.masked_fill(largest == -torch.inf, torch.nan)

    def merge(self, group: Tensor, num_bins: int) -> "CalibrationBins":
        """Add up bins (N, F) by the bin that each belongs to, int64 (N, F) in [0, `num_bins`)."""

        def add(x: Tensor) -> Tensor:
            return x.new_zeros(len(x), num_bins).scatter_add(1, group, x)

        return self.apply(add)


def num_fine_bins(num_bins: int) -> int:
    """Return F for B bins of equal width."""
    return num_bins * PARTS + TAIL


def fine_bins(confidence: Tensor, num_bins: int) -> Tensor:
    """Find the fine bin of each confidence p.

        f = floor(16 B p), in [0, 16 B)     the last of which, 1 - p = u / (16 B), is divided:
        f + k                               1/2^(k+1) <= u < 1/2^k, k = 0, ..., 16

    The result, int64 in [0, F) of the same shape, rises with the confidence. What lies outside of
    [0, 1] is in the first or last bin, NaN in the first.
    """
    uniform = num_bins * PARTS
    p = confidence.double()
    fine = (p * uniform).nan_to_num(0.0).clamp(0, uniform - 1).long()
    rest = ((1 - p) * uniform).clamp(min=0).nan_to_num(0.0)
    # frexp: u = m 2^e with m in [1/2, 1), so k = -e.
    halvings = torch.where(rest > 0, -torch.frexp(rest).exponent, TAIL).clamp(0, TAIL)
    return torch.where(fine == uniform - 1, fine + halvings, fine)


def equal_width(bins: CalibrationBins, num_bins: int | None = None) -> CalibrationBins:
    """Merge fine bins (N, F) into `num_bins` bins of equal width (N, B), [b / B, (b + 1) / B).

    B is by default that of the fine bins, of which it has to be a divisor.
    """
    N, F = bins.count.shape
    most = (F - TAIL) // PARTS
    num_bins = most if num_bins is None else num_bins
    _checks.in_range("num_bins", num_bins, 1)
    if most % num_bins:
        raise ValueError(
            f"Expected `num_bins` to divide the {most} bins that were gathered, but got {num_bins}."
        )
    group = torch.arange(F, device=bins.count.device).clamp(max=F - TAIL - 1)
    group = group // ((F - TAIL) // num_bins)
    return bins.merge(group.expand(N, F), num_bins)


def equal_mass(bins: CalibrationBins, num_bins: int) -> CalibrationBins:
    """Merge fine bins (N, F) into adaptive ones (N, B), which hold about as many pixels each.

        b_f = floor(B (n_0 + ... + n_{f-1} + n_f / 2) / n)

    A fine bin goes where its middle pixel belongs, whole; bins that this leaves empty stay
    empty.
    """
    _checks.in_range("num_bins", num_bins, 1)
    count = bins.count.long()  # float64 where the images are pooled
    twice_rank = 2 * count.cumsum(1) - count
    total = count.sum(1, keepdim=True).clamp(min=1)
    group = (num_bins * twice_rank // (2 * total)).clamp(max=num_bins - 1)
    return bins.merge(group, num_bins)


def reliability(bins: CalibrationBins) -> dict[str, Tensor]:
    """Return the reliability diagram of bins of a single image (1, B) or (1, C, B)."""
    num_bins, device = bins.count.shape[-1], bins.count.device
    return {
        "edges": torch.linspace(0, 1, num_bins + 1, dtype=torch.float64, device=device),
        "count": bins.count[0],
        "confidence": (bins.confidence / bins.count)[0],
        "accuracy": (bins.correct / bins.count)[0],
    }
