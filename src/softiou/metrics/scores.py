"""All the scores of a model at once, from one pass over its probabilities.

Shapes: N images, C classes, *S space, B bins.
"""

from typing import Any

from torch import Tensor

from softiou import _checks
from softiou.metrics.bins import reliability
from softiou.metrics.calibration import mean_of_images
from softiou.metrics.calibration_sums import CalibrationSums, PixelSums
from softiou.metrics.classwise import mean_of_classes
from softiou.metrics.images import ImageMetric
from softiou.metrics.iou import segmentation_scores
from softiou.metrics.pixels import pixel_sums
from softiou.targets import Target


class PixelMetric(ImageMetric[PixelSums]):
    """What the metrics over all sums of a pass share: they keep those of every image.

    Args:
        num_classes: C, at least 2; 1 and more for independent classes.
        num_bins: B, at least 1.
        independent: True when the classes do not exclude each other; see `pixel_sums`.
        ignore_index: Label value whose pixels (entries for independent classes) do not count.
        **kwargs: Of `torchmetrics.Metric`.

    Note:
        The state is 3 (C + 16 B + 16 + C B) numbers an image: 13 kB for 19 classes and 15 bins.
    """

    def __init__(
        self,
        num_classes: int,
        *,
        num_bins: int = 15,
        independent: bool = False,
        ignore_index: int | None = None,
        **kwargs: Any,
    ) -> None:
        _checks.in_range("num_bins", num_bins, 1)
        super().__init__(
            num_classes,
            empty=PixelSums.empty(num_classes, num_bins, independent=independent),
            independent=independent,
            ignore_index=ignore_index,
            **kwargs,
        )
        self.num_bins = num_bins

    def update(self, probs: Tensor, target: Tensor | Target, valid: Tensor | None = None) -> None:
        """Add images: see `pixel_sums` for the shapes."""
        self._append(
            pixel_sums(
                probs,
                target,
                num_classes=self.num_classes,
                num_bins=self.num_bins,
                independent=self.independent,
                ignore_index=self.ignore_index,
                valid=valid,
            )
        )

    def reliability(self) -> dict[str, Tensor]:
        """Return the reliability diagram; see `ExpectedCalibrationError.reliability`."""
        return reliability(self.sums().calibration.merge_images().equal_width())


class CalibrationScores(PixelMetric):
    """Every figure of calibration at once; arguments as in `PixelMetric`.

    `compute` returns a dict of float64 scalars: ece_d and ece_i (top-label error over the data set,
    mean over images), cece_d (class-wise), ace_d (adaptive bins), mce_d (maximum), brier (in
    [0, 2]) and nll (nats). See `ExpectedCalibrationError`, `ClasswiseCalibrationError`,
    `MaximumCalibrationError`, `BrierScore` and `NegativeLogLikelihood`.
    """

    higher_is_better = False

    def compute(self) -> dict[str, Tensor]:
        """Return the scores by name."""
        return calibration_scores(self.sums())


class EvaluationScores(PixelMetric):
    """The scores of `SegmentationScores` and `CalibrationScores`, from one pass over the pixels.

    Example:
        >>> import torch
        >>> metric = EvaluationScores(num_classes=2)
        >>> metric.update(torch.tensor([[[0.75, 0.5], [0.25, 0.5]]]), torch.tensor([[0, 1]]))
        >>> scores = metric.compute()
        >>> scores["accuracy"].item(), scores["ece_d"].item()
        (0.5, 0.375)
    """

    higher_is_better = None  # some of them are

    def compute(self) -> dict[str, Tensor]:
        """Return the scores by name."""
        sums = self.sums()
        return segmentation_scores(sums.overlap) | calibration_scores(sums)


def calibration_scores(sums: PixelSums) -> dict[str, Tensor]:
    """Compute every figure of calibration from the sums of all images.

    Returns:
        float64 scalars: ece_d and ece_i (data set, mean over images), cece_d (class-wise), ace_d
        (adaptive bins), mce_d (maximum), brier and nll.
    """
    found, whole = sums.calibration, sums.calibration.merge_images()
    num_bins = sums.classwise.count.shape[-1]

    def ece(some: CalibrationSums) -> Tensor:
        return some.equal_width().error()

    return {
        "ece_d": ece(whole)[0],
        "ece_i": mean_of_images(found, ece, per="image"),
        "cece_d": mean_of_classes(sums.classwise.merge_images()),
        "ace_d": whole.equal_mass(num_bins).error()[0],
        "mce_d": whole.equal_width().largest_error()[0],
        "brier": whole.brier_score()[0],
        "nll": whole.log_loss()[0],
    }
