"""Metrics with the names, arguments and values of torchmetrics (1.9), computed from exact counts.

`MeanIoU` is that of `torchmetrics.segmentation`. As in torchmetrics, and unlike `softiou.metrics`,
a class that is predicted but absent scores 0. Labels out of range are an error on the CPU, and
ignored on other devices. `validate_args` is accepted for compatibility, but has no effect.
"""

from typing import Any

import torch
from torch import Tensor
from torchmetrics.utilities import dim_zero_cat

from softiou import _checks
from softiou.metrics import calibration, iou
from softiou.metrics.calibration_sums import CalibrationSums
from softiou.metrics.counts import count_answers, overlap_counts
from softiou.metrics.image_metrics import ExactMetric, ImageMetric
from softiou.metrics.pixels import confidence_sums

TASKS = ("binary", "multiclass", "multilabel")


class MeanIoU(ExactMetric):
    """`torchmetrics.segmentation.MeanIoU`: the mean IoU over all classes of all images.

    A class of an image enters the mean if it is labelled or predicted there. mIoU^I of softiou, in
    contrast, averages over the classes of each image first.

    Args:
        num_classes: C, required for the input format "index"; None uses that of the masks.
        include_background: False leaves class 0 out.
        per_class: Return the mean of each class over its images (C,), -1 for a class in no image.
        input_format: Format of predictions and labels: "one-hot" (N, C, *S), "index" (N, *S), or
            "mixed" if they differ. For floating scores (N, C, *S) the argmax is used.
        **kwargs: Arguments of `torchmetrics.Metric`.
    """

    higher_is_better = True
    scores: list[Tensor]

    def __init__(
        self,
        num_classes: int | None = None,
        include_background: bool = True,
        per_class: bool = False,
        input_format: str = "one-hot",
        **kwargs: Any,
    ) -> None:
        super().__init__(**kwargs)
        _checks.one_of("input_format", input_format, ("one-hot", "index", "mixed"))
        if num_classes is None and input_format == "index":
            raise ValueError("Expected `num_classes` with input_format='index', but got None.")
        self.num_classes, self.include_background = num_classes, include_background
        self.per_class, self.input_format = per_class, input_format
        self.add_state("scores", default=[], dist_reduce_fx="cat")

    def update(self, preds: Tensor, target: Tensor) -> None:
        """Add images."""
        preds, target = _largest(preds), _largest(target)
        if self.input_format != "one-hot" and max(preds.ndim, target.ndim) != 3:
            preds, target = (x.unsqueeze(0) if x.ndim < 3 else x for x in (preds, target))
        if self.input_format == "one-hot":
            valid = torch.ones_like(target, dtype=torch.bool)
            counts: Any = count_answers(preds.bool(), target.bool(), valid)
        else:
            scored = target if target.ndim > preds.ndim else preds
            num_classes = self.num_classes or scored.shape[1]
            target = target.byte().argmax(1) if scored is target else target
            counts = overlap_counts(preds, target, num_classes=num_classes)
        self.scores.append(counts.iou()[:, 0 if self.include_background else 1 :])

    def compute(self) -> Tensor:
        """Return the mean, float32: a scalar, or (C,) with `per_class`."""
        scores = dim_zero_cat(self.scores).float()
        return scores.nanmean(0).nan_to_num(-1.0) if self.per_class else scores.nanmean()


class _JaccardIndex(iou.MeanIoU):
    """Base class of the Jaccard indices of all tasks; see `JaccardIndex`."""

    def __init__(
        self,
        num_classes: int,
        average: str | None,
        ignore_index: int | None,
        zero_division: float,
        **kwargs: Any,
    ) -> None:
        super().__init__(
            num_classes, average=average or "none", ignore_index=ignore_index, **kwargs
        )
        self.zero_division = zero_division

    def update(self, preds: Tensor, target: Any, valid: Tensor | None = None) -> None:
        """Add predictions and labels of the same shape, or scores with a class dimension."""
        super().update(*_shaped(preds, target, self), valid)

    def compute(self) -> Tensor:
        """Return the index, float32: a scalar, or of each class (C,) without an average."""
        total = self.sums().merge_images()
        hits, sizes, predicted = (
            x[0].double() for x in (total.true_positives, total.present, total.predicted)
        )
        unions, kept = sizes + predicted - hits, torch.ones_like(hits)
        if not self.independent and self.ignore_index in range(self.num_classes):
            kept[self.ignore_index] = 0.0
        if self.average == "micro":
            hits, unions = hits.sum(), (unions * kept).sum()
        scores = (hits / unions).where(unions > 0, self.zero_division)
        if self.average in ("micro", "none"):
            return scores.float()
        # In a mean over exclusive classes, classes without pixels are left out.
        kept = kept if self.independent else kept * (unions > 0)
        weights = sizes if self.average == "weighted" else kept
        return ((scores * weights).sum() / weights.sum()).float()


class BinaryJaccardIndex(_JaccardIndex):
    """`torchmetrics.classification.BinaryJaccardIndex`; arguments as in `JaccardIndex`."""

    def __init__(
        self,
        threshold: float = 0.5,
        ignore_index: int | None = None,
        validate_args: bool = True,
        zero_division: float = 0,
        **kwargs: Any,
    ) -> None:
        more = {"independent": True, "threshold": threshold} | kwargs
        super().__init__(1, "micro", ignore_index, zero_division, **more)


class MulticlassJaccardIndex(_JaccardIndex):
    """`torchmetrics.classification.MulticlassJaccardIndex`; arguments as in `JaccardIndex`."""

    def __init__(
        self,
        num_classes: int,
        average: str | None = "macro",
        ignore_index: int | None = None,
        validate_args: bool = True,
        zero_division: float = 0,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, average, ignore_index, zero_division, **kwargs)


class MultilabelJaccardIndex(_JaccardIndex):
    """`torchmetrics.classification.MultilabelJaccardIndex`; arguments as in `JaccardIndex`.

    `ignore_index` ignores entries, even if it is below C, as the class of torchmetrics does; its
    functional form also removes the class with this index from the mean.
    """

    def __init__(
        self,
        num_labels: int,
        threshold: float = 0.5,
        average: str | None = "macro",
        ignore_index: int | None = None,
        validate_args: bool = True,
        zero_division: float = 0,
        **kwargs: Any,
    ) -> None:
        more = {"independent": True, "threshold": threshold} | kwargs
        super().__init__(num_labels, average, ignore_index, zero_division, **more)


class _CalibrationError(calibration.CalibrationMetric):
    """Base class of the calibration errors of all tasks; see `CalibrationError`."""

    def __init__(
        self, num_classes: int, n_bins: int, norm: str, ignore_index: int | None, **kwargs: Any
    ) -> None:
        _checks.one_of("norm", norm, ("l1", "l2", "max"))
        super().__init__(num_classes, num_bins=n_bins, ignore_index=ignore_index, **kwargs)
        self.norm = norm

    def gather(self, probs: Tensor, target: Any, valid: Tensor | None) -> CalibrationSums:
        """Compute the sums of a batch of probabilities or logits."""
        probs, target = _shaped(probs, target, self)
        return confidence_sums(probs, target, valid=valid, **self.options())

    def score(self, sums: CalibrationSums) -> Tensor:
        """Return the error of each image (N,)."""
        bins = sums.equal_width()
        if self.norm == "l2":
            squares = (bins.gaps() ** 2 / bins.count).nan_to_num(0.0)  # n_b gap^2
            return (squares.sum(-1) / bins.count.sum(-1)).sqrt()
        return bins.error() if self.norm == "l1" else bins.largest_error()


class BinaryCalibrationError(_CalibrationError):
    """`torchmetrics.classification.BinaryCalibrationError`; see `CalibrationError`."""

    def __init__(
        self,
        n_bins: int = 15,
        norm: str = "l1",
        ignore_index: int | None = None,
        validate_args: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(1, n_bins, norm, ignore_index, independent=True, **kwargs)


class MulticlassCalibrationError(_CalibrationError):
    """`torchmetrics.classification.MulticlassCalibrationError`; see `CalibrationError`."""

    def __init__(
        self,
        num_classes: int,
        n_bins: int = 15,
        norm: str = "l1",
        ignore_index: int | None = None,
        validate_args: bool = True,
        **kwargs: Any,
    ) -> None:
        super().__init__(num_classes, n_bins, norm, ignore_index, **kwargs)


class JaccardIndex:
    """`torchmetrics.JaccardIndex`: creates the metric for a task.

    Args:
        task: "binary", "multiclass" or "multilabel".
        threshold: Threshold of binary and multilabel probabilities, in [0, 1).
        num_classes: C for multiclass.
        num_labels: C for multilabel.
        average: "macro", "micro", "weighted", or "none" or None for one value per class.
        ignore_index: Label to ignore.
        **kwargs: `zero_division`, the index of a class without pixels, and arguments of
            `torchmetrics.Metric`.
    """

    def __new__(
        cls,
        task: str,
        threshold: float = 0.5,
        num_classes: int | None = None,
        num_labels: int | None = None,
        average: str | None = "macro",
        ignore_index: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Make the metric."""
        _checks.one_of("task", task, TASKS)
        kwargs |= {"ignore_index": ignore_index}
        if task == "binary":
            return BinaryJaccardIndex(threshold, **kwargs)
        if task == "multiclass":
            return MulticlassJaccardIndex(_given("num_classes", num_classes), average, **kwargs)
        return MultilabelJaccardIndex(
            _given("num_labels", num_labels), threshold, average, **kwargs
        )


class CalibrationError:
    """`torchmetrics.CalibrationError`: creates the metric for a task.

    The values equal those of torchmetrics unless a confidence is exactly 1, which belongs to the
    last bin here, and has a separate bin in torchmetrics.

    Args:
        task: "binary" or "multiclass".
        n_bins: B, at least 1.
        norm: "l1" (expected error), "l2" (root mean square error) or "max" (maximum error).
        num_classes: C for multiclass.
        ignore_index: Label to ignore.
        **kwargs: Arguments of `torchmetrics.Metric`.
    """

    def __new__(
        cls,
        task: str,
        n_bins: int = 15,
        norm: str = "l1",
        num_classes: int | None = None,
        ignore_index: int | None = None,
        **kwargs: Any,
    ) -> Any:
        """Make the metric."""
        _checks.one_of("task", task, TASKS[:2])
        kwargs |= {"n_bins": n_bins, "norm": norm, "ignore_index": ignore_index}
        if task == "binary":
            return BinaryCalibrationError(**kwargs)
        return MulticlassCalibrationError(_given("num_classes", num_classes), **kwargs)


def _largest(scores: Tensor) -> Tensor:
    """Convert floating scores (N, C, *S) to a one-hot mask of the argmax; return others as is."""
    if not scores.is_floating_point():
        return scores
    return torch.zeros_like(scores, dtype=torch.bool).scatter_(1, scores.argmax(1, True), True)


def _given(name: str, value: int | None) -> int:
    if value is None:
        raise ValueError(f"Expected `{name}` for this task, but got None.")
    return value


def _shaped(preds: Tensor, target: Tensor, metric: ImageMetric[Any]) -> tuple[Tensor, Tensor]:
    """Flatten the space of predictions and labels, and convert logits to probabilities."""
    num_classes, binary = metric.num_classes, metric.independent and metric.num_classes == 1
    scores = preds.is_floating_point()
    if scores and (metric.independent or isinstance(metric, _CalibrationError)):
        counted = preds[target != metric.ignore_index] if binary else preds
        low, high = torch.aminmax(counted) if counted.numel() else (0, 1)
        if low < 0 or high > 1:
            preds = preds.sigmoid() if metric.independent else preds.softmax(1)
    if binary:
        return preds.reshape(1, 1, -1), target.reshape(1, 1, -1)
    N = len(target)
    if metric.independent:
        return preds.reshape(N, num_classes, -1), target.reshape(N, num_classes, -1)
    shape = (N, num_classes, -1) if scores else (N, -1)
    return preds.reshape(shape), target.reshape(N, -1)
