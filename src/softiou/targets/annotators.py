"""Targets from several annotators: the share of the votes that each class received.

Shapes: N images, R annotators (raters), C classes, *S space (H, W for pictures).
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from softiou.targets.base import Probs, Target
from softiou.targets.hard import count_labels, validate_labels
from softiou.tiles import Tile


@dataclass(frozen=True)
class VotesTarget(Target):
    """The share of the votes of R annotators (N, R, *S), counted tile by tile.

    Each annotator may leave pixels out; a pixel that nobody judged does not count.

    Args:
        masks: Class indices (N, R, *S) of any integer dtype.
        ignore_index: Label of the pixels that an annotator did not judge; None when all did, or
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

    def read(self, tile: Tile, num_classes: int, dtype: torch.dtype) -> Probs:
        """Return the shares of the votes (C, T); label 1 is the class when there is only one."""
        votes, voters = _count_votes(
            tile.of_each(self.masks).unsqueeze(0),
            num_classes=max(num_classes, 2),
            ignore_index=self.ignore_index,
            dtype=dtype,
        )
        return Probs(votes[0, -num_classes:] / voters[0].clamp(min=1), voters[0] > 0)

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
        ignore_index: Label value of the annotators who did not judge a pixel; None when all did.

    Returns:
        probs: float32 (N, C, *S), in [0, 1], sums to 1 over C where valid and is 0 elsewhere.
        valid: bool (N, *S), True where at least one annotator judged the pixel.

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


def _count_votes(
    masks: Tensor, *, num_classes: int, ignore_index: int | None, dtype: torch.dtype
) -> tuple[Tensor, Tensor]:
    """Count the votes for each class (N, C, *S), and who voted at all (N, *S)."""
    masks = masks.long()
    judged = count_labels(masks, num_classes=num_classes, ignore_index=ignore_index)
    shape = (masks.shape[0], num_classes, *masks.shape[2:])
    votes = torch.zeros(shape, dtype=dtype, device=masks.device)
    # An ignored entry adds zero votes to class 0, so that every entry can be scattered.
    votes.scatter_add_(1, masks.where(judged, 0), judged.to(dtype))  # (N, R, *S) -> (N, C, *S)
    return votes, judged.sum(dim=1)


def _check_masks(masks: Tensor) -> None:
    """Raise unless these are class indices (N, R, *S)."""
    if masks.is_floating_point() or masks.is_complex():
        raise TypeError(
            f"Expected `masks` to have an integer dtype, but got {masks.dtype}. Votes are class "
            "indices; probabilities are a target already."
        )
    if masks.ndim < 3:
        raise ValueError(
            f"Expected `masks` to have shape (N, R, *S), but got {tuple(masks.shape)}. A single "
            "image needs `masks.unsqueeze(0)`."
        )
