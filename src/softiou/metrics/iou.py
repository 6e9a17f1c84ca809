"""Mean IoU, mean Dice and pixel accuracy as torchmetrics classes over exact counts."""

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from softiou import _checks
from softiou.metrics.counts import OverlapCounts, overlap_counts

PER = ("dataset", "image", "class", "none")


class OverlapMetric(Metric, ABC):
    """What the metrics over overlap counts share: they keep the counts of every image, (N, C).

    Memory is independent of the number of pixels, and the result is the same however the images are
    spread over batches and processes.

    Args:
        num_classes: C, at least 2.
        ignore_index: Label value whose pixels do not count, for hard and soft targets.
        **kwargs: Of `torchmetrics.Metric`.
    """

    is_differentiable = False
    higher_is_better = True
    full_state_update = False

    true_positives: list[Tensor]
    predicted: list[Tensor]
    present: list[Tensor]

    def __init__(self, num_classes: int, *, ignore_index: int | None = None, **kwargs: Any) -> None:
        super().__init__(**kwargs)
        _checks.in_range("num_classes", num_classes, 2)
        self.num_classes = num_classes
        self.ignore_index = ignore_index
        for name in ("true_positives", "predicted", "present"):
            self.add_state(name, default=[], dist_reduce_fx="cat")

    def update(self, preds: Tensor, target: Tensor, valid: Tensor | None = None) -> None:
        """Add images: see `overlap_counts` for the shapes."""
        counts = overlap_counts(
            preds,
            target,
            num_classes=self.num_classes,
            ignore_index=self.ignore_index,
            valid=valid,
        )
        self.true_positives.append(counts.true_positives)
        self.predicted.append(counts.predicted)
        self.present.append(counts.present)

    def counts(self) -> OverlapCounts:
        """Return the counts of all images seen so far (N, C)."""
        if not len(self.present):
            empty = torch.zeros(0, self.num_classes, dtype=torch.int64, device=self.device)
            return OverlapCounts(empty, empty, empty)
        return OverlapCounts(
            dim_zero_cat(self.true_positives),
            dim_zero_cat(self.predicted),
            dim_zero_cat(self.present),
        )

    def _sync_dist(self, *args: Any, **kwargs: Any) -> None:
        # A process that saw no image has to send a matrix, too; torchmetrics would send a vector.
        if not len(self.present):
            empty = self.counts()
            self.true_positives = [empty.true_positives]
            self.predicted = [empty.predicted]
            self.present = [empty.present]
        super()._sync_dist(*args, **kwargs)

    @abstractmethod
    def compute(self) -> Any:
        """Return the metric in [0, 1]."""


class _MeanScore(OverlapMetric):
    """A score of image and class, averaged in one of three ways."""

    def __init__(
        self,
        num_classes: int,
        *,
        per: str = "dataset",
        ignore_index: int | None = None,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, ignore_index=ignore_index, **kwargs)
        _checks.one_of("per", per, PER)
        self.per = per

    @abstractmethod
    def score(self, counts: OverlapCounts) -> Tensor:
        """Return the score (N, C), NaN where it is undefined."""

    def compute(self) -> Tensor:
        """Return the mean in [0, 1] (float64 scalar; (C,) for "none"), NaN where undefined."""
        return mean_score(self.counts(), self.score, per=self.per)


class MeanIoU(_MeanScore):
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

    def score(self, counts: OverlapCounts) -> Tensor:
        """Return the IoU (N, C)."""
        return counts.iou()


class MeanDice(_MeanScore):
    """Mean Dice score, 2 tp / (2 tp + fp + fn); arguments and averages as in `MeanIoU`."""

    def score(self, counts: OverlapCounts) -> Tensor:
        """Return the Dice score (N, C)."""
        return counts.dice()


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
        scores = {
            f"{name}_{per[0]}": mean_score(counts, score, per=per)
            for name, score in (("miou", OverlapCounts.iou), ("mdice", OverlapCounts.dice))
            for per in ("dataset", "image", "class")
        }
        return scores | {"accuracy": counts.accuracy()}


def mean_score(
    counts: OverlapCounts, score: Callable[[OverlapCounts], Tensor], *, per: str
) -> Tensor:
    """Average a score of image and class as `MeanIoU` explains.

    Args:
        counts: Of all images (N, C).
        score: From counts (N, C) to values (N, C), NaN where undefined.
        per: "dataset", "image", "class" or "none".

    Returns:
        A float64 scalar, (C,) for "none"; NaN where undefined.
    """
    if per in ("dataset", "none"):
        by_class = score(counts.merge_images())[0]
        return by_class if per == "none" else by_class.nanmean()
    scores = torch.where(counts.present > 0, score(counts), torch.nan)
    return scores.nanmean(1 if per == "image" else 0).nanmean()
