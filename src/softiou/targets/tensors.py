"""Convert plain tensors to targets, and targets to plain tensors.

Shapes: N images, C classes, *S space.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from softiou import _checks
from softiou.targets.base import Target, space_of
from softiou.targets.dense import DenseTarget
from softiou.targets.hard import HardTarget
from softiou.targets.smoothing import SmoothedTarget


def from_tensor(target: Tensor | Target) -> Target:
    """Convert a tensor to a hard or dense target by its dtype, without checking the shape."""
    if isinstance(target, Target):
        return target
    if _checks.dense_tensor("target", target).is_floating_point():
        return DenseTarget(target, independent=None)
    return HardTarget(target)


def as_target(
    target: Tensor | Target,
    *,
    logits_shape: tuple[int, ...],
    ignore_index: int | Sequence[int] | None = None,
    independent: bool = False,
) -> Target:
    """Convert a tensor to a target: integer and bool dtypes are hard labels, floating ones dense.

    Args:
        target: Class indices (N, *S) or (N, 1, *S), probabilities (N, C, *S), 0/1 integers
            (N, C, *S), or a `Target`; for a single class also probabilities (N, *S).
        logits_shape: (N, C, *S) of the logits, at the resolution of the target.
        ignore_index: Label of ignored pixels, or several for class indices; in one-hot integers
            it may be a class. A `Target` with its own `ignore_index` keeps it.
        independent: True if the classes do not exclude each other (sigmoid).

    Returns:
        The target, of shape (N, *S).

    Raises:
        TypeError: `target` is neither a tensor nor a `Target`.
        ValueError: Shape or dtype do not match the logits.
    """
    num_classes, shape = logits_shape[1], (logits_shape[0], *logits_shape[2:])
    if isinstance(target, Target):
        return _fitting(target, num_classes, shape, ignore_index, independent=independent)
    hard = not _checks.dense_tensor("target", target).is_floating_point()
    if hard and tuple(target.shape) == (shape[0], 1, *shape[1:]):
        target = target.squeeze(1)
    if num_classes == 1 and not hard and tuple(target.shape) == shape:
        target = target.unsqueeze(1)
    if hard and not independent and tuple(target.shape) == logits_shape:
        ignored = ignore_index if isinstance(ignore_index, Sequence) else (ignore_index,)
        if any(one in range(num_classes) for one in ignored):
            target = _labels(target)
    if isinstance(ignore_index, Sequence):
        target, ignore_index = _with_one_ignored(target, ignore_index, hard=hard)
    if hard and tuple(target.shape) == shape:
        return HardTarget(target, ignore_index)
    if tuple(target.shape) == logits_shape:
        return DenseTarget(target, ignore_index, independent)
    raise ValueError(_mismatch(target, logits_shape, shape, hard=hard))


def _fitting(
    target: Target,
    num_classes: int,
    shape: tuple[int, ...],
    ignore_index: int | Sequence[int] | None,
    *,
    independent: bool,
) -> Target:
    """Complete a target with the settings of the loss, and check its shape."""
    if isinstance(ignore_index, Sequence):
        raise ValueError(
            f"Expected one `ignore_index` for a {type(target).__name__}, but got {ignore_index}. "
            "Use a single value for all ignored pixels, or `valid`."
        )
    target = target.completed(ignore_index, shape[1:], independent=independent)
    if isinstance(target, DenseTarget):
        target.check_classes(num_classes)
    if isinstance(target, SmoothedTarget):
        target = target.with_band(num_classes)
    if target.shape != shape:
        raise ValueError(
            f"Expected `target` to have shape (N, *S) = {shape}, but got {target.shape}."
            + _checks.without_channel(target.shape, shape)
        )
    return target


def _labels(one_hot: Tensor) -> Tensor:
    """Convert one-hot integers (N, C, *S) to labels (N, *S), C for pixels that are not one-hot."""
    return torch.where(one_hot.sum(1) == 1, one_hot.long().argmax(1), one_hot.shape[1])


def _with_one_ignored(target: Tensor, ignored: Sequence[int], *, hard: bool) -> tuple[Tensor, int]:
    """Replace several ignored labels by the first of them."""
    if not hard:
        raise ValueError(
            f"Expected one `ignore_index` for probabilities, but got {ignored}. Leave pixels out "
            "with `valid`."
        )
    labels = target.long()  # uint8 cannot hold -1
    among = torch.isin(labels, torch.tensor(ignored, device=labels.device))
    return torch.where(among, ignored[0], labels), ignored[0]


def to_probs(
    target: Tensor | Target, *, num_classes: int, ignore_index: int | None = None
) -> tuple[Tensor, Tensor]:
    """Convert any target to probabilities, for use in another loss or for plotting.

    Args:
        target: A `Target`, class indices (N, *S) or probabilities (N, C, *S). A `TeacherTarget`
            without a size is returned at the resolution of its logits. Indices (N, 1, H, W) are
            those of a volume of depth 1: use `squeeze(1)` for images.
        num_classes: C; for a single class the probabilities are those of label 1.
        ignore_index: Label of ignored pixels; a `Target` with its own `ignore_index` keeps it.

    Returns:
        probs: float32 (N, C, *S), in [0, 1], 0 where not valid.
        valid: bool (N, *S), False for ignored pixels.

    Raises:
        TypeError: `target` is neither a tensor nor a `Target`.
        ValueError: The number of classes is another, or single classes of a pixel are ignored.

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
            "Expected all classes of a pixel of `target` to be ignored together, but single ones "
            "are ignored. Pass it to the loss as it is, with activation='sigmoid'."
        )
    return found.y.where(found.valid, 0.0), found.valid[:, 0]


def _mismatch(
    target: Tensor, logits_shape: tuple[int, ...], shape: tuple[int, ...], *, hard: bool
) -> str:
    """Return the error message for a wrong shape, with the most likely solution."""
    got = tuple(target.shape)
    message = (
        f"Expected `target` to have shape (N, *S) = {shape} (integer) or (N, C, *S) = "
        f"{logits_shape} (floating), matching the logits, but got {got} of {target.dtype}."
    )
    if not hard and got in (shape, (shape[0], 1, *shape[1:])):
        return f"{message} Use target.long()."
    return f"{message} Resize the target to the logits, or the logits to the target."
