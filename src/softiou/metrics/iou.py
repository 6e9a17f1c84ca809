"""Mean IoU, mean Dice and accuracies as torchmetrics classes over exact counts.

Shapes: N images, C classes, *S space, Q levels of the worst.
"""

from typing import Any

from torch import Tensor

from softiou.metrics.counts import OverlapCounts, check_threshold, empty_counts, overlap_counts
from softiou.metrics.decoding import AnyTarget
from softiou.metrics.image_metrics import ImageMetric, MeanMetric
from softiou.metrics.weighted import equal_weights, overlap_metrics


class OverlapMetric(ImageMetric[OverlapCounts]):
    """Base of the metrics that keep the overlap counts of every image, (N, C).

    Memory is independent of the number of pixels, and the result is the same however the images are
    spread over batches and processes. Arguments are those of `MeanIoU` that the counts depend on:
    `num_classes`, `independent`, `threshold` and `ignore_index`, and of `torchmetrics.Metric`.
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
        """Return the arguments that this metric hands to the function which gathers its sums."""
        return super().options() | {"threshold": self.threshold}

    def update(self, preds: Tensor, target: AnyTarget, valid: Tensor | None = None) -> None:
        """Add images: see `overlap_counts` for the shapes."""
        self._append(overlap_counts(preds, target, valid=valid, **self.options()))

    def counts(self) -> OverlapCounts:
        """Return the counts of all images seen so far (N, C)."""
        return self.sums()


class MeanIoU(MeanMetric[OverlapCounts], OverlapMetric):
    """Mean intersection over union, over the data set (D), per image (I) or per class (C).

        IoU = tp / (tp + fp + fn)

    - "dataset": mIoU^D. Counts are added over the images, then one IoU a class, then their mean.
    - "image": mIoU^I. IoU of the classes of each image, their mean in the image, then the mean of
      the images. Every image weighs the same.
    - "class": mIoU^C. The same IoU values, averaged over the images for each class, then over the
      classes. Every class weighs the same, small objects as much as large ones.
    - "none": IoU of each class over the data set (C,).

    A class without a pixel in the target (of the data set for "dataset" and "none", else of the
    image) is NaN and left out of the means, predicted or not; so is one that is the ignored label.

    With `worst`, "image" is mIoU^I_q: the mean over the q per cent of the images with the lowest
    mean IoU; and "class" is mIoU^C_q: for each class the mean over the q per cent of its images
    with the lowest IoU, then over the classes. `worst="averaged"` is the mean of these for q =
    10, 20, ..., 100, the paper's averaged worst case: mIoU^I_q-bar and mIoU^C_q-bar.

    Args:
        num_classes: C, at least 2; 1 and more for independent classes.
        per: What to average over, as above.
        worst: q in (0, 100], or a list of such, which gives a tensor (Q,); of n images the lowest
            ceil(q n / 100) are averaged (in the authors' code the floor of it, at least one).
            "averaged" for the mean of ten levels. None for all images.
        average: Of the classes: "macro", their mean; "weighted" by their pixels in the target;
            "micro" adds their counts up first, not for `per="class"`; "none" returns all (C,).
        absent: "exclude", as above, or "zero": a class that is predicted without a pixel in the
            target scores 0, as in torchmetrics and scikit-learn.
        include_background: False leaves class 0 out; what is predicted there still counts as an
            error of the other classes.
        independent: True when the classes do not exclude each other (binary with C = 1, and
            multilabel).
        threshold: Of independent classes: the probability in [0, 1) above which one is predicted.
        ignore_index: Label value of the pixels to ignore.
        **kwargs: Of `torchmetrics.Metric`.

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
    """Mean recall of the classes that occur, tp / (tp + fn).

    Arguments and averages are those of `MeanIoU`. Every class weighs the same, where
    `PixelAccuracy` is that of the large ones.
    """

    def score(self, sums: OverlapCounts) -> Tensor:
        """Return the recall (N, C)."""
        return sums.recall()


class PixelAccuracy(OverlapMetric):
    """Share of the valid pixels whose most probable class is right; NaN without pixels.

    Of independent classes the share of right entries, present and absent.
    """

    def compute(self) -> Tensor:
        """Return a float64 scalar in [0, 1]."""
        return self.counts().accuracy()


class SegmentationScores(OverlapMetric):
    """mIoU, mDice and accuracies at once, from counts that are gathered once.

    `compute` returns a dict of float64 scalars in [0, 1]: miou_d, miou_i, miou_c, mdice_d, mdice_i,
    mdice_c (data set, image, class; see `MeanIoU`), accuracy, macc (mean accuracy of the classes),
    and of the worst 10 and 5 per cent of the images miou_i_q10, miou_c_q10, miou_i_q5, miou_c_q5.
    """

    def compute(self) -> dict[str, Tensor]:
        """Return the scores by name."""
        counts = self.counts()
        return overlap_metrics(counts, equal_weights(counts)).of_row()
