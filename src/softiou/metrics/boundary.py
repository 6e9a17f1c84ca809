"""Metrics of what lies along the borders of the classes.

Shapes: N images, C classes, *S space.
"""

import math
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from softiou import _checks
from softiou.metrics.calibration import CalibrationMetric
from softiou.metrics.calibration_sums import CalibrationSums
from softiou.metrics.counts import (
    OverlapCounts,
    check_range,
    count_answers,
    count_overlap,
    predicted_answers,
    top_prediction,
)
from softiou.metrics.images import MeanMetric
from softiou.metrics.iou import OverlapMetric
from softiou.metrics.pixels import boundary_confidence_sums
from softiou.metrics.truth import read_answers, read_truth
from softiou.targets import Target
from softiou.targets.smoothing import boundary_band


class BoundaryIoU(MeanMetric[OverlapCounts], OverlapMetric):
    """IoU of the rims of the classes: how well the contours match, whatever the size of objects.

        boundary IoU = |G_d and P_d| / |G_d or P_d|

    where G_d are the pixels of a class in the target that lie within d of its contour, P_d those of
    the prediction. The averages are those of `MeanIoU`.

    Args:
        num_classes: C, at least 2; 1 and more for independent classes.
        width: d in pixels, at least 1; None takes `ratio`.
        ratio: d as a share of the image's diagonal, above 0; rounded, and at least one pixel.
        per: "dataset", "image", "class" or "none"; see `MeanIoU`.
        worst: Per cent of the images to average over, the lowest; see `MeanIoU`.
        independent: True when the classes do not exclude each other (binary with C = 1, and
            multilabel).
        ignore_index: Label value whose pixels do not count.
        **kwargs: Of `torchmetrics.Metric`.

    Example:
        >>> metric = BoundaryIoU(num_classes=2, width=1, per="none")
        >>> metric.update(torch.tensor([[0, 0, 0, 0, 1]]), torch.tensor([[0, 0, 0, 1, 1]]))
        >>> metric.compute()  # {0, 3} and {0, 2}; {4} and {3, 4}
        tensor([0.3333, 0.5000], dtype=torch.float64)

    References:
        Cheng, Girshick, Dollar, Berg, Kirillov, Boundary IoU, CVPR 2021, arXiv 2103.16562. As
        in the authors' code the distance is that of the king on a chessboard, and the edge of the
        image is a contour. Ours is that pixels that do not count make no contour.
    """

    def __init__(
        self, num_classes: int, *, width: int | None = None, ratio: float = 0.02, **kwargs: Any
    ) -> None:
        _check_width(width, ratio)
        super().__init__(num_classes, settings=(width, ratio), **kwargs)
        self.width = width
        self.ratio = ratio

    def update(self, preds: Tensor, target: Tensor, valid: Tensor | None = None) -> None:
        """Add images: see `boundary_counts` for the shapes."""
        self._append(
            boundary_counts(
                preds,
                target,
                num_classes=self.num_classes,
                width=self.width,
                ratio=self.ratio,
                independent=self.independent,
                ignore_index=self.ignore_index,
                valid=valid,
            )
        )

    def score(self, sums: OverlapCounts) -> Tensor:
        """Return the boundary IoU (N, C)."""
        return sums.iou()


@torch.no_grad()
def boundary_counts(
    preds: Tensor,
    target: Tensor,
    *,
    num_classes: int,
    width: int | None = None,
    ratio: float = 0.02,
    independent: bool = False,
    ignore_index: int | None = None,
    valid: Tensor | None = None,
) -> OverlapCounts:
    """Count the pixels of each class that lie near its contour, image by image.

    Args:
        preds: As in `overlap_counts`.
        target: As in `overlap_counts`.
        num_classes: C, at least 2; 1 and more for independent classes.
        width: d in pixels, at least 1; None takes `ratio`.
        ratio: d as a share of the image's diagonal, above 0.
        independent: True when the classes do not exclude each other.
        ignore_index: Label value whose pixels (entries for independent classes) do not count.
        valid: Bool (N, *S), True where the pixel counts.

    Returns:
        int64 counts (N, C), whose `iou` is the boundary IoU. A pixel is a true positive where it is
        in both rims. An image that does not hold a class has no rim of it.

    Raises:
        TypeError: `preds` (N, *S) are floating, or `valid` is not bool.
        ValueError: Shapes do not match, or predictions lie outside the classes.
    """
    _check_width(width, ratio)
    if independent:
        yes = predicted_answers(preds, num_classes)
        truth = read_answers(
            target, shape=tuple(preds.shape), ignore_index=ignore_index, valid=valid
        )
        d = _pixels(width, ratio, tuple(preds.shape[2:]))
        predicted, present = (
            side & _near_contour(side.long(), truth.counts, 2, d, channels=2)
            for side in (yes, truth.answers())
        )
        return count_answers(predicted, present, truth.counts)
    truth = read_truth(
        target, num_classes=num_classes, space=(), ignore_index=ignore_index, valid=valid
    )
    labels = truth.top_labels()
    preds = top_prediction(preds, tuple(labels.shape), num_classes)
    check_range(preds, truth.counts, num_classes)
    d = _pixels(width, ratio, tuple(labels.shape[1:]))
    predicted, present = (
        _near_contour(side, truth.counts, num_classes, d, channels=1) for side in (preds, labels)
    )
    return count_overlap(preds, labels, predicted, num_classes, present)


class BoundaryCalibrationError(CalibrationMetric):
    """Top-label expected calibration error of the pixels near a border of the labels alone.

    Models are least sure there, and so are annotators. See `ExpectedCalibrationError`.

    The band is chosen by the labels. Where single pixels are labelled at random, even a perfectly
    calibrated model has an error here: the band holds all pixels that differ from their neighbours
    and only some of the others.

    Args:
        num_classes: C, at least 2; 1 and more for independent classes, each of which has borders of
            its own.
        width: Of the band on each side of a border, in pixels, at least 1. The edges of the image
            and pixels that do not count make no border.
        num_bins: B, at least 1.
        per: "dataset" for all pixels together, "image" for the mean over the images that have any
            in the band.
        independent: True when the classes do not exclude each other; see `CalibrationMetric`.
        ignore_index: Label value whose pixels do not count.
        **kwargs: Of `torchmetrics.Metric`.
    """

    def __init__(self, num_classes: int, *, width: int = 3, **kwargs: Any) -> None:
        _checks.in_range("width", width, 1)
        super().__init__(num_classes, settings=(width,), **kwargs)
        self.width = width

    def gather(
        self, probs: Tensor, target: Tensor | Target, valid: Tensor | None
    ) -> CalibrationSums:
        """Gather the sums of the band of a batch."""
        return boundary_confidence_sums(
            probs,
            target,
            width=self.width,
            num_classes=self.num_classes,
            num_bins=self.num_bins,
            independent=self.independent,
            ignore_index=self.ignore_index,
            valid=valid,
        )

    def score(self, sums: CalibrationSums) -> Tensor:
        """Return the error of each image (N,) in [0, 1]."""
        return sums.equal_width().error()


def _near_contour(
    labels: Tensor, counts: Tensor, num_classes: int, d: int, *, channels: int
) -> Tensor:
    """Find the pixels within `d` of another class or of the edge of the image.

    Args:
        labels: int64, `channels` leading dimensions, then *S.
        counts: Bool of the same shape.
        num_classes: How many values the labels have.
        d: Distance in pixels along every axis.
        channels: Leading dimensions.
    """
    marked = labels.where(counts, -1).flatten(0, channels - 1)
    space = marked.ndim - 1
    # One pixel of a class of its own lies around the image.
    marked = F.pad(marked, [1] * (2 * space), value=num_classes)
    band = boundary_band(marked, width=d, num_classes=num_classes + 1)
    return band[(slice(None), *[slice(1, -1)] * space)].reshape(labels.shape)


def _pixels(width: int | None, ratio: float, space: tuple[int, ...]) -> int:
    """Return the width of the rim in pixels."""
    if width is not None:
        return width
    return max(1, round(ratio * math.sqrt(sum(length**2 for length in space))))


def _check_width(width: int | None, ratio: float) -> None:
    if width is not None:
        _checks.in_range("width", width, 1)
    elif not 0 < ratio < math.inf:
        raise ValueError(f"Expected `ratio` to be above 0, but got {ratio}. It is often 0.02.")
