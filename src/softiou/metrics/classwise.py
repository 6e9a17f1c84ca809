"""Class-wise calibration: does a class occur as often as its probability says?

Shapes: N images, C classes, *S space, B bins.
"""

from typing import Any

from torch import Tensor

from softiou import _checks
from softiou.metrics.bins import CalibrationBins, reliability
from softiou.metrics.calibration_sums import PixelSums
from softiou.metrics.decoding import AnyTarget
from softiou.metrics.pixels import classwise_bins
from softiou.metrics.scores import BinnedMetric
from softiou.metrics.weighted import classwise_metrics, equal_weights


class ClasswiseCalibrationError(BinnedMetric[CalibrationBins]):
    """Class-wise (static) calibration error: the probability of a class against its frequency.

        CE_c = sum_b n_cb / n |frequency_cb - probability_cb|

    where bin b of class c holds the pixels whose probability of c lies in [b / B, (b + 1) / B),
    whatever was predicted there; their frequency is the share of them whose label is c.

    Args:
        num_classes: C, at least 2; 1 and more for independent classes.
        per: "dataset" for the mean over the classes that occur in the target, "none" for the error
            of each class (C,), NaN for those that do not.
        num_bins: B, at least 1.
        independent: True when the classes do not exclude each other (binary with C = 1, and
            multilabel).
        ignore_index: Label value of the pixels (entries for independent classes) to ignore.
        **kwargs: Of `torchmetrics.Metric`.

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

        Returns:
            "edges" (B + 1,), "count" (C, B), and mean "confidence" and frequency of the class as
            "accuracy" (C, B), NaN for empty bins.
        """
        return reliability(self.sums().merge_images())
