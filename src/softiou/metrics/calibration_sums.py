"""Sums of each image that every figure of calibration follows from.

Shapes: N images, C classes, B bins, F fine bins.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from softiou.metrics.bins import (
    CalibrationBins,
    equal_mass,
    equal_width,
    num_fine_bins,
)
from softiou.metrics.counts import OverlapCounts, empty_counts
from softiou.metrics.images import ImageSums


@dataclass(frozen=True)
class CalibrationSums(ImageSums):
    """Sums over the pixels of each image; of independent classes over entries, pixel and class.

    Attributes:
        fine: Fine bins of the confidence (N, F), see `softiou.metrics.bins`; `equal_width` and
            `equal_mass` merge them.
        brier: Sum of sum_c (p_c - y_c)^2, float64 (N,); of (p - y)^2 over entries.
        nll: Sum of -sum_c y_c log p_c in nats, float64 (N,); of the binary one over entries.
        pixels: Pixels or entries that count, int64 (N,).
    """

    fine: CalibrationBins
    brier: Tensor
    nll: Tensor
    pixels: Tensor

    @classmethod
    def empty(cls, num_bins: int) -> "CalibrationSums":
        """Return the sums of no image."""
        none = torch.zeros(0, dtype=torch.float64)
        return cls(_empty_bins(num_fine_bins(num_bins)), none, none, none.long())

    def equal_width(self, num_bins: int | None = None) -> CalibrationBins:
        """Return B bins of equal width (N, B), as many as were asked for, or a divisor of that."""
        return equal_width(self.fine, num_bins)

    def equal_mass(self, num_bins: int) -> CalibrationBins:
        """Return B adaptive bins (N, B) with about as many pixels each, image by image."""
        return equal_mass(self.fine, num_bins)

    def plus(self, other: "CalibrationSums") -> "CalibrationSums":
        """Add the sums of other pixels of the same images."""
        others = iter(other.tensors().values())
        return self.apply(lambda x: x + next(others))

    def confidence(self) -> Tensor:
        """Compute the mean confidence of each image (N,); NaN without pixels."""
        return self.fine.confidence.sum(1) / self.pixels

    def brier_score(self) -> Tensor:
        """Compute the Brier score of each image (N,), in [0, 2]; NaN without pixels."""
        return self.brier / self.pixels

    def log_loss(self) -> Tensor:
        """Compute the mean negative log-likelihood of each image (N,), nats; NaN without pixels."""
        return self.nll / self.pixels


@dataclass(frozen=True)
class PixelSums(ImageSums):
    """All that one pass over probabilities and target gathers of each image.

    Attributes:
        overlap: Counts of every class (N, C).
        calibration: Fine bins (N, F), Brier score and log-likelihood (N,).
        classwise: Bins of the probability of every class (N, C, B).
    """

    overlap: OverlapCounts
    calibration: CalibrationSums
    classwise: CalibrationBins

    @classmethod
    def empty(cls, num_classes: int, num_bins: int, *, independent: bool) -> "PixelSums":
        """Return the sums of no image."""
        return cls(
            empty_counts(num_classes, independent=independent),
            CalibrationSums.empty(num_bins),
            _empty_bins(num_classes, num_bins),
        )


def classwise_error(bins: CalibrationBins) -> Tensor:
    """Compute the calibration error of each class.

        CE_c = sum_b |y_cb - p_cb| / n

    where y_cb is the number of pixels of class c (or their share of it) among those whose
    probability of c lies in bin b, p_cb the sum of those probabilities, and n all pixels.

    Args:
        bins: Of every class (N, C, B).

    Returns:
        float64 (N, C) in [0, 1]; NaN for a class that the target does not hold.
    """
    return bins.error().where(bins.correct.sum(-1) > 0, torch.nan)


def _empty_bins(*shape: int) -> CalibrationBins:
    none = torch.zeros(0, *shape, dtype=torch.float64)
    return CalibrationBins(none.long(), none, none)
