"""Targets: everything that can be known about a pixel, in its own compact form."""

from torch import Tensor

from softiou.targets.annotators import VotesTarget, vote_shares
from softiou.targets.base import Labels, Probs, Target
from softiou.targets.dense import DenseTarget
from softiou.targets.hard import HardTarget
from softiou.targets.mixtures import MixedTarget, RegionTarget
from softiou.targets.smoothing import SmoothedTarget, boundary_band
from softiou.targets.teachers import TeacherTarget
from softiou.targets.top_k import SparseTarget

__all__ = [
    "DenseTarget",
    "HardTarget",
    "Labels",
    "MixedTarget",
    "Probs",
    "RegionTarget",
    "SmoothedTarget",
    "SparseTarget",
    "Target",
    "TeacherTarget",
    "VotesTarget",
    "as_target",
    "boundary",
    "boundary_band",
    "mix",
    "paste",
    "smooth",
    "sparse",
    "teacher",
    "vote_shares",
    "votes",
]


def smooth(labels: Tensor, epsilon: float = 0.1, *, ignore_index: int | None = None) -> Target:
    """Spread a share epsilon of each label evenly over the classes; see `SmoothedTarget`."""
    return SmoothedTarget(labels, epsilon, ignore_index=ignore_index)


def boundary(
    labels: Tensor, epsilon: float = 0.5, width: int = 3, *, ignore_index: int | None = None
) -> Target:
    """Smooth labels (N, *S) by epsilon within `width` pixels of another class, nowhere else.

    References:
        Wang, Ning, Blaschko, Jaccard Metric Losses, NeurIPS 2023, arXiv 2302.05666, "boundary label
        smoothing".
    """
    return SmoothedTarget(labels, epsilon, width=width, ignore_index=ignore_index)


def votes(masks: Tensor, *, ignore_index: int | None = None) -> Target:
    """Take the share of the votes of R annotators (N, R, *S); see `VotesTarget`."""
    return VotesTarget(masks, ignore_index)


def sparse(indices: Tensor, weights: Tensor) -> Target:
    """Take the K most probable classes and their weights (N, K, *S); see `SparseTarget`."""
    return SparseTarget(indices, weights)


def teacher(
    logits: Tensor,
    *,
    size: tuple[int, int] | None = None,
    temperature: float = 1.0,
    align_corners: bool = False,
) -> Target:
    """Take a teacher's softmax(logits / temperature), interpolated to `size`; see `TeacherTarget`.

    Left out, `size` is that of the images that the loss is called with; it has to be named where
    nothing else tells it, with low-resolution logits of the student and no other target.
    """
    size = None if size is None else (size[0], size[1])
    return TeacherTarget(logits.detach(), size, temperature, align_corners)


def mix(*parts: tuple[float, Tensor | Target]) -> Target:
    """Mix targets: pairs of a share and a target, for instance (0.5, masks), (0.5, teacher).

    See `MixedTarget`. For a loss against each of them instead, hand the pairs to the loss as a
    list: the mean of two losses is not the loss of the mean.
    """
    shares = tuple(share for share, _ in parts)
    return MixedTarget(shares, tuple(_from_tensor(part) for _, part in parts))


def paste(inside: Tensor | Target, outside: Tensor | Target, region: Tensor) -> Target:
    """Take `inside` where `region`, bool (N, *S), is True, and `outside` elsewhere (CutMix)."""
    return RegionTarget(_from_tensor(inside), _from_tensor(outside), region)


def _from_tensor(target: Tensor | Target) -> Target:
    if isinstance(target, Target):
        return target
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
        logits_shape: (N, C, *S) of the logits that it belongs to, at the resolution of the target.
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
