"""Targets: everything that can be known about a pixel, in its own compact form."""

from torch import Tensor

from softiou.targets.annotators import vote_shares
from softiou.targets.base import Target
from softiou.targets.dense import DenseTarget
from softiou.targets.hard import HardTarget

__all__ = ["DenseTarget", "HardTarget", "Target", "as_target", "vote_shares"]


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
            classes are independent, or a `Target`, which is only checked.
        logits_shape: (N, C, *S) of the logits that it belongs to.
        ignore_index: Label value whose pixels do not count; a `Target` carries its own.
        independent: True when the classes do not exclude each other (sigmoid).

    Returns:
        The target, with the images and the space of the logits.

    Raises:
        TypeError: `target` is neither tensor nor `Target`.
        ValueError: Shape or dtype do not match the logits.
    """
    num_classes, shape = logits_shape[1], (logits_shape[0], *logits_shape[2:])
    if isinstance(target, Target):
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
        if independent and not hard and ignore_index in (0, 1):
            raise ValueError(
                f"ignore_index={ignore_index} is also a probability of a floating `target`. Leave "
                "pixels out with `valid`, or mark them with another value."
            )
        return DenseTarget(target, ignore_index, independent)
    raise ValueError(_mismatch(target, logits_shape, shape, hard=hard, num_classes=num_classes))


def _mismatch(
    target: Tensor,
    logits_shape: tuple[int, ...],
    shape: tuple[int, ...],
    *,
    hard: bool,
    num_classes: int,
) -> str:
    """Say what is wrong with the shape of a target, and the likely way out."""
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
