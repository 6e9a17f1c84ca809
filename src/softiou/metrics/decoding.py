"""Decode targets of any kind into labels or probabilities and a mask of valid pixels.

Shapes: N images, C classes, *S space.
"""

from dataclasses import dataclass, replace
from typing import TypeAlias

import torch
from torch import Tensor

from softiou import _checks
from softiou.targets import DenseTarget, Target, as_target, to_probs
from softiou.targets.hard import HardTarget, LabelsTarget, valid_labels, validate_on_cpu


@dataclass(frozen=True)
class DecodedTarget:
    """The labels or probabilities of every pixel, and the mask of valid pixels.

    The functions of this package accept it instead of a target. To compute several metrics, decode
    the target only once with `decode_target`.

    Attributes:
        labels: Most probable class, int64 (N, *S); None for independent classes.
        probs: Probability of every class, floating (N, C, *S); None for hard labels.
        valid: Bool (N, *S), or (N, C, *S) for independent classes.
    """

    labels: Tensor | None
    probs: Tensor | None
    valid: Tensor

    def of_class(self, c: int) -> Tensor:
        """Return the probability of class `c` in every pixel, float64 (N, *S)."""
        if self.probs is not None:
            return self.probs[:, c].double()
        return (self.top_labels() == c).double()

    def of_classes(self, classes: Tensor) -> Tensor:
        """Return the probability of the given class in every pixel, float64 (N, *S)."""
        if self.probs is not None:
            return self.probs.gather(1, classes.unsqueeze(1)).squeeze(1).double()
        return (self.top_labels() == classes).double()

    def is_present(self) -> Tensor:
        """Return where the probability of each independent class exceeds 1/2: bool (N, C, *S)."""
        if self.probs is None:
            raise RuntimeError("labels, not independent classes")
        return self.probs > 0.5

    def top_labels(self) -> Tensor:
        """Return the labels; raise a RuntimeError for independent classes, which have none."""
        if self.labels is None:
            raise RuntimeError("independent classes have no label")
        return self.labels


AnyTarget: TypeAlias = Tensor | Target | DecodedTarget


def decode_target(
    target: AnyTarget,
    *,
    num_classes: int,
    space: tuple[int, ...] = (),
    ignore_index: int | None = None,
    valid: Tensor | None = None,
) -> DecodedTarget:
    """Decode a target of classes that exclude each other.

    Args:
        target: Class indices (N, *S), probabilities (N, C, *S), or a `Target`, which is expanded to
            probabilities. A `DecodedTarget` is returned with `valid` applied.
        num_classes: C.
        space: *S of the prediction, for targets without a size.
        ignore_index: Label of pixels to ignore.
        valid: Bool (N, *S), False for pixels to ignore.

    Raises:
        TypeError: `valid` is not bool.
        ValueError: Shapes do not match, or, on the CPU, a label is not a class.
    """
    if isinstance(target, DecodedTarget):
        return target if valid is None else replace(target, valid=target.valid & valid)
    given, ignored, of_target = target, ignore_index, None
    if isinstance(target, Target):
        target = target.completed(ignore_index, space)
        if isinstance(target, LabelsTarget):
            given, ignored = target.labels, target.ignore_index
        target, of_target = to_probs(target, num_classes=num_classes)
    labels, found = _top_label(target, num_classes=num_classes, ignore_index=ignore_index)
    valid = _checks.pixel_map("valid", valid, tuple(labels.shape), boolean=True)
    if isinstance(given, Tensor) and not given.is_floating_point():
        validate_on_cpu(given, num_classes=num_classes, ignore_index=ignored, valid=valid)
    for mask in (valid, of_target):
        found = found if mask is None else found & mask
    return DecodedTarget(labels, target if target.is_floating_point() else None, found)


def decode_independent(
    target: AnyTarget, *, shape: tuple[int, ...], ignore_index: int | None, valid: Tensor | None
) -> DecodedTarget:
    """Decode a target of independent classes, each of which is present or absent.

    The target is 0/1 or probabilities (N, C, *S), labels 0/1 (N, *S) of a single class, or a
    `Target`. `shape` is that of the prediction, (N, C, *S).
    """
    mask = _checks.pixel_map("valid", valid, (shape[0], *shape[2:]), boolean=True)
    if isinstance(target, DecodedTarget):
        decoded = target
    else:
        ready = as_target(target, logits_shape=shape, ignore_index=ignore_index, independent=True)
        if isinstance(ready, HardTarget):
            validate_on_cpu(ready.labels, ignore_index=ready.ignore_index, valid=mask)
        elif isinstance(ready, DenseTarget) and not ready.values.is_floating_point():
            entries = None if mask is None else mask.unsqueeze(1)
            validate_on_cpu(ready.values, ignore_index=ready.ignore_index, valid=entries)
        dense = ready.dense(shape[1], torch.float32)
        found = torch.ones_like(dense.y, dtype=torch.bool)
        if dense.valid is not None:
            found = dense.valid.expand(shape)
        decoded = DecodedTarget(None, dense.y, found)
    return decoded if mask is None else replace(decoded, valid=decoded.valid & mask.unsqueeze(1))


def _top_label(
    target: Tensor, *, num_classes: int, ignore_index: int | None
) -> tuple[Tensor, Tensor]:
    """Return the most probable class of a target (N, *S), and its valid pixels, bool (N, *S)."""
    if _checks.dense_tensor("target", target).ndim < 2:
        raise ValueError(
            "Expected `target` to have shape (N, *S) or (N, C, *S), but got "
            f"{tuple(target.shape)}. For a single image, use `unsqueeze(0)`."
        )
    if not target.is_floating_point():
        return target.long(), valid_labels(
            target, num_classes=num_classes, ignore_index=ignore_index
        )
    shape = (target.shape[0], num_classes, *target.shape[2:])
    dense = as_target(target, logits_shape=shape, ignore_index=ignore_index)
    labels = target.argmax(1)
    valid = dense.valid_of(target.movedim(1, 0)) if isinstance(dense, DenseTarget) else None
    return labels, torch.ones_like(labels, dtype=torch.bool) if valid is None else valid[0]
