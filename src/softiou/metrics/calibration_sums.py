"""Sums over the pixels of each image from which all calibration metrics are computed.

Shapes: N images, C classes, B bins, F fine bins.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from softiou.metrics.bins import CalibrationBins, equal_mass, equal_width, num_fine_bins
from softiou.metrics.counts import OverlapCounts, empty_counts
from softiou.metrics.image_sums import ImageSums

# Tolerance for sums of probabilities: bfloat16 has 8 bits.
_ROUNDING = 1e-2


@dataclass(frozen=True)
class CalibrationSums(ImageSums):
    """Sums over the pixels of each image; for independent classes, over entries (pixel, class).

    Attributes:
        fine: Fine bins of the confidence (N, F), see `softiou.metrics.bins`; `equal_width` and
            `equal_mass` merge them.
        brier: Sum of sum_c (p_c - y_c)^2, float64 (N,); for entries, of (p - y)^2.
        nll: Sum of -sum_c y_c log p_c in nats, float64 (N,); for entries, of the binary one.
        pixels: Number of valid pixels or entries, int64 (N,).
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
        """Return B bins of equal width (N, B); `num_bins` must divide the original number."""
        return equal_width(self.fine, num_bins)

    def equal_mass(self, num_bins: int) -> CalibrationBins:
        """Return B adaptive bins (N, B) with about equal numbers of pixels, for each image."""
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
    """All sums of each image, computed in one pass over probabilities and target.

    Attributes:
        overlap: Overlap counts of every class (N, C).
        calibration: Fine bins (N, F), and sums for Brier score and log-likelihood (N,).
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

    where y_cb is the number of pixels of class c (or the sum of their target probabilities) among
    those whose predicted probability of c lies in bin b, p_cb is the sum of these predicted
    probabilities, and n is the number of pixels.

    Args:
        bins: Bins of every class (N, C, B).

    Returns:
        float64 (N, C) in [0, 1]; NaN for a class that is not in the target.
    """
    return bins.error().where(bins.correct.sum(-1) > 0, torch.nan)


def check_confidences(bins: CalibrationBins, *, least: float = 0.0) -> None:
    """Raise a ValueError if bins (N, F) or (N, C, B) cannot come from probabilities.

    This checks bins instead of pixels. Values outside [0, 1] are in the first and last bin, and
    change their means. `least` is the lowest possible mean confidence of an image, 1 / C for the
    highest of C probabilities. NaN does not raise, so that it shows in the metrics.
    """
    means = bins.confidence / bins.count
    _refuse("of at least 0", means, means < -_ROUNDING)
    _refuse("of at most 1", means, means > 1 + _ROUNDING)
    mean = bins.confidence.sum(-1) / bins.count.sum(-1)
    _refuse(f"whose largest is at least {least:.4g}", mean, mean < (1 - _ROUNDING) * least)


def check_masses(bins: CalibrationBins) -> None:
    """Raise a ValueError unless the probabilities of each image sum to 1 on average.

    The bins are those of the probability of every class (N, C, B). NaN does not raise.
    """
    mass = bins.confidence.sum((1, 2)) / bins.count[:, 0].sum(1)
    _refuse("that sum to 1 over the classes", mass, (mass - 1).abs() > _ROUNDING)


def _refuse(wanted: str, means: Tensor, wrong: Tensor) -> None:
    if bool(wrong.any()):
        raise ValueError(
            f"Expected `probs` to be probabilities {wanted}, but found {means[wrong][0].item():.4g}"
            " in the mean of an image. For logits, use `logits.softmax(1)`, or "
            "`logits.sigmoid()` for independent classes."
        )


def _empty_bins(*shape: int) -> CalibrationBins:
    none = torch.zeros(0, *shape, dtype=torch.float64)
    return CalibrationBins(none.long(), none, none)
