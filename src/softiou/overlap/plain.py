"""The pass over the pixels in plain PyTorch: the definition that faster ones have to match.

Shapes: N images, C classes, *S space.
"""

import torch
import torch.nn.functional as F
from torch import Tensor

from softiou import _checks
from softiou.overlap.statistics import OverlapStatistics
from softiou.targets import Target, as_target

ACTIVATIONS = ("softmax", "sigmoid", "none")


def overlap_statistics(
    logits: Tensor,
    target: Tensor | Target,
    *,
    activation: str = "softmax",
    ignore_index: int | None = None,
    valid: Tensor | None = None,
    weights: Tensor | None = None,
    cross_entropy: bool = False,
    validate: bool = False,
) -> OverlapStatistics:
    """Gather the overlap statistics of a prediction and a target, per image and class.

    With p the activated logits, y the target and w the weight of a pixel (0 where it does not
    count), the statistics are sums over the pixels: P = sum w p, Y = sum w y, D = sum w |p - y|,
    M = sum w p y, and the cross-entropy, for softmax - sum w y log p over pixels and classes, for
    sigmoid - sum w (y log p + (1 - y) log(1 - p)).

    Args:
        logits: Scores (N, C, *S) of any floating dtype; probabilities for activation "none".
        target: Hard (N, *S) integers, soft (N, C, *S) floats, or any `Target`.
        activation: "softmax" for classes that exclude each other, "sigmoid" for binary (C = 1)
            and multilabel problems, "none" for ready probabilities.
        ignore_index: Label value whose pixels do not count.
        valid: Bool (N, *S), True where the pixel counts; None for everywhere.
        weights: Floating (N, *S), at least 0: how much the pixel counts; None for 1.
        cross_entropy: Whether to gather the cross-entropy, too.
        validate: Whether to check the contents of `target` and `weights` (costs a sync).

    Returns:
        Statistics of shape (N, C) in float32, or in float64 for float64 logits.

    Raises:
        TypeError: A dtype does not fit.
        ValueError: A shape does not fit, a softmax over one class or over independent classes is
            asked for, the cross-entropy of ready probabilities is asked for, or, under `validate`,
            contents are out of range.

    Note:
        Labels outside the classes do not count unless `validate` raises on them. Pixels that do not
        count contribute nothing and get exactly zero gradient, whatever they hold, NaN included.

    Example:
        >>> probs = torch.tensor([[[0.75, 0.5], [0.25, 0.5]]])
        >>> overlap_statistics(probs, torch.tensor([[0, 1]]), activation="none").D
        tensor([[0.7500, 0.7500]])
    """
    _checks.one_of("activation", activation, ACTIVATIONS)
    shape = _checks.spatial_shape(logits, activation=activation)
    valid = _checks.pixel_map("valid", valid, shape, boolean=True)
    weights = _checks.pixel_map("weights", weights, shape, boolean=False)
    if cross_entropy and activation == "none":
        raise ValueError(
            "The cross-entropy needs logits: the logarithm of a ready probability is inexact. Hand "
            "over logits, or leave the cross-entropy out."
        )
    target = as_target(
        target,
        logits_shape=tuple(logits.shape),
        ignore_index=ignore_index,
        independent=activation == "sigmoid" or logits.shape[1] == 1,
    )
    num_classes = logits.shape[1]
    if validate:
        target.validate(num_classes, valid)
        if weights is not None and not bool((weights >= 0).all() & weights.isfinite().all()):
            raise ValueError("Expected `weights` to be finite and at least 0 everywhere.")

    dtype = torch.promote_types(logits.dtype, torch.float32)
    with torch.autocast(logits.device.type, enabled=False):
        logits, y = logits.to(dtype), target.probs(num_classes, dtype)
        w = _pixel_weights(target.valid(num_classes), valid, weights, dtype)
        if w is not None:
            if activation == "softmax" and w.shape[1] > 1:
                raise ValueError(
                    "The classes of a softmax are ignored together, but `target` ignores single "
                    "ones: it is for independent classes. Use activation='sigmoid'."
                )
            # Beforehand, not after: 0 * NaN is NaN, in the value and in the gradient.
            counts = w > 0
            logits, y = torch.where(counts, logits, 0.0), torch.where(counts, y, 0.0)
        return _gather(logits, y, w, activation=activation, cross_entropy=cross_entropy)


def _pixel_weights(
    target_valid: Tensor | None,
    valid: Tensor | None,
    weights: Tensor | None,
    dtype: torch.dtype,
) -> Tensor | None:
    """Join all that says how much a pixel counts: (N, 1 or C, *S), None for 1 everywhere."""
    counts = target_valid
    if valid is not None:
        counts = valid.unsqueeze(1) if counts is None else counts & valid.unsqueeze(1)
    if weights is None:
        return None if counts is None else counts.to(dtype)
    w = weights.to(dtype).unsqueeze(1)
    return w if counts is None else torch.where(counts, w, 0.0)


def _gather(
    logits: Tensor, y: Tensor, w: Tensor | None, *, activation: str, cross_entropy: bool
) -> OverlapStatistics:
    """Sum over the space; (N, C, *S) -> (N, C)."""
    p = _activate(logits, activation)
    space = tuple(range(2, p.ndim))

    def total(x: Tensor) -> Tensor:
        return (x if w is None else x * w).sum(space)

    def largest(x: Tensor) -> Tensor:
        x = x.detach() if w is None else torch.where(w > 0, x.detach(), 0.0)
        return x.amax(space) if x.shape[2:].numel() else x.new_zeros(x.shape[:2])

    # The denominator of the cross-entropy counts pixels for softmax, entries for sigmoid.
    by_entry = activation == "sigmoid" or (w is not None and w.shape[1] > 1)
    entries = p if by_entry else p[:, :1]
    counted = torch.ones_like(entries) if w is None else w.expand_as(entries)
    return OverlapStatistics(
        P=total(p),
        Y=total(y),
        D=total((p - y).abs()),
        M=total(p * y),
        p_max=largest(p),
        y_max=largest(y),
        weight=counted.detach().flatten(1).sum(1),
        cross_entropy=(
            total(_cross_entropy(logits, y, activation)).sum(1) if cross_entropy else None
        ),
    )


def _activate(logits: Tensor, activation: str) -> Tensor:
    if activation == "softmax":
        return logits.softmax(1)
    return logits.sigmoid() if activation == "sigmoid" else logits


def _cross_entropy(logits: Tensor, y: Tensor, activation: str) -> Tensor:
    """Return the entries (N, C, *S) whose sum is the cross-entropy."""
    if activation == "softmax":
        # A class that cannot be (logit -inf) costs nothing where it is not there: not 0 * inf.
        return torch.where(y != 0, -y * logits.log_softmax(1), 0.0)
    return F.binary_cross_entropy_with_logits(logits, y, reduction="none")
