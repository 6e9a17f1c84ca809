"""Targets of the losses: hard labels, soft labels and teachers, each in a compact form."""

from torch import Tensor

from softiou._moved import moved_names
from softiou.targets.annotators import VotesTarget, staple, vote_shares
from softiou.targets.base import HardTile, SoftTile, Target
from softiou.targets.confidence import ConfidentTarget
from softiou.targets.dense import DenseTarget
from softiou.targets.hard import HardTarget
from softiou.targets.mixtures import MixedTarget, RegionTarget
from softiou.targets.neighbours import GaussianTarget
from softiou.targets.smoothing import SmoothedTarget, boundary_band
from softiou.targets.teachers import TeacherTarget
from softiou.targets.tensors import as_target, to_probs
from softiou.targets.tensors import from_tensor as _from_tensor
from softiou.targets.top_k import SparseTarget

__all__ = [
    "ConfidentTarget",
    "DenseTarget",
    "GaussianTarget",
    "HardTarget",
    "HardTile",
    "MixedTarget",
    "RegionTarget",
    "SmoothedTarget",
    "SoftTile",
    "SparseTarget",
    "Target",
    "TeacherTarget",
    "VotesTarget",
    "as_target",
    "boundary",
    "boundary_band",
    "confident",
    "gaussian",
    "mix",
    "paste",
    "smooth",
    "sparse",
    "staple",
    "teacher",
    "to_probs",
    "vote_shares",
    "votes",
]

__getattr__ = moved_names(__name__, {"softiou.targets": "Labels:HardTile Probs:SoftTile"})


def smooth(labels: Tensor, epsilon: float = 0.1, *, ignore_index: int | None = None) -> Target:
    """Smooth labels (N, *S): spread a share epsilon over all classes; see `SmoothedTarget`."""
    return SmoothedTarget(labels, epsilon, ignore_index=ignore_index)


def boundary(
    labels: Tensor,
    epsilon: float = 0.5,
    width: int = 1,
    *,
    ignore_index: int | None = None,
    adaptive: bool = False,
) -> Target:
    """Smooth labels (N, *S) by epsilon, only within `width` pixels of another class.

    With `adaptive`, objects at most 2 `width` pixels thick are not smoothed; see `boundary_band`.

    Note:
        The authors' code does not smooth a pixel with an ignored pixel in its window; softiou does,
        if it is near another class. In the row 0 1 [ignored], the 1 becomes 0.75; theirs stays 1.

    References:
        Wang, Ning, Blaschko, Jaccard Metric Losses, NeurIPS 2023, arXiv 2302.05666, "boundary label
        smoothing". The authors' configuration has epsilon 0.5 and a window of 3 pixels, which is a
        width of 1.
    """
    return SmoothedTarget(
        labels, epsilon, width=width, ignore_index=ignore_index, adaptive=adaptive
    )


def gaussian(
    labels: Tensor, *, sigma: float = 1.0, width: int = 1, ignore_index: int | None = None
) -> Target:
    """Average the labels (N, *S) with Gaussian weights over a window; see `GaussianTarget`."""
    return GaussianTarget(labels, sigma, width, ignore_index)


def votes(masks: Tensor, *, ignore_index: int | None = None) -> Target:
    """Use the vote shares of R annotators (N, R, *S) as probabilities; see `VotesTarget`."""
    return VotesTarget(masks, ignore_index)


def sparse(indices: Tensor, weights: Tensor) -> Target:
    """Use the K most probable classes and their probabilities (N, K, *S); see `SparseTarget`."""
    return SparseTarget(indices, weights)


def teacher(
    logits: Tensor,
    *,
    size: tuple[int, int] | None = None,
    temperature: float = 1.0,
    align_corners: bool = False,
    valid: Tensor | None = None,
) -> Target:
    """Use a teacher's softmax(logits / temperature), interpolated to `size`; see `TeacherTarget`.

    `valid`, bool (N, *S), is True where the prediction is used. `size` defaults to the size of
    `valid`, or else to that of the loss's images. It is required if the student's logits have a low
    resolution and no other target gives the size.
    """
    space: tuple[int, ...] | None = size if size is None else tuple(size)
    if space is None and valid is not None and valid.ndim == logits.ndim - 1:
        space = tuple(valid.shape[1:])
    return TeacherTarget(logits.detach(), space, temperature, align_corners, valid)


def confident(
    target: Tensor | Target,
    *,
    threshold: float = 0.0,
    temperature: float = 1.0,
    keep: int | None = None,
) -> Target:
    """Ignore uncertain pixels of a target, keep its most probable classes, and sharpen it.

    See `ConfidentTarget`.
    """
    return ConfidentTarget(_from_tensor(target), threshold, temperature, keep)


def mix(*parts: tuple[float, Tensor | Target]) -> Target:
    """Average targets, given as pairs (weight, target), for instance (0.5, masks), (0.5, teacher).

    See `MixedTarget`. To average the losses instead, pass the pairs to the loss as a list: the mean
    of two losses is not the loss of the mean target.
    """
    shares = tuple(share for share, _ in parts)
    return MixedTarget(shares, tuple(_from_tensor(part) for _, part in parts))


def paste(inside: Tensor | Target, outside: Tensor | Target, region: Tensor) -> Target:
    """Use `inside` where `region`, bool (N, *S), is True, and `outside` elsewhere (CutMix)."""
    return RegionTarget(_from_tensor(inside), _from_tensor(outside), region)
