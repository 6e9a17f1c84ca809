"""Plain tensors read as targets, and targets written out as plain tensors.

Shapes: N images, C classes, *S space.
"""

import torch
from torch import Tensor

from softiou import _checks
from softiou.targets.base import Target, space_of
from softiou.targets.dense import DenseTarget
from softiou.targets.hard import HardTarget
from softiou.targets.smoothing import SmoothedTarget


def from_tensor(target: Tensor | Target) -> Target:
    """Read a plain tensor as hard or dense by its dtype, without logits to compare it with."""
    if isinstance(target, Target):
        return target
    if not isinstance(target, Tensor):
        raise TypeError(f"Expected `target` to be a tensor or a Target, but got {type(target)}.")
    if target.is_floating_point():
        return DenseTarget(target, independent=None)
    return HardTarget(target)


def as_target(
    target: Tensor | Target,
    *,
    logits_shape: tuple[int, ...],
    ignore_index: int | None = None,
    independent: bool = False,
) -> Target:
    """Read a plain tensor as the target it is: integer or bool means hard, floating means dense.

    Args:
        target: Class indices (N, *S), probabilities (N, C, *S), 0/1 integers (N, C, *S) when the
            classes are independent, or a `Target`.
        logits_shape: (N, C, *S) of the logits, at the resolution of the target.
        ignore_index: Label value whose pixels do not count; a `Target` that names one of its own
            keeps it.
        independent: True when the classes do not exclude each other (sigmoid).

    Returns:
        The target, with the images and the space of the logits.

    Raises:
        TypeError: `target` is neither tensor nor `Target`.
        ValueError: Shape or dtype do not match the logits.
    """
    num_classes, shape = logits_shape[1], (logits_shape[0], *logits_shape[2:])
    if isinstance(target, Target):
        target = target.completed(ignore_index, shape[1:], independent=independent)
        if isinstance(target, DenseTarget):
            target.check_classes(num_classes)
        if isinstance(target, SmoothedTarget):
            target = target.with_band(num_classes)
        if target.shape != shape:
            raise ValueError(
                f"Expected `target` to cover (N, *S) = {shape}, but it covers {target.shape}."
            )
        return target
    if not isinstance(target, Tensor):
        raise TypeError(f"Expected `target` to be a tensor or a Target, but got {type(target)}.")
    hard = not target.is_floating_point()
    if hard and tuple(target.shape) == shape:
        return HardTarget(target, ignore_index)
    if tuple(target.shape) == logits_shape and (independent or not hard):
        return DenseTarget(target, ignore_index, independent)
    raise ValueError(_mismatch(target, logits_shape, shape, hard=hard, num_classes=num_classes))


def to_probs(
    target: Tensor | Target, *, num_classes: int, ignore_index: int | None = None
) -> tuple[Tensor, Tensor]:
    """Write any target out as probabilities, for use in another loss or to look at.

    Args:
        target: A `Target`, class indices (N, *S) or probabilities (N, C, *S). A teacher that does
            not name its size, alone, is written at its own stride.
        num_classes: C; for one class the probabilities are those of label 1.
        ignore_index: Label value whose pixels do not count; a `Target` that names one of its own
            keeps it.

    Returns:
        probs: float32 (N, C, *S), in [0, 1], 0 where not valid.
        valid: bool (N, *S), True where the pixel counts.

    Raises:
        TypeError: `target` is neither tensor nor `Target`.
        ValueError: It has another number of classes, or ignores single classes of a pixel.

    Example:
        >>> probs, valid = to_probs(torch.tensor([[1, 0, 255]]), num_classes=2, ignore_index=255)
        >>> probs.tolist()
        [[[0.0, 1.0, 0.0], [1.0, 0.0, 0.0]]]
        >>> valid.tolist()
        [[True, True, False]]
    """
    _checks.in_range("num_classes", num_classes, 1)
    target = from_tensor(target)
    space, independent = space_of(target) or target.shape[1:], num_classes == 1
    target = target.completed(ignore_index, space, independent=independent)
    shape = (target.shape[0], num_classes, *target.shape[1:])
    found = as_target(target, logits_shape=shape, independent=independent).dense(
        num_classes, torch.float32
    )
    if found.valid is None:
        return found.y, torch.ones(target.shape, dtype=torch.bool, device=found.y.device)
    if found.valid.shape[1] > 1:
        raise ValueError(
            "Expected the classes of a pixel of `target` to be ignored together, but it ignores "
            "single ones. Hand it to the loss as it is, with activation='sigmoid'."
        )
    return found.y.where(found.valid, 0.0), found.valid[:, 0]


def _mismatch(
    target: Tensor,
    logits_shape: tuple[int, ...],
    shape: tuple[int, ...],
    *,
    hard: bool,
    num_classes: int,
) -> str:
    """Return the error message for a shape that does not match, with the likely way out."""
    got = tuple(target.shape)
    message = (
        f"Expected `target` to have shape (N, *S) = {shape} (integer) or (N, C, *S) = "
        f"{logits_shape} (floating), matching the logits, but got {got} of {target.dtype}."
    )
    if got == (shape[0], 1, *shape[1:]) and hard:
        return f"{message} Drop the second dimension: target.squeeze(1)."
    if got == logits_shape:
        return f"{message} Make it floating (probabilities), or take `argmax(1)` (indices)."
    if got == shape:
        way = "target.unsqueeze(1)" if num_classes == 1 else "target.long()"
        return f"{message} Use {way}."
    return f"{message} Resize the target to the logits, or the logits to the target."
