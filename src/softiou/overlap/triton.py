"""The pass on a GPU: prepares and launches the kernels of `triton_kernels`.

Shapes: N images, C classes, *S space, U programs per image.
"""
# mypy: disable-error-code="import-untyped"

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Iterator, Sequence
from functools import lru_cache
from math import prod
from typing import Any

import torch
from torch import Tensor

from softiou.overlap.job import Job, Sums
from softiou.overlap.triton_kernels import (
    Input,
    Map,
    Plan,
    Taps,
    gather_sums,
    write_gradient,
    write_low_gradient,
)
from softiou.targets import DenseTarget, HardTarget, Target
from softiou.tiles import Bilinear, whole

try:
    import triton
except ImportError:  # `unsupported_reason` reports it
    triton = None

_FLOATS = (torch.float32, torch.bfloat16, torch.float16)
_MOST_CLASSES_AT_ONCE, _MOST_CLASSES, _MOST_PIXELS = 256, 1024, 2**31 - 2**16
_ENOUGH_PROGRAMS = 512  # enough to use all multiprocessors of a large GPU


def is_installed() -> bool:
    """Return whether Triton is installed."""
    return triton is not None


def gather(job: Job) -> Sums:
    """Compute the sums of a job, one target after the other."""
    if job.logits.numel() == 0 or 0 in job.size:
        return job.empty(job.dtype)
    sums = []
    for target in job.targets:
        parts = zip(*map(_gather, _in_parts(job, target)), strict=True)  # by images
        sums.append(Sums._make(None if x[0] is None else torch.cat(x, 1) for x in parts))
    return sums[0] if len(sums) == 1 else Sums.of_targets(sums)


def _in_parts(job: Job, target: Target) -> Iterator[Job]:
    """Yield jobs with a target that the kernels can read; others are made dense by image."""
    if isinstance(target, (HardTarget, DenseTarget)) and _unsupported_target(job, target) is None:
        yield _single(job, target, slice(None), job.valid)
        return
    C = job.num_classes
    for tile in whole(job.shape):
        read = target.read(tile, C, job.dtype).dense(C, job.dtype)
        image = slice(tile.image, tile.image + 1)
        valid = None if job.valid is None else job.valid[image]
        values, counts = read.y.reshape(1, C, *job.size), read.valid
        if counts is not None and counts.ndim == 2:  # class by class
            job.check_valid(by_class=True)
            values = torch.where(counts.view_as(values), values, -1.0)
            yield _single(job, DenseTarget(values, -1, independent=True), image, valid)
            continue
        if counts is not None:
            counts = counts.view(1, *job.size)
            valid = counts if valid is None else counts & valid
        yield _single(job, DenseTarget(values), image, valid)


def _single(job: Job, target: Target, images: slice, valid: Tensor | None) -> Job:
    weights = None if job.weights is None else job.weights[images]
    return Job(job.logits[images], (target,), job.size, job.settings, valid, weights)


def _gather(job: Job) -> Sums:
    """Compute the sums of one target: launch the kernel, then add the sums of its programs."""
    inputs, plan, _ = _prepare(job)
    N, C = job.shape[0], job.num_classes
    # About 1000 pixels per program, so that it writes much less than it reads; fewer if otherwise
    # multiprocessors would be idle.
    most = max(4, 1024 // plan.BLOCK_P) if plan.at_once else 1
    steps = max(1, min(most, N * inputs.pixels // (_ENOUGH_PROGRAMS * plan.BLOCK_P)))
    U = triton.cdiv(inputs.pixels, steps * plan.BLOCK_P)
    entropies = 2 if plan.sigmoid else 1
    summed = 5 + entropies * plan.cross_entropy
    rows = summed + 2 * job.settings.maxima
    sums = job.logits.new_empty((N, U, rows, C), dtype=torch.float32)
    weights = sums.new_empty((N, U))
    _launch(gather_sums, N * U, sums, weights, U, steps, inputs, plan)
    # (N, U, rows, C) -> (rows, N, C)
    masses = sums[:, :, :summed].sum(1, dtype=torch.float64).movedim(1, 0).float()
    if summed == 6:  # a softmax has no cross-entropy of negatives
        masses = torch.cat([masses, torch.zeros_like(masses[:1])])
    maxima = sums[:, :, summed:].amax(1).movedim(1, 0) if job.settings.maxima else None
    return Sums(masses, maxima, weights.sum(1, dtype=torch.float64).unsqueeze(0).float())


def gradient(job: Job, cotangents: Tensor) -> Tensor:
    """Compute the gradient of the logits, in their dtype and memory layout."""
    result = torch.empty_like(job.logits)
    if result.numel() == 0 or 0 in job.size:
        return result.zero_()
    K, total = len(job.targets), None
    for k, target in enumerate(job.targets):
        # The gradients of several targets are added in float32.
        own = result if K == 1 else torch.empty_like(job.logits, dtype=torch.float32)
        first = 0
        for part in _in_parts(job, target):
            images = slice(first, first := first + part.shape[0])
            _write_gradient(part, own[images], cotangents[k::K, images])
        total = own if total is None else total.add_(own)
    return result if K == 1 or total is None else result.copy_(total)


def _write_gradient(job: Job, result: Tensor, cotangents: Tensor) -> None:
    """Write the gradient of one target."""
    inputs, plan, where = _prepare(job, result)
    slopes = cotangents.movedim(0, 1).float().contiguous()  # (N, 5 or 7, C)
    if job.bilinear is None:
        U = triton.cdiv(inputs.pixels, plan.BLOCK_P)
        _launch(write_gradient, job.shape[0] * U, where, slopes, U, inputs, plan)
        return
    (h, w), (down, across) = job.bilinear.source, _most_readers(job.bilinear)
    U = triton.cdiv(h * w, plan.BLOCK_P)
    steps = down * across
    _launch(write_low_gradient, job.shape[0] * U, where, slopes, U, steps, across, inputs, plan)


# Preparing a launch


def _prepare(job: Job, result: Tensor | None = None) -> tuple[Input, Plan, Map | None]:
    """Return the kernel arguments of a job and of the gradient `result`."""
    laid_out = _lay_out(job, result)
    if laid_out is None:
        raise RuntimeError("Expected a job that is supported.")
    (*maps, where), rows, columns = laid_out
    C, target = job.num_classes, _only_target(job)
    block_c, block_p, warps = _blocks(C)
    T = triton.cdiv(C, block_c)
    # The logits, and a dense target, are prefetched into at most 64 KB of shared memory.
    dense = 0 if isinstance(target, HardTarget) else target.values.itemsize
    tile_bytes = T * block_c * block_p * (job.logits.itemsize + dense)
    plan = Plan(
        C=C,
        T=T,
        BLOCK_C=block_c,
        BLOCK_P=block_p,
        WARPS=warps,
        STAGES=1 + max(1, min(3, 2**16 // tile_bytes)),
        at_once=C <= _MOST_CLASSES_AT_ONCE,
        flat=rows == 1 and job.bilinear is None,
        sigmoid=job.settings.activation == "sigmoid",
        hard=isinstance(target, HardTarget),
        independent=isinstance(target, DenseTarget) and bool(target.independent),
        ignore_index=target.ignore_index,
        cross_entropy=job.settings.cross_entropy,
        maxima=job.settings.maxima,
        smoothing=job.settings.label_smoothing if job.settings.cross_entropy else 0.0,
    )
    logits, values, valid, weights = maps
    taps = None if job.bilinear is None else _taps_on(job.bilinear, job.logits.device)
    inputs = Input(logits, values, valid, weights, columns, rows * columns, taps)
    return inputs, plan, where


def _blocks(C: int) -> tuple[int, int, int]:
    """Choose the classes and pixels of a tile, and the warps of a program.

    The pass is memory-bound. Tiles of 8 or 32 classes waste less arithmetic on padding than a
    single power of two (19 -> 24, 150 -> 160). All tiles of a pixel together have at most 12
    entries per thread, because each needs ten registers in the forward pass: this allows three
    programs or 16 warps per multiprocessor, almost without spilling. Rows of 32 float32 pixels are
    a cache line of 128 bytes.
    """
    if C > _MOST_CLASSES_AT_ONCE:
        return 32, 32, 4
    power = triton.next_power_of_2
    block_c = min(power(C), max(8, power(triton.cdiv(C, 5))))
    classes = triton.cdiv(C, block_c) * block_c
    block_p = max(32 if classes <= 192 else 16, min(1024, power(1536 // classes + 1) // 2))
    return block_c, block_p, max(4, min(16, power(triton.cdiv(classes * block_p, 12 * 32))))


def _launch(kernel: Any, programs: int, *arguments: Any) -> None:
    *_, inputs, plan = arguments
    device = inputs.logits.data.device
    with torch.cuda.device(device if device.type == "cuda" else -1):
        # Explicit, because Triton's default will change.
        kernel[(programs,)](*arguments, num_warps=plan.WARPS, enable_fp_fusion=True)


def _lay_out(job: Job, result: Tensor | None) -> tuple[list[Any], int, int] | None:
    """View all maps as rows x columns; None if that is not possible without a copy."""
    target = _only_target(job)
    values = target.labels if isinstance(target, HardTarget) else target.values
    tensors = (job.logits, values, job.valid, job.weights, result)
    dims = len(job.size)
    if job.bilinear is not None:  # keep rows and columns
        as_they_are = [None if x is None else _map(x, 2, x.stride()[-2:]) for x in tensors]
        return as_they_are, job.size[0], job.size[1]
    steps = [(0,) * dims if x is None else x.stride()[-dims:] for x in tensors]
    axes: list[tuple[int, ...]] = []  # length, and stride in each map
    # In the memory order of the logits, which may differ from the order of the dimensions.
    for length, *inner in sorted(zip(job.size, *steps, strict=True), key=lambda axis: -axis[1]):
        if length > 1 and axes and [step * length for step in inner] == list(axes[-1][1:]):
            axes[-1] = (axes[-1][0] * length, *inner)
        elif length > 1:
            axes.append((length, *inner))
    if len(axes) > 2:
        return None
    rows, columns = [(1, *(0 for _ in tensors))] * (2 - len(axes)) + axes
    maps = [
        None if x is None else _map(x, dims, strides)
        for x, *strides in zip(tensors, rows[1:], columns[1:], strict=True)
    ]
    return maps, rows[0], columns[0]


def _map(x: Tensor, dims: int, strides: Sequence[int]) -> Map:
    of_class = x.stride(1) if x.ndim == dims + 2 else 0
    # A bool is stored as a byte.
    data = x.view(torch.uint8) if x.dtype == torch.bool else x
    return Map(data, (x.stride(0), of_class, *strides))


def _only_target(job: Job) -> HardTarget | DenseTarget:
    (target,) = job.targets
    if isinstance(target, (HardTarget, DenseTarget)):
        return target
    raise RuntimeError("Expected a job that is supported.")


def unsupported_reason(job: Job) -> str | None:
    """Return why this implementation does not support a job; None if it does."""
    if triton is None:
        return "Triton is not installed."
    if job.logits.device.type != "cuda" and isinstance(gather_sums, triton.JITFunction):
        return "The logits are not on a CUDA device."
    if job.logits.dtype not in _FLOATS:
        return f"It computes in float32, but the logits are {job.logits.dtype}."
    if job.settings.activation == "none":
        return "It supports softmax and sigmoid, not activation='none'."
    if job.settings.focal_gamma:
        return "It does not support the focal cross-entropy."
    if any(x.device != job.logits.device for x in job.tensors()):
        return "Target, valid or weights are not on the device of the logits."
    return _unsupported_size(job)


def _unsupported_target(job: Job, target: Target) -> str | None:
    if isinstance(target, HardTarget):
        return None
    if not isinstance(target, DenseTarget):
        return f"It cannot read a {type(target).__name__}."
    if target.values.dtype not in (*_FLOATS, torch.float64):
        return (
            f"It reads floating probabilities, but those of the target are {target.values.dtype}."
        )
    if target.values.shape[1] != job.num_classes:
        return "The target has other classes than the logits."
    if target.independent and job.settings.activation == "softmax":
        return "The classes of the target are independent, but those of a softmax are not."
    return None


def _unsupported_size(job: Job) -> str | None:
    most = _MOST_CLASSES if job.bilinear is None else _MOST_CLASSES_AT_ONCE
    if job.num_classes > most:
        return f"It supports up to {most} classes."
    if prod(job.size) > _MOST_PIXELS:
        return f"It supports up to {_MOST_PIXELS} pixels per image."
    if any(_is_irregular(job, target) for target in job.targets):
        return "The tensors cannot be viewed as rows and columns without a copy."
    return None


def _is_irregular(job: Job, target: Target) -> bool:
    """Whether tensors cannot be viewed as rows and columns; targets made dense always can."""
    if job.bilinear is not None:
        return False
    if _unsupported_target(job, target) is not None:
        target = DenseTarget(torch.empty((), device="meta").expand(job.logits.shape))
    only = Job(job.logits, (target,), job.size, job.settings, job.valid, job.weights)
    return _lay_out(only, torch.empty_like(job.logits, device="meta")) is None


@lru_cache(maxsize=32)
def _taps_on(bilinear: Bilinear, device: torch.device) -> Taps:
    """Copy to a device the taps of each pixel, and the pixels that read each low-resolution row."""
    tables: list[Any] = []
    for taps in bilinear.taps:
        tables += [
            torch.tensor(taps.first, dtype=torch.int32, device=device),
            torch.tensor(taps.share, dtype=torch.float32, device=device),
        ]
    for readers in _readers(bilinear):
        tables += [
            torch.tensor(numbers, dtype=torch.int32, device=device)
            for numbers in zip(*readers, strict=True)
        ]
    h, w = bilinear.source
    return Taps._make([*tables, h, w])


def _readers(bilinear: Bilinear) -> list[list[tuple[int, int]]]:
    """Return, for each low-resolution row and column, the range of pixels that read it."""
    return [
        [
            (bisect_left(taps.first, place - 1), bisect_left(taps.first, place + 1))
            for place in range(length)
        ]
        for taps, length in zip(bilinear.taps, bilinear.source, strict=True)
    ]


@lru_cache(maxsize=32)
def _most_readers(bilinear: Bilinear) -> tuple[int, int]:
    rows, columns = (max(last - first for first, last in one) for one in _readers(bilinear))
    return rows, columns
