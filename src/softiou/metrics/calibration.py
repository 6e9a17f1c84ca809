"""Calibration metrics, top-label and class-wise: are 80 % of pixels with confidence 0.8 correct?

Shapes: N images, C classes, *S space, B bins.
"""

from abc import abstractmethod
from typing import Any

from torch import Tensor

from softiou import _checks
from softiou.metrics.bins import CalibrationBins, reliability
from softiou.metrics.calibration_sums import CalibrationSums, PixelSums
from softiou.metrics.decoding import AnyTarget
from softiou.metrics.pixels import classwise_bins, confidence_sums
from softiou.metrics.scores import BinnedMetric
from softiou.metrics.weighted import classwise_metrics, equal_weights, weighted_mean


class CalibrationMetric(BinnedMetric[CalibrationSums]):
    """Base class of metrics whose state is the calibration sums (N, F) of every image.

    F is 16 B + 16. For B = 15, the state of an image has 256 fine bins of three numbers.

    Args:
        num_classes, num_bins, independent, ignore_index: As in `pixel_sums`.
        per: "dataset" for all pixels together, "image" for the mean over images with valid pixels.
        **kwargs: Arguments of `torchmetrics.Metric`.
    """

    higher_is_better = False

    def __init__(
        self, num_classes: int, *, num_bins: int = 15, per: str = "dataset", **kwargs: Any
    ) -> None:
        _checks.whole("num_classes", num_classes, 1)
        _checks.in_range("num_bins", num_bins, 1)
        _checks.one_of("per", per, ("dataset", "image"))
        empty = CalibrationSums.empty(num_bins)
        super().__init__(num_classes, empty=empty, num_bins=num_bins, **kwargs)
        self.per = per

    @abstractmethod
    def score(self, sums: CalibrationSums) -> Tensor:
        """Return the score of each image (N,), NaN without pixels."""

    def compute(self) -> Tensor:
        """Return a float64 scalar; NaN without pixels, or where a probability was NaN."""
        sums = self.sums()
        if self.per == "dataset":
            sums = sums.merge_images()
        return weighted_mean(self.score(sums), equal_weights(sums), valid=sums.pixels > 0)[0]

    def reliability(self) -> dict[str, Tensor]:
        """Return the reliability diagram of the images of this process.

        "edges" (B + 1,), "count" (B,), and mean "confidence" and "accuracy" of the bins (B,), NaN
        for empty bins.
        """
        return reliability(self.sums().merge_images().equal_width())


class TopLabelMetric(CalibrationMetric):
    """Base class of top-label calibration metrics over all pixels; see `confidence_sums`."""

    def gather(self, probs: Tensor, target: AnyTarget, valid: Tensor | None) -> CalibrationSums:
        """Compute the sums of a batch."""
        return confidence_sums(probs, target, valid=valid, **self.options())


class ExpectedCalibrationError(TopLabelMetric):
    """Top-label expected calibration error.

        ECE = sum_b n_b / n |accuracy_b - confidence_b|

    where bin b has the pixels whose highest probability lies in [b / B, (b + 1) / B). For a soft
    target, the accuracy of a pixel is the target's probability of the predicted class.

    Args:
        num_classes: C, at least 2; at least 1 for independent classes.
        adaptive: Use bins with about equal numbers of pixels, merged from 16 B + 16 fine bins. With
            bins of equal width, most pixels of a good model are in the last bins.
        **kwargs: `num_bins`, `per`, `independent` and others of `CalibrationMetric`.

    Note:
        The state of an image has 3 (16 B + 16) numbers (counts int64, sums float64), whatever the
        number of pixels.

    Example:
        >>> import torch
        >>> metric = ExpectedCalibrationError(num_classes=2)
        >>> metric.update(torch.tensor([[[0.75], [0.25]]]), torch.tensor([[1]]))
        >>> metric.compute()  # confidence 0.75, accuracy 0
        tensor(0.7500, dtype=torch.float64)

    References:
        Guo, Pleiss, Sun, Weinberger, On Calibration of Modern Neural Networks, ICML 2017, eq. 3.
        Adaptive: Nixon, Dusenberry, Zhang, Jerfel, Tran, Measuring Calibration in Deep Learning,
        CVPR workshops 2019, arXiv 1904.01685, which averages over all classes.
    """

    def __init__(self, num_classes: int, *, adaptive: bool = False, **kwargs: Any) -> None:
        super().__init__(num_classes, **kwargs)
        self.adaptive = adaptive

    def score(self, sums: CalibrationSums) -> Tensor:
        """Return the error of each image (N,) in [0, 1]."""
        bins = sums.equal_mass(self.num_bins) if self.adaptive else sums.equal_width()
        return bins.error()


class MaximumCalibrationError(TopLabelMetric):
    """Maximum calibration error: the largest gap between accuracy and confidence of any bin.

        MCE = max_b |accuracy_b - confidence_b|

    A bin with one pixel has the same weight as any other. Arguments as in `CalibrationMetric`.

    References:
        Guo, Pleiss, Sun, Weinberger, On Calibration of Modern Neural Networks, ICML 2017, section
        2.
    """

    def score(self, sums: CalibrationSums) -> Tensor:
        """Return the error of each image (N,) in [0, 1]."""
        return sums.equal_width().largest_error()


class BrierScore(TopLabelMetric):
    """Brier score: mean squared distance of probabilities and target, sum_c (p_c - y_c)^2.

    It is in [0, 2]; for independent classes it is the mean of (p - y)^2 over entries, in [0, 1]. It
    is a proper scoring rule. Arguments as in `CalibrationMetric`.

    References:
        Brier, Verification of forecasts expressed in terms of probability, Monthly Weather Review
        78, 1950.
    """

    def score(self, sums: CalibrationSums) -> Tensor:
        """Return the score of each image (N,)."""
        return sums.brier_score()


class NegativeLogLikelihood(TopLabelMetric):
    """Negative log-likelihood, the mean of -sum_c y_c log p_c in nats; a proper scoring rule.

    For independent classes, the mean of -y log p - (1 - y) log(1 - p) over entries. Probabilities
    are clipped at 1.2e-38, a loss of 87. Arguments as in `CalibrationMetric`.
    """

    def score(self, sums: CalibrationSums) -> Tensor:
        """Return the score of each image (N,)."""
        return sums.log_loss()


class ClasswiseCalibrationError(BinnedMetric[CalibrationBins]):
    """Class-wise (static) calibration error: probability of each class against its frequency.

        CE_c = sum_b n_cb / n |frequency_cb - probability_cb|

    where bin b of class c has all pixels whose probability of c lies in [b / B, (b + 1) / B), and
    the frequency is the fraction of these pixels with label c.

    Args:
        num_classes: C, at least 2; at least 1 for independent classes.
        per: "dataset" for the mean over the classes in the target, "none" for the error of each
            class (C,), NaN for classes that are not in the target.
        **kwargs: `num_bins`, `independent` and others of `CalibrationMetric`.

    Note:
        The state of an image has 3 C B numbers.

    Example:
        >>> import torch
        >>> metric = ClasswiseCalibrationError(num_classes=3, per="none")
        >>> metric.update(torch.tensor([[[0.75], [0.25], [0.0]]]), torch.tensor([[1]]))
        >>> metric.compute()
        tensor([   nan, 0.7500,    nan], dtype=torch.float64)

    References:
        Kull, Perello-Nieto, Kaengsepp, Silva Filho, Song, Flach, Beyond Temperature Scaling,
        NeurIPS 2019, arXiv 1910.12656, "classwise-ECE", which averages over all classes. Nixon,
        Dusenberry, Zhang, Jerfel, Tran, Measuring Calibration in Deep Learning, CVPR workshops
        2019, arXiv 1904.01685, "static calibration error".
    """

    higher_is_better = False

    def __init__(
        self,
        num_classes: int,
        *,
        per: str = "dataset",
        num_bins: int = 15,
        independent: bool = False,
        **kwargs: Any,
    ) -> None:
        _checks.in_range("num_bins", num_bins, 1)
        _checks.one_of("per", per, ("dataset", "none"))
        empty = PixelSums.empty(num_classes, num_bins, independent=independent).classwise
        super().__init__(
            num_classes, empty=empty, num_bins=num_bins, independent=independent, **kwargs
        )
        self.per = per

    def gather(self, probs: Tensor, target: AnyTarget, valid: Tensor | None) -> CalibrationBins:
        """Compute the bins of a batch."""
        return classwise_bins(probs, target, valid=valid, **self.options())

    def compute(self) -> Tensor:
        """Return the error in [0, 1] (float64 scalar; (C,) for "none"), NaN where undefined."""
        sums = self.sums()
        found = classwise_metrics(sums, equal_weights(sums))
        return found.per_class["cece"][0] if self.per == "none" else found.metrics["cece_d"][0]

    def reliability(self) -> dict[str, Tensor]:
        """Return the reliability diagram of every class, for the images of this process.

        "edges" (B + 1,), "count" (C, B), mean "confidence" (C, B), and the frequency of the class
        as "accuracy" (C, B), NaN for empty bins.
        """
        return reliability(self.sums().merge_images())
