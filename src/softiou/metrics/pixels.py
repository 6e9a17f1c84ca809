"""Sums over the pixels, computed by compiled code if possible, otherwise in plain PyTorch.

Shapes: N images, C classes, *S space, B bins, F fine bins.
"""

from dataclasses import dataclass, replace
from typing import Required, TypedDict, Unpack

import torch
from torch import Tensor

from softiou import _checks
from softiou.metrics import native, plain
from softiou.metrics.bins import CalibrationBins
from softiou.metrics.calibration_sums import (
    CalibrationSums,
    PixelSums,
    check_confidences,
    check_masses,
)
from softiou.metrics.counts import OverlapCounts, count_answers, count_overlap
from softiou.metrics.decoding import AnyTarget, DecodedTarget, decode_independent, decode_target
from softiou.targets import HardTarget
from softiou.targets.smoothing import boundary_band


class PixelOptions(TypedDict, total=False):
    """Keyword arguments of the functions below, documented in `pixel_sums`."""

    num_classes: Required[int]
    num_bins: int
    independent: bool
    ignore_index: int | None


@dataclass(frozen=True)
class _Settings:
    num_classes: int
    num_bins: int = 15
    independent: bool = False
    ignore_index: int | None = None

    def __post_init__(self) -> None:
        _checks.in_range("num_classes", self.num_classes, 1 if self.independent else 2)
        _checks.in_range("num_bins", self.num_bins, 1)

    def checked(self, sums: CalibrationSums) -> CalibrationSums:
        """Return the sums, or raise a ValueError if they cannot come from probabilities."""
        check_confidences(sums.fine, least=0.0 if self.independent else 1 / self.num_classes)
        return sums

    def checked_classes(self, bins: CalibrationBins) -> CalibrationBins:
        """Return the bins, or raise a ValueError if they cannot come from probabilities."""
        check_confidences(bins)
        if not self.independent:
            check_masses(bins)
        return bins


@torch.no_grad()
def pixel_sums(
    probs: Tensor,
    target: AnyTarget,
    *,
    num_classes: int,
    num_bins: int = 15,
    independent: bool = False,
    ignore_index: int | None = None,
    valid: Tensor | None = None,
) -> PixelSums:
    """Compute overlap counts, confidence bins, Brier score and log-likelihood of each image.

    All metrics of probabilities can be computed from these sums, with a single pass over the
    pixels: pass them to `add` of `SegmentationScores`, `CalibrationScores` or `EvaluationScores`.

    Args:
        probs: Probabilities (N, C, *S) of any floating dtype.
        target: Class indices (N, *S), probabilities (N, C, *S), or a `Target` such as
            `targets.votes(masks)`, which is expanded to probabilities. For independent classes, 0/1
            or probabilities (N, C, *S); for a single class also labels (N, *S).
        num_classes: C, at least 2; at least 1 for independent classes.
        num_bins: B, at least 1.
        independent: True if the classes do not exclude each other (binary with C = 1, or
            multilabel). Every entry (pixel, class) is then a sample: its confidence is the
            probability of the class, which is compared with the frequency of the class.
        ignore_index: Label of pixels (entries for independent classes) to ignore.
        valid: Bool (N, *S), False for pixels to ignore.

    Returns:
        Sums of each image; for the calibration see `confidence_sums`.

    Raises:
        TypeError: `probs` are not floating, or `valid` is not bool.
        ValueError: `probs` do not match the target in number of classes or space, or are not
            probabilities: their sum over the classes is not 1 on average, or they lie outside
            [0, 1]. The sums of each image are checked, not every pixel. NaN does not raise.

    Note:
        Compiled code is used for hard labels on the CPU with `probs` in float32, bfloat16 or
        float16. It copies `probs` if they are not contiguous, and sums up to 1024 pixels in
        float32, then in float64. A NaN in a valid pixel makes the calibration of its image NaN; as
        in `torch.argmax`, its class is the prediction. Ignored pixels may contain NaN.

    Example:
        >>> probs = torch.tensor([[[0.75, 0.5], [0.25, 0.5]]])
        >>> sums = pixel_sums(probs, torch.tensor([[0, 1]]), num_classes=2)
        >>> sums.overlap.iou()
        tensor([[0.5000, 0.0000]], dtype=torch.float64)
        >>> sums.calibration.brier_score()  # (2/16 + 1/2) / 2
        tensor([0.3125], dtype=torch.float64)
    """
    settings = _Settings(num_classes, num_bins, independent, ignore_index)
    found = _compiled(probs, target, valid, settings, classwise=True)
    if found is not None:
        overlap, sums, classes = OverlapCounts(*found.counts.unbind(1)), _sums(found), found.classes
    else:
        decoded = _decoded(probs, target, valid, settings)
        overlap, sums = _overlap(probs, decoded), _plain_sums(probs, decoded, num_bins)
        classes = plain.class_bins(probs, decoded, num_bins=num_bins)
    return PixelSums(overlap, settings.checked(sums), settings.checked_classes(classes))


@torch.no_grad()
def confidence_sums(
    probs: Tensor,
    target: AnyTarget,
    *,
    valid: Tensor | None = None,
    **options: Unpack[PixelOptions],
) -> CalibrationSums:
    """Compute the bins of top-label confidence, the Brier score and the log-likelihood.

    The confidence of a pixel is its highest probability. Its correctness is the target's
    probability of that class, which is 0 or 1 for hard labels. For independent classes and the
    arguments see `pixel_sums`.

    Returns:
        Sums of each image: (N, F) and (N,).

    Raises:
        ValueError: As for `pixel_sums`; but only the highest probability of each pixel is checked,
            so logits in [0, 1] do not raise.

    Note:
        In the log-likelihood, probabilities are clipped at 1.2e-38, a loss of 87.
    """
    settings = _Settings(**options)
    found = _compiled(probs, target, valid, settings, classwise=False)
    if found is not None:
        return settings.checked(_sums(found))
    decoded = _decoded(probs, target, valid, settings)
    return settings.checked(_plain_sums(probs, decoded, settings.num_bins))


@torch.no_grad()
def boundary_confidence_sums(
    probs: Tensor,
    target: AnyTarget,
    *,
    width: int,
    valid: Tensor | None = None,
    **options: Unpack[PixelOptions],
) -> CalibrationSums:
    """Compute the sums of `confidence_sums` over the pixels near a boundary of the labels.

    The band has `width` pixels, at least 1, on each side of a boundary, see
    `softiou.targets.boundary_band`. The image border and invalid pixels are not boundaries.
    Independent classes have separate boundaries. Other arguments are those of `pixel_sums`.
    """
    settings = _Settings(**options)
    decoded = _decoded(probs, target, valid, settings)
    if decoded.labels is not None:
        labels = decoded.labels.where(decoded.valid, -1)
        band = boundary_band(labels, width=width, num_classes=settings.num_classes)
        if decoded.probs is None:
            return confidence_sums(probs, replace(decoded, valid=band), **options)
    else:
        labels = decoded.is_present().long().where(decoded.valid, -1).flatten(0, 1)  # (N C, *S)
        band = boundary_band(labels, width=width, num_classes=2).view(probs.shape)
    sums = _plain_sums(probs, replace(decoded, valid=band), settings.num_bins)
    return settings.checked(sums)


@torch.no_grad()
def classwise_bins(
    probs: Tensor,
    target: AnyTarget,
    *,
    valid: Tensor | None = None,
    **options: Unpack[PixelOptions],
) -> CalibrationBins:
    """Compute bins of the probability of every class, with the frequency of the class in each.

    Every pixel is in one bin for each class, whatever its prediction. The arguments are those of
    `pixel_sums`.

    Returns:
        Bins of each image and class (N, C, B), [b / B, (b + 1) / B).

    Raises:
        ValueError: As for `pixel_sums`.
    """
    settings = _Settings(**options)
    found = _compiled(probs, target, valid, settings, classwise=True)
    if found is not None:
        return settings.checked_classes(found.classes)
    decoded = _decoded(probs, target, valid, settings)
    bins = plain.class_bins(probs, decoded, num_bins=settings.num_bins)
    return settings.checked_classes(bins)


def _compiled(
    probs: Tensor, target: AnyTarget, valid: Tensor | None, settings: _Settings, *, classwise: bool
) -> native.Gathered | None:
    """Compute the sums with compiled code, or return None if that is not possible."""
    ignore_index = settings.ignore_index
    if isinstance(target, HardTarget):
        ignore_index = ignore_index if target.ignore_index is None else target.ignore_index
        target = target.labels
    elif isinstance(target, DecodedTarget) and target.probs is None:
        valid = target.valid if valid is None else target.valid & valid
        target, ignore_index = target.top_labels(), None
    hard = isinstance(target, Tensor) and not target.is_floating_point()
    if settings.independent or not isinstance(target, Tensor) or not hard:
        return None
    _check_probs(probs, tuple(target.shape), settings.num_classes)
    valid = _checks.pixel_map("valid", valid, tuple(target.shape), boolean=True)
    if native.unsupported_reason(probs, target, valid, settings.num_bins) is not None:
        return None
    return native.gather(
        probs,
        target,
        valid,
        num_classes=settings.num_classes,
        ignore_index=ignore_index,
        num_bins=settings.num_bins,
        classwise=classwise,
    )


def _decoded(
    probs: Tensor, target: AnyTarget, valid: Tensor | None, settings: _Settings
) -> DecodedTarget:
    """Decode the target for plain PyTorch, and check that the probabilities match it."""
    _checks.dense_tensor("probs", probs)
    ignore_index, num_classes = settings.ignore_index, settings.num_classes
    if settings.independent:
        _check_probs(probs, (*probs.shape[:1], *probs.shape[2:]), num_classes)
        return decode_independent(
            target, shape=tuple(probs.shape), ignore_index=ignore_index, valid=valid
        )
    decoded = decode_target(
        target,
        num_classes=num_classes,
        space=tuple(probs.shape[2:]),
        ignore_index=ignore_index,
        valid=valid,
    )
    _check_probs(probs, tuple(decoded.valid.shape), num_classes)
    return decoded


def _check_probs(probs: Tensor, shape: tuple[int, ...], num_classes: int) -> None:
    """Raise unless `probs` are floating (N, C, *S) for a target (N, *S) of `shape`."""
    _checks.dense_tensor("probs", probs)
    if not probs.is_floating_point():
        raise TypeError(
            f"Expected `probs` to be floating probabilities (N, C, *S), but got {probs.dtype}. "
            "For class indices, use MeanIoU, MeanDice or PixelAccuracy."
        )
    wanted = (*shape[:1], num_classes, *shape[1:])
    if tuple(probs.shape) != wanted:
        raise ValueError(
            f"Expected `probs` to have shape (N, C, *S) = {wanted}, matching the target, but "
            f"got {tuple(probs.shape)}."
        )


def _sums(found: native.Gathered) -> CalibrationSums:
    return CalibrationSums(found.fine, found.brier, found.nll, found.pixels)


def _plain_sums(probs: Tensor, target: DecodedTarget, num_bins: int) -> CalibrationSums:
    gather = plain.answer_sums if target.labels is None else plain.confidence_sums
    return gather(probs, target, num_bins=num_bins)


def _overlap(probs: Tensor, target: DecodedTarget) -> OverlapCounts:
    if target.labels is None:
        return count_answers(probs > 0.5, target.is_present(), target.valid)
    return count_overlap(probs.argmax(1), target.labels, target.valid, probs.shape[1])
