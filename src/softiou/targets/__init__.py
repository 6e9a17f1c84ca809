"""Targets: labels and probabilities of every kind, each in its own compact form."""

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
    """Spread a share epsilon of each label evenly over the classes; see `SmoothedTarget`."""
    return SmoothedTarget(labels, epsilon, ignore_index=ignore_index)


def boundary(
    labels: Tensor,
    epsilon: float = 0.5,
    width: int = 1,
    *,
    ignore_index: int | None = None,
    adaptive: bool = False,
) -> Target:
    """Smooth labels (N, *S) by epsilon within `width` pixels of another class, nowhere else.

    With `adaptive`, objects that are at most 2 `width` pixels thick stay hard; see `boundary_band`.

    Note:
        In the authors' code a pixel whose window holds an ignored one is not smoothed, even at a
        border; here it is: in the row 0 1 [ignored] the 1 keeps 0.75 of two classes, theirs 1.

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
    """Average the labels (N, *S) within `width` pixels, Gaussian-weighted; see `GaussianTarget`."""
    return GaussianTarget(labels, sigma, width, ignore_index)


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
    valid: Tensor | None = None,
) -> Target:
    """Take a teacher's softmax(logits / temperature), interpolated to `size`; see `TeacherTarget`.

    Without `size` that of `valid` is taken (bool (N, *S), True where the teacher's prediction is
    used), or else that of the loss's images. It is required when the student's logits have a low
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
    """Sharpen a target, keep its most probable classes, ignore pixels below a threshold.

    See `ConfidentTarget`.
    """
    return ConfidentTarget(_from_tensor(target), threshold, temperature, keep)


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
