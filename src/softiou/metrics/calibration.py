"""Calibration, top-label and class-wise: of pixels with 80 % confidence, are 80 % right?

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
    """Base of the metrics that keep the calibration sums of every image, (N, F).

    F is 16 B + 16: 256 fine bins of three numbers an image for B = 15, however many its pixels.

    Args:
        num_classes, num_bins, independent, ignore_index: As for `pixel_sums`.
        per: "dataset" for all pixels together, "image" for the mean over the images that have any.
        **kwargs: Of `torchmetrics.Metric`.
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
        """Return the reliability diagram of what was seen in this process.

        "edges" (B + 1,), "count" (B,), and mean "confidence" and "accuracy" of the bins
        (B,), NaN for empty ones.
        """
        return reliability(self.sums().merge_images().equal_width())


class TopLabelMetric(CalibrationMetric):
    """The calibration metrics over all pixels; see `confidence_sums`."""

    def gather(self, probs: Tensor, target: AnyTarget, valid: Tensor | None) -> CalibrationSums:
        """Gather the sums of a batch."""
        return confidence_sums(probs, target, valid=valid, **self.options())


class ExpectedCalibrationError(TopLabelMetric):
    """Top-label expected calibration error, from streaming bins.

        ECE = sum_b n_b / n |accuracy_b - confidence_b|

    where bin b holds the pixels whose largest probability lies in [b / B, (b + 1) / B). For a soft
    target the accuracy of a pixel is the target's probability of the predicted class.

    Args:
        num_classes: C, at least 2; 1 and more for independent classes.
        adaptive: Bins that hold about as many pixels each instead, merged from 16 B + 16 fine bins;
            most pixels of a good model lie in the last bins of equal width.
        **kwargs: `num_bins`, `per`, `independent` and others of `CalibrationMetric`.

    Note:
        The state is 3 (16 B + 16) numbers an image (counts int64, sums float64), whatever the
        number of pixels.

    Example:
        >>> import torch
        >>> metric = ExpectedCalibrationError(num_classes=2)
        >>> metric.update(torch.tensor([[[0.75], [0.25]]]), torch.tensor([[1]]))
        >>> metric.compute()  # 75 % sure and wrong
        tensor(0.7500, dtype=torch.float64)

    References:
        Guo, Pleiss, Sun, Weinberger, On Calibration of Modern Neural Networks, ICML 2017, eq. 3.
        Adaptive: Nixon, Dusenberry, Zhang, Jerfel, Tran, Measuring Calibration in Deep Learning,
        CVPR workshops 2019, arXiv 1904.01685; there over every class.
    """

    def __init__(self, num_classes: int, *, adaptive: bool = False, **kwargs: Any) -> None:
        super().__init__(num_classes, **kwargs)
        self.adaptive = adaptive

    def score(self, sums: CalibrationSums) -> Tensor:
        """Return the error of each image (N,) in [0, 1]."""
        bins = sums.equal_mass(self.num_bins) if self.adaptive else sums.equal_width()
        return bins.error()


class MaximumCalibrationError(TopLabelMetric):
    """The largest gap between accuracy and confidence of any bin that holds pixels.

        MCE = max_b |accuracy_b - confidence_b|

    A bin with a single pixel weighs as much as any other. Arguments as in `CalibrationMetric`.

    References:
        Guo, Pleiss, Sun, Weinberger, On Calibration of Modern Neural Networks, ICML 2017, section
        2.
    """

    def score(self, sums: CalibrationSums) -> Tensor:
        """Return the error of each image (N,) in [0, 1]."""
        return sums.equal_width().largest_error()


class BrierScore(TopLabelMetric):
    """Mean squared distance between probabilities and truth, sum_c (p_c - y_c)^2, in [0, 2].

    Of independent classes (p - y)^2 of every entry, in [0, 1]. It is a proper score: right
    probabilities have the lowest. Arguments as in `CalibrationMetric`.

    References:
        Brier, Verification of forecasts expressed in terms of probability, Monthly Weather Review
        78, 1950.
    """

    def score(self, sums: CalibrationSums) -> Tensor:
        """Return the score of each image (N,)."""
        return sums.brier_score()


class NegativeLogLikelihood(TopLabelMetric):
    """Mean of -sum_c y_c log p_c in nats: the cross-entropy of probabilities; a proper score.

    Of independent classes -y log p - (1 - y) log(1 - p) of every entry. Probabilities below 1.2e-38
    count as that, which costs 87. Arguments as in `CalibrationMetric`.
    """

    def score(self, sums: CalibrationSums) -> Tensor:
        """Return the score of each image (N,)."""
        return sums.log_loss()


class ClasswiseCalibrationError(BinnedMetric[CalibrationBins]):
    """Class-wise (static) calibration error: the probability of a class against its frequency.

        CE_c = sum_b n_cb / n |frequency_cb - probability_cb|

    where bin b of class c holds the pixels whose probability of c lies in [b / B, (b + 1) / B),
    whatever was predicted there; their frequency is the share of them whose label is c.

    Args:
        num_classes: C, at least 2; 1 and more for independent classes.
        per: "dataset" for the mean over the classes that occur in the target, "none" for the error
            of each class (C,), NaN for those that do not.
        **kwargs: `num_bins`, `independent` and others of `CalibrationMetric`.

    Note:
        The state is 3 C B numbers an image.

    Example:
        >>> import torch
        >>> metric = ClasswiseCalibrationError(num_classes=3, per="none")
        >>> metric.update(torch.tensor([[[0.75], [0.25], [0.0]]]), torch.tensor([[1]]))
        >>> metric.compute()
        tensor([   nan, 0.7500,    nan], dtype=torch.float64)

    References:
        Kull, Perello-Nieto, Kaengsepp, Silva Filho, Song, Flach, Beyond Temperature Scaling,
        NeurIPS 2019, arXiv 1910.12656, "classwise-ECE"; there the mean is over all classes. Nixon,
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
        """Gather the bins of a batch."""
        return classwise_bins(probs, target, valid=valid, **self.options())

    def compute(self) -> Tensor:
        """Return the error in [0, 1] (float64 scalar; (C,) for "none"), NaN where undefined."""
        sums = self.sums()
        found = classwise_metrics(sums, equal_weights(sums))
        return found.per_class["cece"][0] if self.per == "none" else found.metrics["cece_d"][0]

    def reliability(self) -> dict[str, Tensor]:
        """Return the reliability diagram of every class, of what was seen in this process.

        "edges" (B + 1,), "count" (C, B), and mean "confidence" and frequency of the class
        as "accuracy" (C, B), NaN for empty bins.
        """
        return reliability(self.sums().merge_images())
