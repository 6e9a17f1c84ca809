"""Confidence bins for calibration: fine bins, which can be merged into coarser ones.

Shapes: N images, C classes, B bins, F fine bins.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from softiou import _checks
from softiou.metrics.image_sums import ImageSums

# Fine bins in each of the B bins; a power of two, so that rounding moves no pixel between bins.
PARTS = 16
# Additional fine bins near 1, where confident models have most of the pixels.
TAIL = 16


@dataclass(frozen=True)
class CalibrationBins(ImageSums):
    """Sums over the pixels of each image in each confidence bin, (N, B) or (N, C, B).

    Attributes:
        count: Number of pixels, int64.
        confidence: Sum of their predicted probabilities, float64.
        correct: Sum of their target probabilities, float64: 0 or 1 for hard labels.
    """

    count: Tensor
    confidence: Tensor
    correct: Tensor

    def gaps(self) -> Tensor:
        """Compute |correct - confidence| of each bin, not divided by its number of pixels."""
        return (self.correct - self.confidence).abs()

    def error(self) -> Tensor:
        """Compute the expected calibration error, sum_b gap_b / n, in [0, 1]; NaN without pixels.

        The result is float64 (N,) or (N, C).
        """
        return self.gaps().sum(-1) / self.count.sum(-1)

    def largest_error(self) -> Tensor:
        """Compute the maximum calibration error, max_b gap_b / n_b; NaN without pixels."""
        gaps = torch.where(self.count > 0, self.gaps() / self.count, -torch.inf)
        largest = gaps.amax(-1)  # amax propagates NaN
        return largest.masked_fill(largest == -torch.inf, torch.nan)

    def merge(self, group: Tensor, num_bins: int) -> "CalibrationBins":
        """Merge bins (N, F); `group`, int64 (N, F) in [0, `num_bins`), is the new bin of each."""

        def add(x: Tensor) -> Tensor:
            return x.new_zeros(len(x), num_bins).scatter_add(1, group, x)

        return self.apply(add)


def num_fine_bins(num_bins: int) -> int:
    """Return the number of fine bins F for B bins of equal width."""
    return num_bins * PARTS + TAIL


def fine_bins(confidence: Tensor, num_bins: int) -> Tensor:
    """Find the fine bin of each confidence p.

        f = floor(16 B p), in [0, 16 B)     the last of these is divided, with u = 16 B (1 - p):
        f + k                               1/2^(k+1) <= u < 1/2^k, k = 0, ..., 16

    The result is int64 in [0, F), of the same shape, and increases with the confidence. Values
    outside [0, 1] are in the first or last bin, NaN in the first.
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

    `num_bins` must divide the B of the fine bins, which is the default.
    """
    N, F = bins.count.shape
    most = (F - TAIL) // PARTS
    num_bins = most if num_bins is None else num_bins
    _checks.in_range("num_bins", num_bins, 1)
    if most % num_bins:
        raise ValueError(
            f"Expected `num_bins` to divide {most}, the number of bins, but got {num_bins}."
        )
    group = torch.arange(F, device=bins.count.device).clamp(max=F - TAIL - 1)
    group = group // ((F - TAIL) // num_bins)
    return bins.merge(group.expand(N, F), num_bins)


def equal_mass(bins: CalibrationBins, num_bins: int) -> CalibrationBins:
    """Merge fine bins (N, F) into adaptive bins (N, B) of about equal numbers of pixels.

        b_f = floor(B (n_0 + ... + n_{f-1} + n_f / 2) / n)

    A fine bin is not divided: it is added to the bin of its middle pixel. Bins may be empty.
    """
    _checks.in_range("num_bins", num_bins, 1)
    count = bins.count.long()  # counts of pooled images are float64
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
