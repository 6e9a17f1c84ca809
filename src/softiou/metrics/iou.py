"""Mean IoU, mean Dice and pixel accuracy as torchmetrics classes over exact counts."""

import torch
from torch import Tensor

from softiou.metrics.counts import OverlapCounts, overlap_counts
from softiou.metrics.images import ImageMetric, MeanMetric, all_scores


class OverlapMetric(ImageMetric[OverlapCounts]):
    """What the metrics over overlap counts share: they keep the counts of every image, (N, C).

    Memory is independent of the number of pixels, and the result is the same however the images are
    spread over batches and processes.

    Args:
        num_classes: C, at least 2.
        ignore_index: Label value whose pixels do not count, for hard and soft targets.
        **kwargs: Of `torchmetrics.Metric`.
    """

    kind = OverlapCounts
    kind_dtype = torch.int64

    true_positives: list[Tensor]
    predicted: list[Tensor]
    present: list[Tensor]

    def update(self, preds: Tensor, target: Tensor, valid: Tensor | None = None) -> None:
        """Add images: see `overlap_counts` for the shapes."""
        self._append(
            overlap_counts(
                preds,
                target,
                num_classes=self.num_classes,
                ignore_index=self.ignore_index,
                valid=valid,
            )
        )

    def counts(self) -> OverlapCounts:
        """Return the counts of all images seen so far (N, C)."""
        return self.sums()


class MeanIoU(MeanMetric[OverlapCounts], OverlapMetric):
    """Mean intersection over union, over the data set (D), per image (I) or per class (C).

        IoU = tp / (tp + fp + fn)

    - "dataset": mIoU^D. Counts are added over the images, then one IoU a class, then their mean.
      Classes that occur neither in prediction nor target are NaN and left out.
    - "image": mIoU^I. IoU of the classes that the target of the image holds, their mean in each
      image, then the mean of the images. Every image weighs the same.
    - "class": mIoU^C. The same IoU values, averaged over the images for each class, then over the
      classes. Every class weighs the same, small objects as much as large ones.
    - "none": IoU of each class over the data set (C,).

    Args:
        num_classes: C, at least 2.
        per: What to average over, as above.
        ignore_index: Label value whose pixels do not count.
        **kwargs: Of `torchmetrics.Metric`.

    Example:
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


class PixelAccuracy(OverlapMetric):
    """Share of the pixels that count whose most probable class is right; NaN without pixels."""

    def compute(self) -> Tensor:
        """Return a float64 scalar in [0, 1]."""
        return self.counts().accuracy()


class SegmentationScores(OverlapMetric):
    """All of the above at once, from counts that are gathered once.

    `compute` returns a dict of float64 scalars in [0, 1]: miou_d, miou_i, miou_c, mdice_d, mdice_i,
    mdice_c (data set, image, class; see `MeanIoU`) and accuracy.
    """

    def compute(self) -> dict[str, Tensor]:
        """Return the scores by name."""
        counts = self.counts()
        return all_scores(counts, iou="miou", dice="mdice") | {"accuracy": counts.accuracy()}
