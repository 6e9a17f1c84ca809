"""Targets from several annotators: vote shares, and the STAPLE estimate of the true classes.

Shapes: N images, R annotators, C classes, *S space (H, W for images).
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
    """The vote shares of R annotators (N, R, *S), counted tile by tile.

    An annotator may leave pixels unlabelled; a pixel without any vote is ignored.

    Args:
        masks: Class indices (N, R, *S) of any integer dtype.
        ignore_index: Label of pixels that an annotator did not label; None uses that of the loss,
            if it has one.
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
        """Return the vote shares (C, T); with a single class, the share of label 1."""
        votes, voters = _count_votes(
            tile.of_each(self.masks).unsqueeze(0),
            num_classes=max(num_classes, 2),
            ignore_index=self.ignore_index,
            dtype=dtype,
        )
        return SoftTile(votes[0, -num_classes:] / voters[0].clamp(min=1), voters[0] > 0)

    def validate(self, num_classes: int, valid: Tensor | None = None) -> None:
        """Raise a ValueError for labels that are not a class."""
        validate_labels(
            self.masks,
            num_classes=num_classes,
            ignore_index=self.ignore_index,
            valid=None if valid is None else valid.unsqueeze(1),
        )


def vote_shares(
    masks: Tensor, *, num_classes: int, ignore_index: int | None
) -> tuple[Tensor, Tensor]:
    """Average the label maps of several annotators into probabilities.

    An annotator who ignored a pixel does not vote on it; a pixel without votes is not valid.

        probs[n, c, s] = #{r : masks[n, r, s] = c} / #{r : masks[n, r, s] is a class}

    Args:
        masks: Class indices (N, R, *S) of any integer dtype; other values are not votes.
        num_classes: C.
        ignore_index: Label of pixels that an annotator did not label; None if there are none.

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
    """Estimate the true classes and the reliability of the annotators together (STAPLE).

    Annotators who agree with the others get more weight than in `vote_shares`. Expectation
    maximisation (EM) runs for each image separately. With the true class c, the vote m_r(s) of
    annotator r and the estimated probability W of each class:

        W(c | s) = pi_c prod_r theta_r[m_r(s), c] / (sum over c),    r among those who voted on s
        theta_r[k, c] = sum_s W(c | s) [m_r(s) = k] / sum_s W(c | s) [r voted on s]

    pi_c is the share of c among all votes of the image, so a class without votes has probability 0.
    Initially, theta_r[k, c] = 0.99999 [k = c] + 0.00001 pi_k. If several annotators agree on the
    whole image, W of their label is 1 up to rounding; for a single annotator it is 0.99999.

    Args:
        masks: Class indices (N, R, *S) of any integer dtype; other values are not votes.
        num_classes: C, at least 2.
        ignore_index: Label of pixels that an annotator did not label; None if there are none.
        iterations: Maximum number of EM iterations, at least 1.
        tolerance: The iterations stop when no W changes by more than this.

    Returns:
        probs: float32 (N, C, *S), the W; sums to 1 over C where valid and is 0 elsewhere.
        valid: bool (N, *S), True where at least one annotator labelled the pixel.

    Raises:
        TypeError: `masks` is not of an integer dtype.
        ValueError: `masks` has no dimension of annotators, or a setting is out of its range.

    Note:
        EM runs in float64 on the CPU, over the distinct combinations of votes, so apart from
        counting these its time does not depend on the image size. Pixels are treated as
        independent; the random field of the paper is not implemented.

    Example:
        >>> masks = torch.tensor([[[0, 0, 0, 1, 1, 1], [0, 0, 0, 1, 1, 1], [1, 0, 1, 0, 1, 0]]])
        >>> probs, valid = staple(masks, num_classes=2)  # the third annotator is random
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
    """Find the K distinct columns of the votes (R, P).

    Returns the columns (K, R), how often each occurs (K,), and the column of each pixel (P,).
    """
    place = votes.new_zeros(votes.shape[1])
    for row in votes:  # renumber after each row, so that the numbers do not overflow
        place = torch.unique(place * choices + row, return_inverse=True)[1]
    counts = place.bincount()
    patterns = votes.new_empty(len(counts), len(votes))
    patterns[place] = votes.T
    return patterns, counts, place


def _likely_classes(
    patterns: Tensor, counts: Tensor, num_classes: int, iterations: int, tolerance: float
) -> Tensor:
    """Return W (K, C) for vote patterns (K, R) with counts (K,); 0 for patterns without votes."""
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
    """Compute W (K, C), the posterior probability of each class given the votes (E-step)."""
    # A probability of 0 would exclude a class, and could exclude all classes of a pattern.
    logs = theta.clamp(min=torch.finfo(theta.dtype).tiny).log()
    logs = F.pad(logs, (0, 0, 0, 1))  # a missing vote adds 0: (R, C, C) -> (R, C + 1, C)
    scores = pi.log().repeat(len(patterns), 1)  # (K, C)
    for log_theta, votes in zip(logs, patterns.T, strict=True):
        scores += log_theta[votes]
    return scores.softmax(dim=1)


def _maximise(patterns: Tensor, mass: Tensor) -> Tensor:
    """Compute theta (R, C, C), the annotators' confusion matrices, from W * counts (M-step)."""
    num_classes = mass.shape[1]
    theta = mass.new_zeros(patterns.shape[1], num_classes + 1, num_classes)
    for rater, votes in zip(theta, patterns.T, strict=True):
        rater.index_add_(0, votes, mass)
    theta = theta[:, :num_classes]
    return theta / theta.sum(dim=1, keepdim=True).clamp(min=torch.finfo(theta.dtype).tiny)


def _count_votes(
    masks: Tensor, *, num_classes: int, ignore_index: int | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Count the votes for each class (N, C, *S) and the annotators who voted (N, *S)."""
    masks = masks.long()
    voted = valid_labels(masks, num_classes=num_classes, ignore_index=ignore_index)
    shape = (masks.shape[0], num_classes, *masks.shape[2:])
    votes = masks.new_zeros(shape, dtype=dtype)
    # Ignored entries add 0 votes to class 0, because scatter_add_ needs an index for every entry.
    votes.scatter_add_(1, masks.where(voted, 0), voted.to(dtype))  # (N, R, *S) -> (N, C, *S)
    return votes, voted.sum(dim=1)


def _check_masks(masks: Tensor) -> None:
    """Raise unless `masks` has an integer dtype and the shape (N, R, *S)."""
    if _checks.dense_tensor("masks", masks).is_floating_point():
        raise TypeError(
            f"Expected `masks` to have an integer dtype, but got {masks.dtype}. Votes are class "
            "indices; pass probabilities to the loss directly."
        )
    if masks.ndim < 3:
        raise ValueError(
            f"Expected `masks` to have shape (N, R, *S), but got {tuple(masks.shape)}. For one "
            "image, use `masks.unsqueeze(0)`."
        )
