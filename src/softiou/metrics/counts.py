"""Exact integer counts of predictions and targets, per image and class.

They are the overlap statistics of hard predictions: tp = M, D = P + Y - 2 M. Integers do not
saturate, as float32 sums do at 2^24 pixels.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from softiou import _checks
from softiou.metrics.images import ImageSums
from softiou.targets import DenseTarget, as_target
from softiou.targets.hard import count_labels


@dataclass(frozen=True)
class OverlapCounts(ImageSums):
    """Pixels of each image and class, int64 (N, C).

    Attributes:
        true_positives: Predicted and there.
        predicted: Predicted.
        present: There, in the target.
    """

    true_positives: Tensor
    predicted: Tensor
    present: Tensor

    def occurs(self) -> Tensor:
        """Say which classes the target of each image holds, bool (N, C)."""
        return self.present > 0

    def iou(self) -> Tensor:
        """Compute tp / (tp + fp + fn) in float64 (N, C); NaN where the union is empty."""
        union = self.predicted + self.present - self.true_positives
        return self.true_positives.double() / union.double()

    def accuracy(self) -> Tensor:
        """Compute the share of right pixels over all images and classes; NaN without pixels."""
        return self.true_positives.sum().double() / self.present.sum().double()

    def dice(self) -> Tensor:
        """Compute 2 tp / (2 tp + fp + fn) in float64 (N, C); NaN where both are empty."""
        return 2 * self.true_positives.double() / (self.predicted + self.present).double()


def overlap_counts(
    preds: Tensor,
    target: Tensor,
    *,
    num_classes: int,
    ignore_index: int | None = None,
    valid: Tensor | None = None,
) -> OverlapCounts:
    """Count the pixels of each class in prediction, target and both, image by image.

    Args:
        preds: Class indices (N, *S), or probabilities or logits (N, C, *S), whose largest counts.
        target: Class indices (N, *S), or probabilities (N, C, *S), whose largest counts.
        num_classes: C, at least 2; a binary problem has background and foreground.
        ignore_index: Label value whose pixels do not count.
        valid: Bool (N, *S), True where the pixel counts.

    Returns:
        int64 counts (N, C).

    Raises:
        TypeError: `preds` (N, *S) are floating, or `valid` is not bool.
        ValueError: Shapes do not match, or predictions lie outside the classes.

    Example:
        >>> preds, target = torch.tensor([[0, 1, 1]]), torch.tensor([[0, 0, 1]])
        >>> overlap_counts(preds, target, num_classes=2).iou()
        tensor([[0.5000, 0.5000]], dtype=torch.float64)
    """
    labels, counts = top_label(target, num_classes=num_classes, ignore_index=ignore_index)
    preds = _top_prediction(preds, tuple(labels.shape), num_classes)
    valid = _checks.pixel_map("valid", valid, tuple(labels.shape), boolean=True)
    if valid is not None:
        counts = counts & valid
    preds, labels, counts = preds.flatten(1), labels.flatten(1), counts.flatten(1)  # (N, P)
    image = torch.arange(len(preds), device=preds.device).unsqueeze(1) * num_classes
    size = len(preds) * num_classes

    def count(classes: Tensor, where: Tensor) -> Tensor:
        return torch.bincount((classes + image)[where], minlength=size).view(-1, num_classes)

    if bool(((preds < 0) | (preds >= num_classes))[counts].any()):
        raise ValueError(
            f"Expected `preds` to hold class indices in [0, {num_classes - 1}], but found "
            f"{preds[counts].min().item()} to {preds[counts].max().item()}."
        )
    return OverlapCounts(
        true_positives=count(labels, counts & (preds == labels)),
        predicted=count(preds, counts),
        present=count(labels, counts),
    )


def _top_prediction(preds: Tensor, shape: tuple[int, ...], num_classes: int) -> Tensor:
    """Return the predicted classes (N, *S), or raise when `preds` do not fit the target."""
    scores_shape = (shape[0], num_classes, *shape[1:])
    if tuple(preds.shape) == scores_shape:
        return preds.argmax(1)
    if tuple(preds.shape) != shape:
        raise ValueError(
            f"Expected `preds` to have shape (N, *S) = {shape} or (N, C, *S) = {scores_shape}, "
            f"matching the target, but got {tuple(preds.shape)}. Resize the prediction to the "
            "target; a binary prediction needs a threshold first."
        )
    if preds.is_floating_point():
        raise TypeError(
            f"Expected `preds` of shape (N, *S) to hold integer class indices, but got "
            f"{preds.dtype}. Turn probabilities of one class into indices: (preds > 0.5).long()."
        )
    return preds.long()


def top_label(
    target: Tensor, *, num_classes: int, ignore_index: int | None
) -> tuple[Tensor, Tensor]:
    """Return the most probable class (N, *S) of a target and where it counts, bool (N, *S)."""
    if not target.is_floating_point():
        return target.long(), count_labels(
            target, num_classes=num_classes, ignore_index=ignore_index
        )
    shape = (target.shape[0], num_classes, *target.shape[2:])
    dense = as_target(target, logits_shape=shape, ignore_index=ignore_index)
    labels = target.argmax(1)
    counts = dense.counts(target.movedim(1, 0)) if isinstance(dense, DenseTarget) else None
    return labels, torch.ones_like(labels, dtype=torch.bool) if counts is None else counts[0]
