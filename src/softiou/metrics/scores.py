"""All metrics of a model together, computed in one pass over its probabilities.

Shapes: N images, C classes, *S space, B bins.
"""

from abc import abstractmethod
from typing import Any, TypeVar

from torch import Tensor

from softiou import _checks
from softiou.metrics import weighted
from softiou.metrics.bins import reliability
from softiou.metrics.calibration_sums import PixelSums
from softiou.metrics.decoding import AnyTarget
from softiou.metrics.image_metrics import ImageMetric
from softiou.metrics.image_sums import ImageSums
from softiou.metrics.pixels import pixel_sums

S = TypeVar("S", bound=ImageSums)


class BinnedMetric(ImageMetric[S]):
    """Base class of metrics of probabilities, with confidence bins of every image as state.

    Args:
        num_classes: C, at least 2; at least 1 for independent classes.
        empty: The sums of no image.
        num_bins: B, at least 1.
        **kwargs: Arguments of `ImageMetric`.
    """

    def __init__(self, num_classes: int, *, empty: S, num_bins: int, **kwargs: Any) -> None:
        super().__init__(num_classes, empty=empty, **kwargs)
        self.num_bins = num_bins

    def options(self) -> dict[str, Any]:
        """Return the arguments for the function that computes the sums."""
        return super().options() | {"num_bins": self.num_bins}

    def update(self, probs: Tensor, target: AnyTarget, valid: Tensor | None = None) -> None:
        """Add images.

        Args:
            probs: Probabilities (N, C, *S).
            target: Class indices (N, *S), probabilities (N, C, *S), or a `Target` such as
                `targets.votes(masks)`. For independent classes, 0/1 or probabilities (N, C, *S).
            valid: Bool (N, *S), False for pixels to ignore.
        """
        self._append(self.gather(probs, target, valid))

    @abstractmethod
    def gather(self, probs: Tensor, target: AnyTarget, valid: Tensor | None) -> S:
        """Compute the sums of a batch.

        Other settings that affect them must be passed to `__init__` as `settings`, see
        `ImageMetric`.
        """


class PixelMetric(BinnedMetric[PixelSums]):
    """Base class of metrics with all sums of `pixel_sums` as state; see `CalibrationMetric`.

    The state of an image has 3 (C + 16 B + 16 + C B) numbers: 13 kB for 19 classes and 15 bins.
    """

    def __init__(
        self, num_classes: int, *, num_bins: int = 15, independent: bool = False, **kwargs: Any
    ) -> None:
        _checks.in_range("num_bins", num_bins, 1)
        empty = PixelSums.empty(num_classes, num_bins, independent=independent)
        super().__init__(
            num_classes, empty=empty, num_bins=num_bins, independent=independent, **kwargs
        )

    def gather(self, probs: Tensor, target: AnyTarget, valid: Tensor | None) -> PixelSums:
        """Compute the sums of a batch."""
        return pixel_sums(probs, target, valid=valid, **self.options())

    def reliability(self) -> dict[str, Tensor]:
        """Return the reliability diagram; see `ExpectedCalibrationError.reliability`."""
        return reliability(self.sums().calibration.merge_images().equal_width())


class CalibrationScores(PixelMetric):
    """All calibration metrics together; arguments as in `PixelMetric`.

    `compute` returns a dict of float64 scalars: ece_d and ece_i (top-label error over the data set,
    mean over images), cece_d (class-wise), ace_d (adaptive bins), mce_d (maximum), brier (in
    [0, 2]) and nll (nats). See `ExpectedCalibrationError`, `ClasswiseCalibrationError`,
    `MaximumCalibrationError`, `BrierScore` and `NegativeLogLikelihood`.
    """

    higher_is_better = False

    def compute(self) -> dict[str, Tensor]:
        """Return the metrics by name."""
        return _calibration(self.sums()).of_row()


class EvaluationScores(PixelMetric):
    """The metrics of `SegmentationScores` and `CalibrationScores`, in one pass over the pixels.

    Example:
        >>> import torch
        >>> metric = EvaluationScores(num_classes=2)
        >>> metric.update(torch.tensor([[[0.75, 0.5], [0.25, 0.5]]]), torch.tensor([[0, 1]]))
        >>> scores = metric.compute()
        >>> scores["accuracy"].item(), scores["ece_d"].item()
        (0.5, 0.375)
    """

    higher_is_better = None  # it differs between the metrics

    def compute(self) -> dict[str, Tensor]:
        """Return the scores by name."""
        sums = self.sums()
        overlap = weighted.overlap_metrics(sums.overlap, weighted.equal_weights(sums))
        return (overlap | _calibration(sums)).of_row()


def _calibration(sums: PixelSums) -> weighted.MetricValues:
    weights, found = weighted.equal_weights(sums), sums.calibration
    return weighted.classwise_metrics(sums.classwise, weights) | weighted.confidence_metrics(
        weights,
        bins=found.equal_width(),
        fine_bins=found.fine,
        brier=found.brier,
        nll=found.nll,
        pixels=found.pixels,
    )
