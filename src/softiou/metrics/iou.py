"""Mean IoU, mean Dice and accuracy as torchmetrics classes with exact counts.

Shapes: N images, C classes, *S space, Q worst-case percentages.
"""

from typing import Any

from torch import Tensor

from softiou.metrics.counts import OverlapCounts, check_threshold, empty_counts, overlap_counts
from softiou.metrics.decoding import AnyTarget
from softiou.metrics.image_metrics import ImageMetric, MeanMetric
from softiou.metrics.weighted import equal_weights, overlap_metrics


class OverlapMetric(ImageMetric[OverlapCounts]):
    """Base class of metrics whose state is the overlap counts (N, C) of every image.

    Memory does not depend on the number of pixels, and the result does not depend on how the images
    are distributed over batches and processes. The arguments `num_classes`, `independent`,
    `threshold` and `ignore_index` are those of `MeanIoU`; others are of `torchmetrics.Metric`.
    """

    true_positives: list[Tensor]
    predicted: list[Tensor]
    present: list[Tensor]

    def __init__(
        self,
        num_classes: int,
        *,
        independent: bool = False,
        threshold: float = 0.5,
        settings: tuple[object, ...] = (),
        **kwargs: Any,
    ) -> None:
        check_threshold(threshold, independent)
        empty = empty_counts(num_classes, independent=independent)
        settings = (threshold, *settings)
        super().__init__(
            num_classes, empty=empty, independent=independent, settings=settings, **kwargs
        )
        self.threshold = threshold

    def options(self) -> dict[str, Any]:
        """Return the arguments for the function that computes the counts."""
        return super().options() | {"threshold": self.threshold}

    def update(self, preds: Tensor, target: AnyTarget, valid: Tensor | None = None) -> None:
        """Add images; for the shapes see `overlap_counts`."""
        self._append(overlap_counts(preds, target, valid=valid, **self.options()))

    def counts(self) -> OverlapCounts:
        """Return the counts of all images seen so far (N, C)."""
        return self.sums()


class MeanIoU(MeanMetric[OverlapCounts], OverlapMetric):
    """Mean intersection over union, over the data set (D), per image (I) or per class (C).

        IoU = tp / (tp + fp + fn)

    - "dataset": mIoU^D. The counts are summed over the images; IoU of each class, then their mean.
    - "image": mIoU^I. For each image, the mean IoU of its classes; then the mean over the images.
      All images have the same weight.
    - "class": mIoU^C. For each class, the mean IoU over the images with this class; then the mean
      over the classes. All classes have the same weight, and so do small and large objects.
    - "none": IoU of each class over the data set (C,).

    A class that is not in the target (of the data set for "dataset" and "none", otherwise of the
    image) is left out of the means, whether it is predicted or not; so is the ignored label.

    With `worst`, "image" is mIoU^I_q, the mean over the q per cent of images with the lowest mean
    IoU. "class" is mIoU^C_q: for each class, the mean over the q per cent of its images with the
    lowest IoU, then the mean over the classes. `worst="averaged"` is the mean of these for q = 10,
    20, ..., 100, the paper's averaged worst case: mIoU^I_q-bar and mIoU^C_q-bar.

    Args:
        num_classes: C, at least 2; at least 1 for independent classes.
        per: What to average over, as above.
        worst: q in (0, 100], or a list, which gives a tensor (Q,). Of n images, the lowest
            ceil(q n / 100) are averaged (the authors' code uses the floor, but at least one).
            "averaged" is the mean of ten percentages. None averages all images.
        average: Average over the classes: "macro" is the mean; "weighted" by their pixels in the
            target; "micro" sums their counts first (not for `per="class"`); "none" returns (C,).
        absent: "exclude", as above, or "zero": a class that is predicted but not in the target
            scores 0, as in torchmetrics and scikit-learn.
        include_background: False leaves class 0 out of the mean; wrong predictions in background
            pixels are still errors of the predicted classes.
        independent: True if the classes do not exclude each other (binary with C = 1, or
            multilabel).
        threshold: For independent classes, the probability in [0, 1) above which one is predicted.
        ignore_index: Label of pixels to ignore.
        **kwargs: Arguments of `torchmetrics.Metric`.

    Example:
        >>> import torch
        >>> metric = MeanIoU(num_classes=2)
        >>> metric.update(torch.tensor([[0, 1, 1]]), torch.tensor([[0, 0, 1]]))
        >>> metric.compute()
        tensor(0.5000, dtype=torch.float64)

    References:
        Wang, Berman, Rannen-Triki, Torr, Tuia, Tuytelaars, Van Gool, Yu, Blaschko, Revisiting
        Evaluation Metrics for Semantic Segmentation, NeurIPS 2023 D&B, arXiv 2310.19252, section 3.
    """

    def score(self, sums: OverlapCounts) -> Tensor:
        """Return the IoU (N, C)."""
        return sums.iou()


class MeanDice(MeanMetric[OverlapCounts], OverlapMetric):
    """Mean Dice score, 2 tp / (2 tp + fp + fn); arguments and averages as in `MeanIoU`."""

    def score(self, sums: OverlapCounts) -> Tensor:
        """Return the Dice score (N, C)."""
        return sums.dice()


class MeanAccuracy(MeanMetric[OverlapCounts], OverlapMetric):
    """Mean accuracy: the recall tp / (tp + fn) of each class in the target, then the mean.

    Arguments and averages are those of `MeanIoU`. All classes have the same weight, whereas
    `PixelAccuracy` is dominated by large classes.
    """

    def score(self, sums: OverlapCounts) -> Tensor:
        """Return the recall (N, C)."""
        return sums.recall()


class PixelAccuracy(OverlapMetric):
    """Pixel accuracy: the fraction of valid pixels that are predicted correctly.

    For independent classes, the fraction of correct entries (pixel, class). NaN without pixels.
    """

    def compute(self) -> Tensor:
        """Return a float64 scalar in [0, 1]."""
        return self.counts().accuracy()


class SegmentationScores(OverlapMetric):
    """mIoU, mDice and accuracy together, computed in one pass over the pixels.

    `compute` returns a dict of float64 scalars in [0, 1]: miou_d, miou_i, miou_c, mdice_d, mdice_i,
    mdice_c (data set, image, class; see `MeanIoU`), accuracy, macc (mean accuracy), and for the
    worst 10 and 5 per cent of the images miou_i_q10, miou_c_q10, miou_i_q5 and miou_c_q5.
    """

    def compute(self) -> dict[str, Tensor]:
        """Return the scores by name."""
        counts = self.counts()
        return overlap_metrics(counts, equal_weights(counts)).of_row()
