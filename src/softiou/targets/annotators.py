"""Targets from several annotators: the share of the votes that each class received.

Shapes: N images, R annotators (raters), C classes, *S space (H, W for pictures).
"""

import torch
from torch import Tensor


def vote_shares(
    masks: Tensor, *, num_classes: int, ignore_index: int | None
) -> tuple[Tensor, Tensor]:
    """Average the index maps of several annotators into probabilities.

    Annotators who ignored a pixel do not vote on it; a pixel that all of them ignored is not valid.

        probs[n, c, s] = #{r : masks[n, r, s] = c} / #{r : masks[n, r, s] != ignore_index}

    Args:
        masks: Class indices (N, R, *S) of any integer dtype; values outside 0..C-1 and
            `ignore_index` are the caller's mistake and are not looked for.
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
    masks = masks.long()
    judged = torch.ones_like(masks, dtype=torch.bool)
    if ignore_index is not None:
        judged = masks != ignore_index
    votes = torch.zeros(masks.shape[0], num_classes, *masks.shape[2:], device=masks.device)
    # An ignored entry adds zero votes to class 0, so that every entry can be scattered.
    votes.scatter_add_(1, masks.where(judged, 0), judged.float())  # (N, R, *S) -> (N, C, *S)
    voters = judged.sum(dim=1)
    return votes / voters.clamp(min=1).unsqueeze(1), voters > 0
