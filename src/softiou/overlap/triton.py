"""The pass on a GPU: prepares and launches the kernels of `triton_kernels`.

Shapes: N images, C classes, K targets, *S space, U programs per image.
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

from softiou import targets
from softiou.overlap.job import Job, Sums
from softiou.overlap.triton_kernels import (
    Input,
    Plan,
    gather_sums,
    write_gradient,
    write_low_gradient,
)
from softiou.overlap.triton_targets import Kind, Map, Source, Taps
from softiou.tiles import Bilinear, Tile, whole

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
    """Compute the sums of a job, those of all targets together."""
    if job.logits.numel() == 0 or 0 in job.size:
        return job.empty(job.dtype)
    parts = zip(*map(_gather, _in_parts(job)), strict=True)  # by images
    return Sums._make(None if x[0] is None else torch.cat(x, 1) for x in parts)


def _in_parts(job: Job) -> Iterator[Job]:
    """Yield jobs that the kernels can read: the whole job, or image by image with dense targets."""
    if all(_is_readable(job, target) for target in job.targets):
        yield job
        return
    for tile in whole(job.shape):
        image = slice(tile.image, tile.image + 1)
        made = tuple(_made_dense(job, target, tile) for target in job.targets)
        valid, weights = (None if x is None else x[image] for x in (job.valid, job.weights))
        yield Job(job.logits[image], made, job.size, job.settings, valid, weights)


def _made_dense(job: Job, target: targets.Target, tile: Tile) -> targets.DenseTarget:
    """Return a target of one image as probabilities, with -1 where it is not valid."""
    read = target.read(tile, job.num_classes, job.dtype).dense(job.num_classes, job.dtype)
    if read.valid is None:
        return targets.DenseTarget(read.y.reshape(1, -1, *job.size))
    by_class = read.valid.ndim == 2
    job.check_valid(by_class=by_class)
    y = torch.where(read.valid, read.y, -1.0)
    return targets.DenseTarget(y.reshape(1, -1, *job.size), -1, independent=by_class)


def _gather(job: Job) -> Sums:
    """Launch the kernel that sums, then add the sums of its programs."""
    inputs, plan, _ = _prepare(job)
    N, C, K = job.shape[0], job.num_classes, len(job.targets)
    # About 1000 pixels per program, so that it writes much less than it reads; fewer if otherwise
    # multiprocessors would be idle.
    most = max(4, 1024 // plan.BLOCK_P) if plan.at_once else 1
    steps = max(1, min(most, N * inputs.pixels // (_ENOUGH_PROGRAMS * plan.BLOCK_P)))
    U = triton.cdiv(inputs.pixels, steps * plan.BLOCK_P)
    entropies = 2 if plan.activation == "sigmoid" else 1
    summed = (5 + entropies * plan.cross_entropy) * K
    rows = summed + 2 * K * job.settings.maxima
    sums = job.logits.new_empty((N, U, rows, C), dtype=torch.float32)
    weights = sums.new_empty((N, U, K))
    _launch(gather_sums, N * U, sums, weights, U, steps, inputs, plan)
    # (N, U, rows, C) -> (rows, N, C)
    masses = sums[:, :, :summed].sum(1, dtype=torch.float64).movedim(1, 0).float()
    if summed == 6 * K:  # a softmax has no cross-entropy of negatives
        masses = torch.cat([masses, torch.zeros_like(masses[:K])])
    maxima = sums[:, :, summed:].amax(1).movedim(1, 0) if job.settings.maxima else None
    return Sums(masses, maxima, weights.sum(1, dtype=torch.float64).T.float())


def gradient(job: Job, cotangents: Tensor) -> Tensor:
    """Compute the gradient of the logits, in their dtype and memory layout."""
    result = torch.empty_like(job.logits)
    if result.numel() == 0 or 0 in job.size:
        return result.zero_()
    first = 0
    for part in _in_parts(job):
        images = slice(first, first := first + part.shape[0])
        _write_gradient(part, result[images], cotangents[:, images])
    return result


def _write_gradient(job: Job, result: Tensor, cotangents: Tensor) -> None:
    inputs, plan, where = _prepare(job, result)
    slopes = cotangents.movedim(0, 1).float().contiguous()  # (N, 5 K or 7 K, C)
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
    sources, kinds = zip(*(_describe(target) for target in job.targets), strict=True)
    laid_out = _lay_out(job, sources, result)
    if laid_out is None:
        raise RuntimeError("Expected a job that is supported.")
    (logits, where, valid, weights, *maps), rows, columns = laid_out
    C, settings = job.num_classes, job.settings
    by_entry = settings.activation == "sigmoid"
    kinds = tuple(one._replace(weighs_entries=by_entry or one.by_entry) for one in kinds)
    block_c, block_p, warps = _blocks(C, _registers(job, kinds))
    T = triton.cdiv(C, block_c)
    # The logits, and dense targets, are prefetched into at most 64 KB of shared memory.
    dense = sum(y.values.itemsize for y in job.targets if isinstance(y, targets.DenseTarget))
    tile_bytes = T * block_c * block_p * (job.logits.itemsize + dense)
    plan = Plan(
        C=C,
        T=T,
        BLOCK_C=block_c,
        BLOCK_P=block_p,
        WARPS=warps,
        STAGES=1 + max(1, min(3, 2**16 // tile_bytes)),
        at_once=C <= _MOST_CLASSES_AT_ONCE,
        flat=rows == 1 and not _keeps_rows(job),
        activation=settings.activation,
        kinds=kinds,
        cross_entropy=settings.cross_entropy,
        maxima=settings.maxima,
        smoothing=settings.label_smoothing if settings.cross_entropy else 0.0,
        gamma=settings.focal_gamma if settings.cross_entropy else 0.0,
    )
    taps = None if job.bilinear is None else _taps_on(job.bilinear, job.logits.device)
    left = iter(maps)
    read = tuple(_with_maps(source, left) for source in sources)
    inputs = Input(logits, read, valid, weights, columns, rows * columns, taps)
    return inputs, plan, where


def _registers(job: Job, kinds: Sequence[Kind]) -> int:
    """Estimate the registers of an entry, relative to hard labels with half-precision logits."""
    of_targets = sum(1 if one.name == "labels" else 2 for one in kinds)
    interpolated = job.bilinear is not None and job.logits.dtype == torch.float32
    return of_targets + interpolated + bool(job.settings.focal_gamma)


def _blocks(C: int, registers: int) -> tuple[int, int, int]:
    """Choose the classes and pixels of a tile, and the warps of a program.

    The pass is memory-bound. Tiles of 8 or 32 classes waste less arithmetic on padding than a
    single power of two (19 -> 24, 150 -> 160). All tiles of a pixel together have at most 12
    entries per thread, because each needs ten registers in the forward pass: this allows three
    programs or 16 warps per multiprocessor, almost without spilling. What needs more registers for
    an entry gets fewer entries per thread. Rows of 32 float32 pixels are a cache line of 128 bytes.
    """
    if C > _MOST_CLASSES_AT_ONCE:
        return 32, 32, 4
    power = triton.next_power_of_2
    block_c = min(power(C), max(8, power(triton.cdiv(C, 5))))
    classes = triton.cdiv(C, block_c) * block_c
    block_p = max(32 if classes <= 192 else 16, min(1024, power(1536 // classes + 1) // 2))
    return (
        block_c,
        block_p,
        max(4, min(16, power(triton.cdiv(classes * block_p * registers, 12 * 32)))),
    )


def _launch(kernel: Any, programs: int, *arguments: Any) -> None:
    *_, inputs, plan = arguments
    device = inputs.logits.data.device
    with torch.cuda.device(device if device.type == "cuda" else -1):
        # Explicit, because Triton's default will change.
        kernel[(programs,)](*arguments, num_warps=plan.WARPS, enable_fp_fusion=True)


def _lay_out(
    job: Job, sources: Sequence[Source], result: Tensor | None
) -> tuple[list[Any], int, int] | None:
    """View all maps as rows x columns; None if that is not possible without a copy.

    They are the logits, the result, `valid`, the weights and the tensors of the targets.
    """
    maps = [x for source in sources for x in _tensors(source)]
    tensors = (job.logits, result, job.valid, job.weights, *maps)
    dims = len(job.size)
    if _keeps_rows(job):
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
    seen = [
        None if x is None else _map(x, dims, strides)
        for x, *strides in zip(tensors, rows[1:], columns[1:], strict=True)
    ]
    return seen, rows[0], columns[0]


def _keeps_rows(job: Job) -> bool:
    """Whether kernels need the row and the column of a pixel, to interpolate."""
    return job.bilinear is not None or any(map(_is_interpolated, job.targets))


def _map(x: Tensor, dims: int, strides: Sequence[int]) -> Map:
    of_class = x.stride(1) if x.ndim == dims + 2 else 0
    # A bool is stored as a byte.
    data = x.view(torch.uint8) if x.dtype == torch.bool else x
    return Map(data, (x.stride(0), of_class, *strides))


# Targets


def _describe(target: targets.Target) -> tuple[Source, Kind]:
    """Return the data of a target, and its constants."""
    ignored = getattr(target, "ignore_index", None)
    if isinstance(target, targets.HardTarget):
        return Source(target.labels), Kind("labels", ignore_index=ignored)
    if isinstance(target, targets.SmoothedTarget):
        smoothed = Source(target.labels, target.band, numbers=(float(target.epsilon),))
        return smoothed, Kind("labels", ignore_index=ignored)
    if isinstance(target, targets.DenseTarget):
        values = target.values
        integers = not (values.is_floating_point() or values.dtype == torch.bool)
        by_entry = bool(target.independent) and (integers or ignored is not None)
        return Source(values), Kind("probs", 0, ignored, integers, by_entry)
    if isinstance(target, targets.VotesTarget):
        return Source(target.masks), Kind("votes", target.masks.shape[1], ignored)
    if isinstance(target, targets.SparseTarget):
        unit = 1 / 255 if target.weights.dtype == torch.uint8 else 1.0
        source = Source(target.indices, target.weights, numbers=(unit, target.rounding))
        return source, Kind("sparse", target.indices.shape[1])
    if isinstance(target, targets.TeacherTarget):
        return _describe_teacher(target), Kind("teacher")
    return _describe_parts(target)


def _describe_teacher(target: targets.TeacherTarget) -> Source:
    logits = target.logits.detach()
    if not target.interpolated:
        return Source(logits, target.valid, numbers=(1 / target.temperature,))
    _, H, W = target.shape
    bilinear = Bilinear((logits.shape[2], logits.shape[3]), (H, W), target.align_corners)
    taps, low = _taps_on(bilinear, logits.device), _map(logits, 2, logits.stride()[-2:])
    return Source(low, target.valid, taps, (1 / target.temperature,))


def _describe_parts(target: targets.Target) -> tuple[Source, Kind]:
    region, numbers, name, keep = None, None, "region", None
    if isinstance(target, targets.MixedTarget):
        name, numbers = "mixed", tuple(float(share) for share in target.shares if share)
    elif isinstance(target, targets.RegionTarget):
        region = target.region
    elif isinstance(target, targets.ConfidentTarget):
        name, keep = "confident", target.keep
        numbers = (float(target.threshold), 1 / target.temperature)
    inner, kinds = zip(*map(_describe, _parts_of(target)), strict=True)
    depth = (keep or 0) if name == "confident" else len(kinds)
    return Source(None, region, None, numbers, inner), Kind(name, depth, parts=kinds)


def _parts_of(target: targets.Target) -> tuple[targets.Target, ...]:
    """Return the targets of which a target is made."""
    if isinstance(target, targets.MixedTarget):
        return tuple(y for share, y in zip(target.shares, target.parts, strict=True) if share)
    if isinstance(target, targets.RegionTarget):
        return target.inside, target.outside
    return (target.target,) if isinstance(target, targets.ConfidentTarget) else ()


def _tensors(source: Source) -> list[Tensor]:
    """Return the tensors at the resolution of the image in the data of a target."""
    own: list[Tensor] = [x for x in (source.map, source.extra) if isinstance(x, Tensor)]
    return own + [x for part in source.parts or () for x in _tensors(part)]


def _with_maps(source: Source, maps: Iterator[Map]) -> Source:
    """Replace the tensors of `_tensors` by maps."""
    main, extra = (next(maps) if isinstance(x, Tensor) else x for x in (source.map, source.extra))
    parts = source.parts and tuple(_with_maps(part, maps) for part in source.parts)
    return source._replace(map=main, extra=extra, parts=parts)


def _is_interpolated(target: targets.Target) -> bool:
    if isinstance(target, targets.TeacherTarget):
        return target.interpolated
    return any(map(_is_interpolated, _parts_of(target)))


def _is_readable(job: Job, target: targets.Target, *, inner: bool = False) -> bool:
    """Whether the kernels read a target as it is; others are made dense, one image at a time."""
    C = job.num_classes
    if type(target).__module__.split(".")[0] != "softiou":  # it may read otherwise than its base
        return False
    if isinstance(target, targets.DenseTarget):
        if target.values.shape[1] != C or (inner and target.independent):
            return False
        return not (target.independent and job.settings.activation == "softmax")
    if isinstance(target, (targets.HardTarget, targets.VotesTarget)):
        return True
    if isinstance(target, targets.SmoothedTarget):
        return C > 1 and (target.width is None or target.band is not None)
    if isinstance(target, targets.SparseTarget):
        return C > 1
    if isinstance(target, targets.TeacherTarget):
        return target.logits.shape[1] == C and target.logits.dtype in (*_FLOATS, torch.float64)
    if isinstance(target, targets.ConfidentTarget) and (
        target.independent or C == 1 or target.keep not in (None, 1)
    ):
        return False
    parts = _parts_of(target)
    return bool(parts) and all(_is_readable(job, part, inner=True) for part in parts)


# What is supported


def unsupported_reason(job: Job) -> str | None:
    """Return why this implementation does not support a job; None if it does."""
    if triton is None:
        return "Triton is not installed."
    if job.logits.device.type != "cuda" and isinstance(gather_sums, triton.JITFunction):
        return "The logits are not on a CUDA device."
    if job.logits.dtype not in _FLOATS:
        return f"It computes in float32, but the logits are {job.logits.dtype}."
    if any(x.device != job.logits.device for x in job.tensors()):
        return "Target, valid or weights are not on the device of the logits."
    return _unsupported_size(job)


def _unsupported_size(job: Job) -> str | None:
    most = _MOST_CLASSES if job.bilinear is None else _MOST_CLASSES_AT_ONCE
    if job.num_classes > most:
        return f"It supports up to {most} classes."
    if prod(job.size) > _MOST_PIXELS:
        return f"It supports up to {_MOST_PIXELS} pixels per image."
    if _is_irregular(job):
        return "The tensors cannot be viewed as rows and columns without a copy."
    return None


def _is_irregular(job: Job) -> bool:
    """Whether tensors cannot be viewed as rows and columns."""
    if job.bilinear is not None:
        return False
    if all(_is_readable(job, target) for target in job.targets):
        sources = [_describe(target)[0] for target in job.targets]
    else:  # targets that are made dense are contiguous
        sources = [Source(torch.empty((), device="meta").expand(job.logits.shape))]
    return _lay_out(job, sources, torch.empty_like(job.logits, device="meta")) is None


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
