"""Sums of each image that every figure of calibration follows from.

Shapes: N images, C classes, B bins, F fine bins.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from softiou.metrics.bins import CalibrationBins, equal_mass, equal_width, num_fine_bins
from softiou.metrics.counts import OverlapCounts, empty_counts
from softiou.metrics.image_sums import ImageSums

# By how much the probabilities of a pixel may miss what they should be: bfloat16 has 8 bits.
_ROUNDING = 1e-2


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


def check_confidences(bins: CalibrationBins, *, least: float = 0.0) -> None:
    """Raise ValueError when bins (N, F) or (N, C, B) cannot be those of probabilities.

    It costs the number of bins, not that of pixels. The first and the last bin also hold what
    lies outside of [0, 1], which shows in their means. The mean confidence of an image cannot
    be below `least`, 1 / C for the largest of C. NaN passes: it is to show in the scores.
    """
    means = bins.confidence / bins.count
    _refuse("of at least 0", means, means < -_ROUNDING)
    _refuse("of at most 1", means, means > 1 + _ROUNDING)
    mean = bins.confidence.sum(-1) / bins.count.sum(-1)
    _refuse(f"whose largest is at least {least:.4g}", mean, mean < (1 - _ROUNDING) * least)


def check_masses(bins: CalibrationBins) -> None:
    """Raise ValueError unless the mean pixel of each image has the mass 1 over the classes.

    The bins are those of the probability of every class (N, C, B); NaN passes.
    """
    mass = bins.confidence.sum((1, 2)) / bins.count[:, 0].sum(1)
    _refuse("that sum to 1 over the classes", mass, (mass - 1).abs() > _ROUNDING)


def _refuse(wanted: str, means: Tensor, wrong: Tensor) -> None:
    if bool(wrong.any()):
        raise ValueError(
            f"Expected `probs` to be probabilities {wanted}, but found {means[wrong][0].item():.4g}"
            " in the mean of an image. Logits need `logits.softmax(1)` first, or "
            "`logits.sigmoid()` for independent classes."
        )


def _empty_bins(*shape: int) -> CalibrationBins:
    none = torch.zeros(0, *shape, dtype=torch.float64)
    return CalibrationBins(none.long(), none, none)
