"""Targets from several annotators: the share of the votes of each class, or the likely truth.

Shapes: N images, R annotators (raters), C classes, *S space (H, W for images).
"""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from softiou import _checks
from softiou.targets.base import SoftTile, Target
from softiou.targets.hard import valid_labels, validate_labels
from softiou.tiles import Tile

# The initial probability that an annotator is right, as in ITK's filter.
_HIT = 0.99999


@dataclass(frozen=True)
class VotesTarget(Target):
    """The share of the votes of R annotators (N, R, *S), counted tile by tile.

    Each annotator may leave pixels out; a pixel without a vote does not count.

    Args:
        masks: Class indices (N, R, *S) of any integer dtype.
        ignore_index: Label of the pixels that an annotator left out; None when none were, or
            for that of the loss.
    """

    masks: Tensor
    ignore_index: int | None = None

    def __post_init__(self) -> None:
        _check_masks(self.masks)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (N, *S)."""
        return (self.masks.shape[0], *self.masks.shape[2:])

    def read(self, tile: Tile, num_classes: int, dtype: torch.dtype) -> SoftTile:
        """Return the shares of the votes (C, T); label 1 is the class when there is only one."""
        votes, voters = _count_votes(
            tile.of_each(self.masks).unsqueeze(0),
            num_classes=max(num_classes, 2),
            ignore_index=self.ignore_index,
            dtype=dtype,
        )
        return SoftTile(votes[0, -num_classes:] / voters[0].clamp(min=1), voters[0] > 0)

    def validate(self, num_classes: int, valid: Tensor | None = None) -> None:
        """Raise on labels that are no class."""
        validate_labels(
            self.masks,
            num_classes=num_classes,
            ignore_index=self.ignore_index,
            valid=None if valid is None else valid.unsqueeze(1),
        )


def vote_shares(
    masks: Tensor, *, num_classes: int, ignore_index: int | None
) -> tuple[Tensor, Tensor]:
    """Average the index maps of several annotators into probabilities.

    Annotators who ignored a pixel do not vote on it; a pixel that all of them ignored is not valid.

        probs[n, c, s] = #{r : masks[n, r, s] = c} / #{r : masks[n, r, s] is a class}

    Args:
        masks: Class indices (N, R, *S) of any integer dtype; a value that is no class is no vote.
        num_classes: C.
        ignore_index: Label value where an annotator left a pixel out; None when none were.

    Returns:
        probs: float32 (N, C, *S), in [0, 1], sums to 1 over C where valid and is 0 elsewhere.
        valid: bool (N, *S), True where at least one annotator labelled the pixel.

    Raises:
        TypeError: `masks` is not of an integer dtype.
        ValueError: `masks` has no dimension of annotators.

    Example:
        >>> masks = torch.tensor([[[0, 1, 255], [1, 1, 255], [255, 1, 255]]])  # (1, 3, 3)
        >>> probs, valid = vote_shares(masks, num_classes=2, ignore_index=255)
        >>> probs.tolist()
        [[[0.5, 0.0, 0.0], [0.5, 1.0, 0.0]]]
        >>> valid.tolist()
        [[True, True, False]]
    """
    _check_masks(masks)
    votes, voters = _count_votes(
        masks, num_classes=num_classes, ignore_index=ignore_index, dtype=torch.float32
    )
    return votes / voters.clamp(min=1).unsqueeze(1), voters > 0


def staple(
    masks: Tensor,
    *,
    num_classes: int,
    ignore_index: int | None = None,
    iterations: int = 100,
    tolerance: float = 1e-6,
) -> tuple[Tensor, Tensor]:
    """Estimate the true class of each pixel and how good each annotator is, from one another.

    Annotators who agree with the others weigh more than in `vote_shares`. By expectation and
    maximisation (EM) for each image on its own, with the true class c, the vote m_r(s) of annotator
    r and the estimate W:

        W(c | s) = pi_c prod_r theta_r[m_r(s), c] / (sum over c),    r among those who voted on s
        theta_r[k, c] = sum_s W(c | s) [m_r(s) = k] / sum_s W(c | s) [r voted on s]

    pi_c is the share of c among all votes of the image, so that a class without a vote has
    probability 0. At first theta_r[k, c] = 0.99999 [k = c] + 0.00001 pi_k.
    Where several annotators agree on all of an image, W of their label is 1 up to rounding; of a
    single annotator it is 0.99999.

    Args:
        masks: Class indices (N, R, *S) of any integer dtype; a value that is no class is no vote.
        num_classes: C, at least 2.
        ignore_index: Label value where an annotator left a pixel out; None when none were.
        iterations: Most rounds of EM, at least 1.
        tolerance: Rounds end when no W moves by more than this.

    Returns:
        probs: float32 (N, C, *S), the W, sums to 1 over C where valid and is 0 elsewhere.
        valid: bool (N, *S), True where at least one annotator labelled the pixel.

    Raises:
        TypeError: `masks` is not of an integer dtype.
        ValueError: `masks` has no dimension of annotators, or a setting is out of its range.

    Note:
        Float64, on the CPU, over the patterns of votes that occur: it takes as long for a large
        image as for a small one, but for counting them. Pixels are independent of one another; the
        random field of the paper is left out.

    Example:
        >>> masks = torch.tensor([[[0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 1], [1, 0, 1, 0, 1, 0]]])
        >>> probs, valid = staple(masks, num_classes=2)  # the third is random
        >>> probs.round(decimals=4).tolist()
        [[[1.0, 1.0, 1.0, 0.0, 0.0, 0.0], [0.0, 0.0, 0.0, 1.0, 1.0, 1.0]]]

    References:
        Warfield, Zou, Wells, Simultaneous Truth and Performance Level Estimation (STAPLE), IEEE
        Transactions on Medical Imaging 23(7), 2004, for several categories.
    """
    _check_masks(masks)
    _checks.in_range("num_classes", num_classes, 2)
    _checks.in_range("iterations", iterations, 1)
    _checks.in_range("tolerance", tolerance, 0.0)
    voted = valid_labels(masks, num_classes=num_classes, ignore_index=ignore_index)
    votes = torch.where(voted, masks.long(), num_classes).flatten(2)  # C: no vote
    shape = (masks.shape[0], num_classes, *masks.shape[2:])
    probs = torch.zeros(shape, device=masks.device)
    for image, cast in enumerate(votes):
        patterns, counts, place = _patterns(cast, num_classes + 1)
        found = _likely_classes(patterns.cpu(), counts.cpu(), num_classes, iterations, tolerance)
        probs[image] = found.to(probs)[place].T.view(shape[1:])
    return probs, voted.any(dim=1)


def _patterns(votes: Tensor, choices: int) -> tuple[Tensor, Tensor, Tensor]:
    """Find the distinct columns of the votes (R, P).

    Returns the K of them (K, R), how often each occurs (K,), and which one each pixel has (P,).
    """
    place = votes.new_zeros(votes.shape[1])
    for row in votes:  # numbered anew after each row, so that the numbers stay small
        place = torch.unique(place * choices + row, return_inverse=True)[1]
    counts = place.bincount()
    patterns = votes.new_empty(len(counts), len(votes))
    patterns[place] = votes.T
    return patterns, counts, place


def _likely_classes(
    patterns: Tensor, counts: Tensor, num_classes: int, iterations: int, tolerance: float
) -> Tensor:
    """Return W (K, C) of the patterns (K, R), which occur so many times each; 0 without votes."""
    total = torch.zeros(len(patterns), num_classes, dtype=torch.float64)
    with_votes = (patterns < num_classes).any(dim=1)
    patterns, counts = patterns[with_votes], counts[with_votes].double()
    every_vote = counts.unsqueeze(1).expand(patterns.shape).flatten()
    cast = torch.zeros(num_classes + 1, dtype=torch.float64)
    cast.index_add_(0, patterns.flatten(), every_vote)
    pi = cast[:num_classes] / cast[:num_classes].sum()
    theta = _HIT * torch.eye(num_classes, dtype=torch.float64) + (1 - _HIT) * pi.unsqueeze(1)
    W = _expect(patterns, pi, theta.expand(patterns.shape[1], -1, -1))
    for _ in range(iterations):
        before, W = W, _expect(patterns, pi, _maximise(patterns, W * counts.unsqueeze(1)))
        if torch.allclose(W, before, rtol=0, atol=tolerance):
            break
    total[with_votes] = W
    return total


def _expect(patterns: Tensor, pi: Tensor, theta: Tensor) -> Tensor:
    """Return W (K, C): how likely each class is after the votes."""
    # Not below the smallest number: a vote that nobody expects may not rule out all classes.
    logs = theta.clamp(min=torch.finfo(theta.dtype).tiny).log()
    logs = F.pad(logs, (0, 0, 0, 1))  # no vote, no evidence: (R, C, C) -> (R, C + 1, C)
    scores = pi.log().repeat(len(patterns), 1)  # (K, C)
    for log_theta, votes in zip(logs, patterns.T, strict=True):
        scores += log_theta[votes]
    return scores.softmax(dim=1)


def _maximise(patterns: Tensor, mass: Tensor) -> Tensor:
    """Return theta (R, C, C), each annotator's confusion, for classes of this mass (K, C)."""
    num_classes = mass.shape[1]
    theta = mass.new_zeros(patterns.shape[1], num_classes + 1, num_classes)
    for rater, votes in zip(theta, patterns.T, strict=True):
        rater.index_add_(0, votes, mass)
    theta = theta[:, :num_classes]
    return theta / theta.sum(dim=1, keepdim=True).clamp(min=torch.finfo(theta.dtype).tiny)


def _count_votes(
    masks: Tensor, *, num_classes: int, ignore_index: int | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Count the votes for each class (N, C, *S), and who voted at all (N, *S)."""
    masks = masks.long()
    voted = valid_labels(masks, num_classes=num_classes, ignore_index=ignore_index)
    shape = (masks.shape[0], num_classes, *masks.shape[2:])
    votes = torch.zeros(shape, dtype=dtype, device=masks.device)
    # An ignored entry adds zero votes to class 0, so that every entry can be scattered.
    votes.scatter_add_(1, masks.where(voted, 0), voted.to(dtype))  # (N, R, *S) -> (N, C, *S)
    return votes, voted.sum(dim=1)


def _check_masks(masks: Tensor) -> None:
    """Raise unless these are class indices (N, R, *S)."""
    if _checks.dense_tensor("masks", masks).is_floating_point():
        raise TypeError(
            f"Expected `masks` to have an integer dtype, but got {masks.dtype}. Votes are class "
            "indices; probabilities are a target already."
        )
    if masks.ndim < 3:
        raise ValueError(
            f"Expected `masks` to have shape (N, R, *S), but got {tuple(masks.shape)}. A single "
            "image needs `masks.unsqueeze(0)`."
        )
