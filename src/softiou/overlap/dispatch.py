"""Compute overlap statistics from a prediction and targets: check them, and choose how.

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
    """Compute the overlap statistics of a prediction and a target, per image and class.

    With p = activation(logits), the target y and the weight w of a pixel (0 if it is ignored), they
    are sums over the pixels: P = sum w p, Y = sum w y, D = sum w |p - y|, M = sum w p y,
    T = sum w min(p, y), and the cross-entropy of each class, sum w y (-log p), with a sigmoid also
    sum w (1 - y) (-log(1 - p)).

    Args:
        logits: Scores (N, C, *S) of any floating dtype; probabilities for activation "none". With
            `upsample`, (N, C, h, w) at any stride.
        target: Hard (N, *S) or (N, 1, *S) integers, soft (N, C, *S) floats, one-hot (N, C, *S)
            integers, or any `Target`.
        activation: "softmax" for classes that exclude each other, "sigmoid" for binary (C = 1)
            and multilabel problems, "none" for probabilities.
        ignore_index: Label of ignored pixels, or several for hard labels.
        valid: Bool (N, *S), False for ignored pixels; None uses all pixels.
        weights: Pixel weights (N, *S), floating, at least 0; None for equal weights of 1.
        cross_entropy: Whether to compute the cross-entropy as well.
        label_smoothing: Label smoothing of the cross-entropy over the classes (with a sigmoid, over
            both outcomes), in [0, 1]; the other statistics use the target without it.
        focal_gamma: The terms of the cross-entropy are multiplied by |y - p|^focal_gamma, at least
            0; for hard labels this is the focal loss.
        maxima: Whether to compute the largest prediction and target as well.
        validate: Whether to check the contents of `target` and `weights`; True synchronises with a
            GPU. None checks labels, probabilities and weights on the CPU, where checks are cheap.
        upsample: "bilinear" interpolates logits to the resolution of the target, tile by tile; None
            requires logits at the resolution of the target.
        align_corners: As in `F.interpolate`.
        impl: "torch" (the reference; needs more memory, any order of gradient), "chunked" (tiles,
            any device), "native" (compiled, CPU), "triton" (CUDA), or "auto" for the fastest.
        tile: Pixels per tile; None chooses it by device and number of classes.

    Returns:
        Statistics of shape (N, C) in float32, or in float64 for float64 logits.

    Raises:
        TypeError: A dtype does not match.
        ValueError: A shape does not match, contents were checked and are out of range, or the
            arguments exclude each other: softmax with one class or independent classes,
            cross-entropy of probabilities, or an `impl` that does not support them.

    Note:
        Labels out of range are ignored if they are not checked. Ignored pixels contribute nothing
        and have exactly zero gradient, even if they contain NaN. Half-precision logits are
        processed in float32, and their gradient has their dtype. All implementations except "torch"
        need extra memory for one tile only, and provide a first-order gradient of the logits only;
        "auto" uses "torch" if the target or the weights require a gradient, in forward-mode
        differentiation, and under the transforms of torch.func.

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
    merged: bool = False,
) -> list[OverlapStatistics]:
    """Compute the statistics of one prediction and several targets, with a single softmax.

    Tensors and errors are those of `overlap_statistics`; the result has one entry per target. If
    `settings.validate` is None, `in_full` checks the contents of every kind of target. `merged`
    merges the images, as `OverlapStatistics.merge_images` does, but faster.
    """
    job = _job(logits, targets, settings, valid, weights)
    tensors = job.tensors()
    if settings.validate or (settings.validate is None and in_full and _has_values(job, tensors)):
        job.validate()
        job.validate_prediction()
    _check_devices(logits, tensors)
    K = len(job.targets)
    if _wants_plain(job, tensors):
        sums = operators.without_autocast(plain.gather, job)
    else:
        sums = operators.gather(job, tensors)
    if merged and sums.weight.shape[1] != 1:
        sums = sums.merge_images()
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
    """Whether plain PyTorch is required or requested; raise if another `impl` cannot be used."""
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
    """Whether the tensors have values to check: they are not traced, transformed or meta."""
    return (
        not _is_transformed()
        and not operators.is_traced(job.logits, tensors)
        and job.logits.device.type != "meta"
    )


def _is_transformed() -> bool:
    """Whether a transform of torch.func or forward-mode differentiation is active."""
    return forward_ad._current_level >= 0 or torch._C._are_functorch_transforms_active()


def _job(
    logits: Tensor,
    targets: Sequence[Tensor | Target],
    settings: PassSettings,
    valid: Tensor | None,
    weights: Tensor | None,
) -> Job:
    """Check shapes and dtypes, and convert tensors to targets."""
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
                    f"Logits of size {tuple(logits.shape[2:])} cannot be interpolated to {space}: "
                    "leave out empty images."
                )
            return space
    raise ValueError(
        "upsample='bilinear' needs the size of the images, but this target does not have one. Set "
        "it: targets.teacher(logits, size=(H, W))."
    )


def _check_devices(logits: Tensor, tensors: Sequence[Tensor]) -> None:
    for x in tensors:
        if x.device != logits.device:
            raise ValueError(
                f"Expected target, `valid` and `weights` to be on {logits.device}, as the logits "
                f"are, but got a tensor on {x.device}. Move it there with `.to(logits.device)`."
            )
