"""From a prediction and targets to overlap statistics: checks, and the choice of the way there.

Shapes: N images, C classes, *S space, K targets.
"""

from collections.abc import Sequence

import torch
from torch import Tensor
from torch.autograd import forward_ad

from softiou import _checks
from softiou.overlap import operators, plain
from softiou.overlap.job import Job
from softiou.overlap.settings import PassSettings
from softiou.overlap.statistics import OverlapStatistics
from softiou.targets import Target, as_target
from softiou.targets.base import space_of


def overlap_statistics(
    logits: Tensor,
    target: Tensor | Target,
    *,
    activation: str = "softmax",
    ignore_index: int | Sequence[int] | None = None,
    valid: Tensor | None = None,
    weights: Tensor | None = None,
    cross_entropy: bool = False,
    label_smoothing: float = 0.0,
    focal_gamma: float = 0.0,
    maxima: bool = False,
    validate: bool | None = None,
    upsample: str | None = None,
    align_corners: bool = False,
    impl: str = "auto",
    tile: int | None = None,
) -> OverlapStatistics:
    """Gather the overlap statistics of a prediction and a target, per image and class.

    With p the activated logits, y the target and w the weight of a pixel (0 where it does not
    count), the statistics are sums over the pixels: P = sum w p, Y = sum w y, D = sum w |p - y|,
    M = sum w p y, T = sum w min(p, y), and the cross-entropy of each class, sum w y (-log p), under
    a sigmoid also sum w (1 - y) (-log(1 - p)).

    Args:
        logits: Scores (N, C, *S) of any floating dtype; probabilities for activation "none". With
            `upsample`, (N, C, h, w) at any stride.
        target: Hard (N, *S) or (N, 1, *S) integers, soft (N, C, *S) floats, one-hot (N, C, *S)
            integers, or any `Target`.
        activation: "softmax" for classes that exclude each other, "sigmoid" for binary (C = 1)
            and multilabel problems, "none" for probabilities.
        ignore_index: Label value whose pixels do not count, or several of them for labels.
        valid: Bool (N, *S), True where the pixel counts; None for everywhere.
        weights: Floating (N, *S), at least 0: how much the pixel counts; None for 1.
        cross_entropy: Whether to gather the cross-entropy, too.
        label_smoothing: Share of the target that the cross-entropy spreads evenly over the classes
            (over both outcomes of a sigmoid), in [0, 1]; the other statistics see the target.
        focal_gamma: Exponent of |y - p|, by which the terms of the cross-entropy are multiplied, at
            least 0: for hard labels the focal loss.
        maxima: Whether to gather the largest prediction and target, too.
        validate: Whether to check the contents of `target` and `weights`; True costs a sync. None
            checks labels, probabilities and weights on the CPU, where it costs next to nothing.
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
            asked for, the cross-entropy of probabilities is asked for, `impl` cannot do it,
            or contents are out of range and were checked.

    Note:
        Labels outside the classes do not count where they are not checked. Pixels that do not
        count contribute nothing and get exactly zero gradient, even where they hold NaN.
        Arithmetic is float32 for half-precision logits, and the gradient comes in their dtype. All
        but "torch" need extra memory for a tile, and have a gradient of first order that reaches
        the logits alone; "auto" takes "torch" when the target or the weights want a gradient, in
        forward mode and under the transforms of torch.func.

    Example:
        >>> import torch
        >>> probs = torch.tensor([[[0.75, 0.5], [0.25, 0.5]]])
        >>> overlap_statistics(probs, torch.tensor([[0, 1]]), activation="none").D
        tensor([[0.7500, 0.7500]])
    """
    settings = PassSettings(
        activation=activation,
        ignore_index=ignore_index,
        cross_entropy=cross_entropy,
        maxima=maxima,
        validate=validate,
        upsample=upsample,
        align_corners=align_corners,
        impl=impl,
        tile=tile,
        label_smoothing=label_smoothing,
        focal_gamma=focal_gamma,
    )
    return gather_statistics(logits, [target], settings, valid=valid, weights=weights)[0]


def gather_statistics(
    logits: Tensor,
    targets: Sequence[Tensor | Target],
    settings: PassSettings,
    *,
    valid: Tensor | None = None,
    weights: Tensor | None = None,
    in_full: bool = False,
) -> list[OverlapStatistics]:
    """Gather the statistics of one prediction and several targets, with one softmax for all.

    Tensors and errors as in `overlap_statistics`; the result has one entry for each target. Where
    the settings leave it open, `in_full` checks the contents of every kind of target.
    """
    job = _job(logits, targets, settings, valid, weights)
    tensors = job.tensors()
    if settings.validate or (settings.validate is None and in_full and _has_values(job, tensors)):
        job.validate()
    _check_devices(logits, tensors)
    K = len(job.targets)
    if _wants_plain(job, tensors):
        sums = operators.without_autocast(plain.gather, job)
    else:
        sums = operators.gather(job, tensors)
    found = []
    for k in range(K):
        masses = sums.masses if K == 1 else sums.masses[k::K]
        P, Y, D, M, T, *entropy = masses.unbind()
        on, off = entropy or (None, None)
        p_max, y_max = (None, None) if sums.maxima is None else sums.maxima[k::K].unbind()
        off = off if settings.activation == "sigmoid" else None
        found.append(OverlapStatistics(P, Y, D, M, sums.weight[k], p_max, y_max, T, on, off))
    return found


def _wants_plain(job: Job, tensors: Sequence[Tensor]) -> bool:
    """Whether the pass has to be done in plain PyTorch; raise where another was asked for."""
    impl = job.settings.impl
    wants_gradient = any(x.requires_grad for x in tensors) and torch.is_grad_enabled()
    transformed = _is_transformed()
    if impl in ("auto", "torch"):
        plainly = impl == "torch" or wants_gradient or transformed
        on_cpu = job.logits.device.type == "cpu"
        if plainly and on_cpu and job.settings.validate is None and _has_values(job, tensors):
            job.validate(plain_kinds_only=True)
        return plainly
    if transformed:
        raise ValueError(
            f"impl={impl!r} has no derivative in forward mode and does not run under torch.func: "
            "use 'auto' or 'torch'."
        )
    if wants_gradient:
        raise ValueError(
            f"impl={impl!r} has no gradient with respect to the target or the weights: "
            "detach them, or use 'torch'."
        )
    return False


def _has_values(job: Job, tensors: Sequence[Tensor]) -> bool:
    """Whether the numbers can be looked at: nothing is traced, transformed or without memory."""
    return (
        not _is_transformed()
        and not operators.is_traced(job.logits, tensors)
        and job.logits.device.type != "meta"
    )


def _is_transformed() -> bool:
    """Whether a transform of torch.func is at work, or a derivative in forward mode."""
    if torch.compiler.is_compiling():
        return False
    return forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active()


def _job(
    logits: Tensor,
    targets: Sequence[Tensor | Target],
    settings: PassSettings,
    valid: Tensor | None,
    weights: Tensor | None,
) -> Job:
    """Check shapes and dtypes, and read plain tensors as targets."""
    shape = _checks.spatial_shape(logits, activation=settings.activation)
    if settings.upsample is not None:
        shape = (shape[0], *_size_of(logits, [*targets, valid, weights]))
    num_classes, size = logits.shape[1], shape[1:]
    ready = tuple(
        as_target(
            target,
            logits_shape=(shape[0], num_classes, *size),
            ignore_index=settings.ignore_index,
            independent=settings.activation == "sigmoid" or num_classes == 1,
        )
        for target in targets
    )
    valid = _checks.pixel_map("valid", valid, shape, boolean=True)
    weights = _checks.pixel_map("weights", weights, shape, boolean=False)
    return Job(logits, ready, size, settings, valid, weights)


def _size_of(logits: Tensor, given: Sequence[Tensor | Target | None]) -> tuple[int, ...]:
    """Return the size (H, W) of the images that low-resolution logits are interpolated to."""
    if logits.ndim != 4:
        raise ValueError(
            "Expected `logits` of shape (N, C, h, w) with upsample='bilinear', but got "
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
        "upsample='bilinear' needs to know the size of the images, and this target does not have "
        "one. Name it: targets.teacher(logits, size=(H, W))."
    )


def _check_devices(logits: Tensor, tensors: Sequence[Tensor]) -> None:
    for x in tensors:
        if x.device != logits.device:
            raise ValueError(
                f"Expected target, `valid` and `weights` to be on {logits.device}, as the logits "
                f"are, but got a tensor on {x.device}. Move it there with `.to(logits.device)`."
            )
