"""What a metric knows of the truth of each pixel, whatever kind of target it was given as.

Shapes: N images, C classes, *S space.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from softiou import _checks
from softiou.targets import DenseTarget, Target, as_target, to_probs
from softiou.targets.hard import valid_labels


@dataclass(frozen=True)
class Truth:
    """The truth of the pixels, as labels or as probabilities, and where it counts.

    Attributes:
        labels: Most probable class, int64 (N, *S); None for independent classes.
        probs: Probability of every class, floating (N, C, *S); None for labels alone.
        counts: Bool (N, *S), or (N, C, *S) for independent classes.
    """

    labels: Tensor | None
    probs: Tensor | None
    counts: Tensor

    def of_class(self, c: int) -> Tensor:
        """Return the probability of class `c` of every pixel, float64 (N, *S)."""
        if self.probs is not None:
            return self.probs[:, c].double()
        return (self.top_labels() == c).double()

    def of_classes(self, classes: Tensor) -> Tensor:
        """Return the probability of one class of every pixel, int64 (N, *S) to float64 (N, *S)."""
        if self.probs is not None:
            return self.probs.gather(1, classes.unsqueeze(1)).squeeze(1).double()
        return (self.top_labels() == classes).double()

    def answers(self) -> Tensor:
        """Return whether each independent class is there more likely than not, bool (N, C, *S)."""
        if self.probs is None:
            raise RuntimeError("labels, not answers")
        return self.probs > 0.5

    def top_labels(self) -> Tensor:
        """Return the labels, which classes that exclude each other have."""
        if self.labels is None:
            raise RuntimeError("independent classes have no label")
        return self.labels


def read_truth(
    target: Tensor | Target,
    *,
    num_classes: int,
    space: tuple[int, ...],
    ignore_index: int | None,
    valid: Tensor | None,
) -> Truth:
    """Read the target of classes that exclude each other.

    Args:
        target: Class indices (N, *S), probabilities (N, C, *S), or a `Target`, which is written out
            as probabilities.
        num_classes: C.
        space: *S of the prediction, for targets that leave it open.
        ignore_index: Label value whose pixels do not count.
        valid: Bool (N, *S), True where the pixel counts.
    """
    known = None
    if isinstance(target, Target):
        target = target.completed(ignore_index, space)
        target, known = to_probs(target, num_classes=num_classes)
    labels, counts = top_label(target, num_classes=num_classes, ignore_index=ignore_index)
    valid = _checks.pixel_map("valid", valid, tuple(labels.shape), boolean=True)
    for more in (valid, known):
        counts = counts if more is None else counts & more
    return Truth(labels, target if target.is_floating_point() else None, counts)


def read_answers(
    target: Tensor | Target,
    *,
    shape: tuple[int, ...],
    ignore_index: int | None,
    valid: Tensor | None,
) -> Truth:
    """Read the target of independent classes, a yes or no for each.

    Args:
        target: 0 and 1 or probabilities (N, C, *S), labels 0 and 1 (N, *S) of a single class, or a
            `Target`.
        shape: (N, C, *S) of the prediction.
        ignore_index: Value whose entries do not count.
        valid: Bool (N, *S), True where the pixel counts.
    """
    found = as_target(
        target, logits_shape=shape, ignore_index=ignore_index, independent=True
    ).dense(shape[1], torch.float32)
    counts = torch.ones_like(found.y, dtype=torch.bool)
    if found.valid is not None:
        counts = found.valid.expand(shape)
    valid = _checks.pixel_map("valid", valid, (shape[0], *shape[2:]), boolean=True)
    return Truth(None, found.y, counts if valid is None else counts & valid.unsqueeze(1))


def top_label(
    target: Tensor, *, num_classes: int, ignore_index: int | None
) -> tuple[Tensor, Tensor]:
    """Return the most probable class (N, *S) of a target and where it counts, bool (N, *S)."""
    if not target.is_floating_point():
        return target.long(), valid_labels(
            target, num_classes=num_classes, ignore_index=ignore_index
        )
    shape = (target.shape[0], num_classes, *target.shape[2:])
    dense = as_target(target, logits_shape=shape, ignore_index=ignore_index)
    labels = target.argmax(1)
    counts = dense.valid_of(target.movedim(1, 0)) if isinstance(dense, DenseTarget) else None
    return labels, torch.ones_like(labels, dtype=torch.bool) if counts is None else counts[0]
