"""One door over the implementations of the pass: checks, the choice of one, statistics.

Shapes: N images, C classes, *S space.
"""

from collections.abc import Sequence

import torch
from torch import Tensor

from softiou import _checks
from softiou.overlap import operators, plain
from softiou.overlap.job import Job, Sums
from softiou.overlap.operators import IMPLEMENTATIONS
from softiou.overlap.statistics import OverlapStatistics
from softiou.targets import Target, as_target
from softiou.targets.base import space_of, tensors_of

ACTIVATIONS = ("softmax", "sigmoid", "none")
IMPLS = ("auto", "torch", *IMPLEMENTATIONS)
UPSAMPLES = (None, "bilinear")


def overlap_statistics(
    logits: Tensor,
    target: Tensor | Target,
    *,
    activation: str = "softmax",
    ignore_index: int | None = None,
    valid: Tensor | None = None,
    weights: Tensor | None = None,
    cross_entropy: bool = False,
    maxima: bool = False,
    validate: bool = False,
    upsample: str | None = None,
    align_corners: bool = False,
    impl: str = "auto",
    tile: int | None = None,
) -> OverlapStatistics:
    """Gather the overlap statistics of a prediction and a target, per image and class.

    With p the activated logits, y the target and w the weight of a pixel (0 where it does not
    count), the statistics are sums over the pixels: P = sum w p, Y = sum w y, D = sum w |p - y|,
    M = sum w p y, and the cross-entropy, for softmax - sum w y log p over pixels and classes, for
    sigmoid - sum w (y log p + (1 - y) log(1 - p)).

    Args:
        logits: Scores (N, C, *S) of any floating dtype; probabilities for activation "none". With
            `upsample`, (N, C, h, w) at any stride.
        target: Hard (N, *S) integers, soft (N, C, *S) floats, or any `Target`.
        activation: "softmax" for classes that exclude each other, "sigmoid" for binary (C = 1)
            and multilabel problems, "none" for ready probabilities.
        ignore_index: Label value whose pixels do not count.
        valid: Bool (N, *S), True where the pixel counts; None for everywhere.
        weights: Floating (N, *S), at least 0: how much the pixel counts; None for 1.
        cross_entropy: Whether to gather the cross-entropy, too.
        maxima: Whether to gather the largest prediction and target, too.
        validate: Whether to check the contents of `target` and `weights` (costs a sync).
        upsample: "bilinear" reads logits of another resolution than the target's through bilinear
            interpolation, tile by tile; None wants them at the resolution of the target.
        align_corners: As in `F.interpolate`.
        impl: "torch" (the definition; large, any order of gradient), "chunked" (tiles, any device),
            "native" (compiled tiles on the CPU), "triton" (CUDA), or "auto" for the fastest.
        tile: Pixels of a tile; None for a choice by device and classes.

    Returns:
        Statistics of shape (N, C) in float32, or in float64 for float64 logits.

    Raises:
        TypeError: A dtype does not fit.
        ValueError: A shape does not fit, a softmax over one class or over independent classes is
            asked for, the cross-entropy of ready probabilities is asked for, `impl` cannot do it,
            or, under `validate`, contents are out of range.

    Note:
        Labels outside the classes do not count unless `validate` raises on them. Pixels that do not
        count contribute nothing and get exactly zero gradient, whatever they hold, NaN included.
        Arithmetic is float32 for half-precision logits, and the gradient comes in their dtype. All
        but "torch" need extra memory for a tile, and have a gradient of first order that reaches
        the logits alone; "auto" takes "torch" when the target or the weights want a gradient.

    Example:
        >>> import torch
        >>> probs = torch.tensor([[[0.75, 0.5], [0.25, 0.5]]])
        >>> overlap_statistics(probs, torch.tensor([[0, 1]]), activation="none").D
        tensor([[0.7500, 0.7500]])
    """
    (statistics,) = gather_statistics(
        logits,
        [target],
        activation=activation,
        ignore_index=ignore_index,
        valid=valid,
        weights=weights,
        cross_entropy=cross_entropy,
        maxima=maxima,
        validate=validate,
        upsample=upsample,
        align_corners=align_corners,
        impl=impl,
        tile=tile,
    )
    return statistics


def gather_statistics(
    logits: Tensor,
    targets: Sequence[Tensor | Target],
    *,
    activation: str = "softmax",
    ignore_index: int | None = None,
    valid: Tensor | None = None,
    weights: Tensor | None = None,
    cross_entropy: bool = False,
    maxima: bool = False,
    validate: bool = False,
    upsample: str | None = None,
    align_corners: bool = False,
    impl: str = "auto",
    tile: int | None = None,
) -> list[OverlapStatistics]:
    """Gather the statistics of one prediction and several targets, with one softmax for all.

    Arguments and errors as in `overlap_statistics`; the result has one entry for each target.
    """
    _checks.one_of("activation", activation, ACTIVATIONS)
    _checks.one_of("impl", impl, IMPLS)
    _checks.one_of("upsample", upsample, UPSAMPLES)
    shape = _checks.spatial_shape(logits, activation=activation)
    if upsample is not None:
        shape = (shape[0], *_size_of(logits, [*targets, valid, weights]))
    valid = _checks.pixel_map("valid", valid, shape, boolean=True)
    weights = _checks.pixel_map("weights", weights, shape, boolean=False)
    if tile is not None:
        _checks.in_range("tile", tile, 1)
    if cross_entropy and activation == "none":
        raise ValueError(
            "The cross-entropy needs logits: the logarithm of a ready probability is inexact. Hand "
            "over logits, or leave the cross-entropy out."
        )
    num_classes = logits.shape[1]
    ready = tuple(
        as_target(
            target,
            logits_shape=(shape[0], num_classes, *shape[1:]),
            ignore_index=ignore_index,
            independent=activation == "sigmoid" or num_classes == 1,
        )
        for target in targets
    )
    if validate:
        for target in ready:
            target.validate(num_classes, valid)
        if weights is not None and not bool((weights >= 0).all() & weights.isfinite().all()):
            raise ValueError("Expected `weights` to be finite and at least 0 everywhere.")
    job = Job(
        logits,
        ready,
        shape[1:],
        valid=valid,
        weights=weights,
        activation=activation,
        align_corners=align_corners,
        cross_entropy=cross_entropy,
        maxima=maxima,
        tile=tile,
    )
    sums = _gather(job, impl)
    return [_statistics(job, sums, k) for k in range(len(ready))]


def _size_of(logits: Tensor, given: Sequence[Tensor | Target | None]) -> tuple[int, ...]:
    """Return the space (H, W) of the images that low-resolution logits are interpolated to."""
    if logits.ndim != 4:
        raise ValueError(
            "upsample='bilinear' is for pictures: expected `logits` of shape (N, C, h, w), but got "
            f"{tuple(logits.shape)}."
        )
    for one in given:
        space = space_of(one) if isinstance(one, Target) else None
        if isinstance(one, Tensor):
            space = tuple(one.shape[-2:])
        if space is not None:
            if 0 in (*space, *logits.shape[2:]):
                raise ValueError(
                    f"Nothing can be interpolated from {tuple(logits.shape[2:])} to {space}: leave "
                    "empty images out."
                )
            return space
    raise ValueError(
        "upsample='bilinear' needs to know the size of the images, and a teacher's logits may be "
        "at any stride: name it, targets.teacher(logits, size=(H, W))."
    )


def _gather(job: Job, impl: str) -> Sums:
    known = [x for target in job.targets for x in tensors_of(target)]
    known += [x for x in (job.valid, job.weights) if x is not None]
    wants_gradient = torch.is_grad_enabled() and any(x.requires_grad for x in known)
    device = job.logits.device
    for x in known:
        if x.device != device:
            raise ValueError(
                f"Expected target, `valid` and `weights` to be on {device}, as the logits are, but "
                f"got a tensor on {x.device}. Move it there with `.to(logits.device)`."
            )
    if impl == "torch" or (impl == "auto" and wants_gradient):
        return plain.gather(job)
    if wants_gradient:
        raise ValueError(
            f"impl={impl!r} has no gradient with respect to the target or the weights: detach "
            "them, or use 'torch'."
        )
    return operators.gather(job, impl)


def _statistics(job: Job, sums: Sums, k: int) -> OverlapStatistics:
    P, Y, D, M = sums.masses[:, k]
    p_max, y_max = sums.maxima[:, k] if job.maxima else (None, None)
    weight, cross_entropy = sums.totals[:, k]
    return OverlapStatistics(
        P=P,
        Y=Y,
        D=D,
        M=M,
        weight=weight.detach(),
        p_max=None if p_max is None else p_max.detach(),
        y_max=None if y_max is None else y_max.detach(),
        cross_entropy=cross_entropy if job.cross_entropy else None,
    )
