"""Metrics of the pixels near class boundaries.

Shapes: N images, C classes, *S space.
"""

import math
from functools import reduce
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from softiou import _checks
from softiou.metrics import counts
from softiou.metrics.calibration import CalibrationMetric
from softiou.metrics.calibration_sums import CalibrationSums
from softiou.metrics.decoding import AnyTarget, decode_independent, decode_target
from softiou.metrics.image_metrics import MeanMetric
from softiou.metrics.iou import OverlapMetric
from softiou.metrics.pixels import boundary_confidence_sums
from softiou.targets.smoothing import boundary_band

_ROWS = 512  # rows that are processed together, to limit memory


class BoundaryIoU(MeanMetric[counts.OverlapCounts], OverlapMetric):
    """IoU of the boundary bands of the classes, which measures how well the contours match.

        boundary IoU = |G_d and P_d| / |G_d or P_d|

    where G_d are the pixels of a class in the target that lie within the distance d of its contour,
    and P_d those in the prediction. The averages are those of `MeanIoU`.

    Args:
        num_classes: C, at least 2; at least 1 for independent classes.
        width: d in pixels, at least 1; None uses `ratio`.
        ratio: d as a fraction of the image diagonal, above 0; rounded, at least one pixel.
        **kwargs: Other arguments of `MeanIoU`.

    Example:
        >>> metric = BoundaryIoU(num_classes=2, width=1, per="none")
        >>> metric.update(torch.tensor([[0, 0, 0, 0, 1]]), torch.tensor([[0, 0, 0, 1, 1]]))
        >>> metric.compute()  # {0, 3} and {0, 2}; {4} and {3, 4}
        tensor([0.3333, 0.5000], dtype=torch.float64)

    References:
        Cheng, Girshick, Dollar, Berg, Kirillov, Boundary IoU, CVPR 2021, arXiv 2103.16562. As in
        the authors' code, the distance is the Chebyshev distance, and the image border is a
        contour. In contrast to it, invalid pixels have no contour.
    """

    def __init__(
        self, num_classes: int, *, width: int | None = None, ratio: float = 0.02, **kwargs: Any
    ) -> None:
        _check_width(width, ratio)
        super().__init__(num_classes, settings=(width, ratio), **kwargs)
        self.width = width
        self.ratio = ratio

    def update(self, preds: Tensor, target: AnyTarget, valid: Tensor | None = None) -> None:
        """Add images; for the shapes see `boundary_counts`."""
        found = boundary_counts(
            preds, target, width=self.width, ratio=self.ratio, valid=valid, **self.options()
        )
        self._append(found)

    def score(self, sums: counts.OverlapCounts) -> Tensor:
        """Return the boundary IoU (N, C)."""
        return sums.iou()


@torch.no_grad()
def boundary_counts(
    preds: Tensor,
    target: AnyTarget,
    *,
    num_classes: int,
    width: int | None = None,
    ratio: float = 0.02,
    independent: bool = False,
    threshold: float = 0.5,
    ignore_index: int | None = None,
    valid: Tensor | None = None,
) -> counts.OverlapCounts:
    """Count the pixels of each class near its contour; other arguments as in `overlap_counts`.

    Args:
        width: d in pixels, at least 1; None uses `ratio`.
        ratio: d as a fraction of the image diagonal, above 0.

    Returns:
        int64 counts (N, C), whose `iou` is the boundary IoU. True positives are in the bands of
        both prediction and target.
    """
    _check_width(width, ratio)
    counts.check_threshold(threshold, independent)
    if independent:
        found = counts.predicted_answers(preds, num_classes, threshold)
        decoded = decode_independent(
            target, shape=tuple(preds.shape), ignore_index=ignore_index, valid=valid
        )
        d = _pixels(width, ratio, tuple(preds.shape[2:]))
        predicted, present = (
            side & _near_contour(side.long(), decoded.valid, 2, d, channels=2)
            for side in (found, decoded.is_present())
        )
        return counts.count_answers(predicted, present, decoded.valid)
    decoded = decode_target(target, num_classes=num_classes, ignore_index=ignore_index, valid=valid)
    labels = decoded.top_labels()
    classes = isinstance(preds, Tensor) and not preds.is_floating_point()
    if not classes or preds.shape != labels.shape:
        preds = counts.top_prediction(preds, tuple(labels.shape), num_classes)
    parts: list[counts.OverlapCounts] = []
    d = _pixels(width, ratio, tuple(labels.shape[1:]))
    for top in range(0, max(1, labels.shape[1]), _ROWS):  # strips of rows, to limit memory
        rows = slice(max(0, top - d), top + _ROWS + d)
        inner = (slice(None), slice(top - rows.start, top - rows.start + _ROWS))
        valid, sides = decoded.valid[:, rows], [one[:, rows].long() for one in (preds, labels)]
        counts.check_range(sides[0], valid, num_classes)
        predicted, present = (
            _near_contour(side, valid, num_classes, d, channels=1)[inner] for side in sides
        )
        one, other = (side[inner] for side in sides)
        parts.append(counts.count_overlap(one, other, predicted, num_classes, present))
    return reduce(counts.OverlapCounts.plus, parts)


class BoundaryCalibrationError(CalibrationMetric):
    """Top-label expected calibration error of the pixels near a boundary of the labels.

    Near boundaries, models and annotators are least certain. See `ExpectedCalibrationError`.

    The band is selected by the labels. If single labels are noisy, even a calibrated model has an
    error, because the band contains all pixels that differ from their neighbours, but not all
    other pixels.

    Args:
        num_classes: C, at least 2; at least 1 for independent classes, which have separate
            boundaries.
        width: Width of the band on each side of a boundary, in pixels, at least 1. The image border
            and invalid pixels are not boundaries.
        **kwargs: `num_bins`, `per`, `independent` and others of `CalibrationMetric`.
    """

    def __init__(self, num_classes: int, *, width: int = 3, **kwargs: Any) -> None:
        _checks.in_range("width", width, 1)
        super().__init__(num_classes, settings=(width,), **kwargs)
        self.width = width

    def gather(self, probs: Tensor, target: AnyTarget, valid: Tensor | None) -> CalibrationSums:
        """Compute the sums over the band for a batch."""
        return boundary_confidence_sums(
            probs, target, width=self.width, valid=valid, **self.options()
        )

    def score(self, sums: CalibrationSums) -> Tensor:
        """Return the error of each image (N,) in [0, 1]."""
        return sums.equal_width().error()


def _near_contour(
    labels: Tensor, valid: Tensor, num_classes: int, d: int, *, channels: int
) -> Tensor:
    """Find the pixels that lie within `d` of another class or of the image border.

    `labels`, int64, and `valid` have `channels` leading dimensions, then *S.
    """
    marked = labels.where(valid, -1).flatten(0, channels - 1)
    space = marked.ndim - 1
    # Pad with one pixel of an additional class, which makes the image border a boundary.
    marked = F.pad(marked, [1] * (2 * space), value=num_classes)
    band = boundary_band(marked, width=d, num_classes=num_classes + 1)
    return band[(slice(None), *[slice(1, -1)] * space)].reshape(labels.shape)


def _pixels(width: int | None, ratio: float, space: tuple[int, ...]) -> int:
    """Return the width of the band in pixels."""
    if width is not None:
        return width
    return max(1, round(ratio * math.sqrt(sum(length**2 for length in space))))


def _check_width(width: int | None, ratio: float) -> None:
    if width is not None:
        _checks.in_range("width", width, 1)
    elif not 0 < ratio < math.inf:
        raise ValueError(f"Expected `ratio` to be above 0, but got {ratio}. It is often 0.02.")
