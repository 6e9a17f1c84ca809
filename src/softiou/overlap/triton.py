"""The pass on a GPU: one kernel gathers the sums, another writes the gradient.

A program works on a fixed range of the pixels of one image. With p the activated logits z, y the
target, w the weight of a pixel and P', D', M', E' the gradients of the sums:

    a_c = P'_c + D'_c sign(p_c - y_c) + M'_c y_c
    softmax:  dz_c = w (p_c (a_c - r) - E' y_c)    r = sum_k (p_k a_k - E' y_k)
    sigmoid:  dz_c = w (p_c (1 - p_c) a_c + E' (p_c - y_c))

(r joins two sums of the formula in `chunked`: of p_k a_k, and of y_k.) The classes are cut into T
tiles. Up to 256 classes, the tiles of a pixel stay in registers together; beyond, a program takes
them in turn, several times, and finds them in the cache. Every program writes sums of its own, and
torch adds them up in a fixed order: two runs are equal bit by bit.

Shapes: N images, C classes, *S space, U programs of an image, [BLOCK_C, BLOCK_P] classes and pixels
of a tile.
"""
# What is inside a kernel has the types of Triton, which are not those of Python.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, assignment, misc, import-untyped"

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from softiou.overlap.job import Cotangents, Job, Sums
from softiou.targets import DenseTarget, HardTarget, Target
from softiou.targets.base import tensors_of

try:
    import triton
    import triton.language as tl
except ImportError:  # `refuses` says so
    triton = tl = None

_FLOATS = (torch.float32, torch.bfloat16, torch.float16)
_MOST_CLASSES_AT_ONCE, _MOST_CLASSES, _MOST_PIXELS = 256, 1024, 2**31 - 2**16
_ENOUGH_PROGRAMS = 512  # for all processors of a large GPU


def _jit(function: Callable[..., Any]) -> Any:
    if triton is None:
        return function
    # Not compiled anew for every number of programs.
    return triton.jit(function, do_not_specialize=("programs", "steps"))


class _Map(NamedTuple):
    """A map (N, C, *S) or (N, *S) and its strides: of image, class, row and column."""

    data: Tensor
    strides: tuple[int, ...]


class _Input(NamedTuple):
    """What both kernels read."""

    logits: _Map
    target: _Map
    valid: _Map | None
    weights: _Map | None
    columns: int
    pixels: int


class _Plan(NamedTuple):
    """What a kernel is compiled for."""

    C: int
    T: int
    BLOCK_C: int
    BLOCK_P: int
    WARPS: int
    STAGES: int
    at_once: bool  # all tiles of a pixel in registers
    flat: bool  # the space is one row in all maps
    sigmoid: bool
    hard: bool
    independent: bool  # entries of a dense target are ignored one by one
    ignore_index: int | None
    cross_entropy: bool
    maxima: bool


# What both kernels share


@_jit
def _at(source, image, indices, inputs, plan: tl.constexpr):
    """Point to pixels of a map (N, *S), or of the first class of a map (N, C, *S)."""
    data = source.data + image * source.strides[0]
    if plan.flat:
        return data + indices.to(tl.int64) * source.strides[3]
    rows, columns = indices // inputs.columns, indices % inputs.columns
    return data + rows.to(tl.int64) * source.strides[2] + columns.to(tl.int64) * source.strides[3]


@_jit
def _classes(t, plan: tl.constexpr):
    return (t * plan.BLOCK_C + tl.arange(0, plan.BLOCK_C))[:, None]


@_jit
def _load(first, stride, t, inside, plan: tl.constexpr):
    """Load a tile of a map, 0 where there is no such class or pixel."""
    classes = _classes(t, plan)
    there = (classes < plan.C) & inside[None, :]
    return tl.load(first[None, :] + classes.to(tl.int64) * stride, mask=there, other=0)


@_jit
def _ignored(y, plan: tl.constexpr):
    """Return `ignore_index` in the precision of the target, in which torch compares, too."""
    return tl.full([1, 1], plan.ignore_index, y.dtype)


@_jit
def _pixels(image, indices, inputs, plan: tl.constexpr):
    """Return where logits and target are, which pixels exist, their weight and their label."""
    inside = indices < inputs.pixels
    z_at = _at(inputs.logits, image, indices, inputs, plan)
    y_at = _at(inputs.target, image, indices, inputs, plan)
    counts, label = inside, indices
    if inputs.valid is not None:
        valid_at = _at(inputs.valid, image, indices, inputs, plan)
        counts &= tl.load(valid_at, mask=inside, other=0) != 0
    if plan.hard:
        label = tl.load(y_at, mask=inside, other=0).to(tl.int64)
        counts &= (label >= 0) & (label < plan.C + (plan.C == 1))
        if plan.ignore_index is not None:
            counts &= label != plan.ignore_index
        label = label.to(tl.int32) - (plan.C == 1)  # of one class, label 1 is the class
    elif plan.ignore_index is not None and not plan.independent:
        differs = tl.zeros([plan.BLOCK_P], tl.int32)
        for t in tl.static_range(plan.T):
            y = _load(y_at, inputs.target.strides[1], t, inside, plan)
            entries = (y != _ignored(y, plan)) & (_classes(t, plan) < plan.C)
            differs |= tl.max(entries.to(tl.int32), 0)
        counts &= differs != 0
    w = counts.to(tl.float32)
    if inputs.weights is not None:
        loaded = tl.load(_at(inputs.weights, image, indices, inputs, plan), mask=inside, other=0)
        w = tl.where(counts, loaded.to(tl.float32), 0.0)
    return z_at, y_at, inside, w, label


@_jit
def _tile(pixels, t, inputs, plan: tl.constexpr):
    """Return logits, target and weight of a tile, the first two 0 where nothing counts."""
    z_at, y_at, inside, w, label = pixels
    classes, w = _classes(t, plan), w[None, :]
    z = _load(z_at, inputs.logits.strides[1], t, inside, plan).to(tl.float32)
    if plan.sigmoid:
        w = tl.where(classes < plan.C, w, 0.0)
    if plan.hard:
        y = (classes == label[None, :]).to(tl.float32)
    else:
        loaded = _load(y_at, inputs.target.strides[1], t, inside, plan)
        if plan.independent and plan.ignore_index is not None:
            w = tl.where(loaded == _ignored(loaded, plan), 0.0, w)
        y = loaded.to(tl.float32)
    # Beforehand, not after: 0 * NaN is NaN.
    z, y = tl.where(w > 0, z, 0.0), tl.where(w > 0, y, 0.0)
    if not plan.sigmoid:
        z = tl.where(classes < plan.C, z, float("-inf"))
    return z, y, w


@_jit
def _tiles(pixels, inputs, plan: tl.constexpr):
    """Return all tiles of some pixels, and the norm of a softmax: largest logit and sum."""
    tiles = ()
    for t in tl.static_range(plan.T):
        tiles += (_tile(pixels, t, inputs, plan),)
    largest, total = pixels[3], pixels[3]  # a sigmoid needs neither
    if not plan.sigmoid:
        top = tiles[0][0]
        for t in tl.static_range(1, plan.T):
            top = tl.maximum(top, tiles[t][0])
        largest = tl.max(top, 0)
        exps = tl.exp(tiles[0][0] - largest[None, :])
        for t in tl.static_range(1, plan.T):
            exps += tl.exp(tiles[t][0] - largest[None, :])
        total = tl.sum(exps, 0)
    return tiles, (largest[None, :], total[None, :])


@_jit
def _norm(pixels, inputs, plan: tl.constexpr):
    """Return the norm alone, tile after tile: where the largest logit grows, the sum shrinks."""
    largest = tl.full([plan.BLOCK_P], float("-inf"), tl.float32)
    total = tl.zeros([plan.BLOCK_P], tl.float32)
    if not plan.sigmoid:
        for t in range(plan.T):
            z, _, _ = _tile(pixels, t, inputs, plan)
            top = tl.maximum(largest, tl.max(z, 0))
            finite = tl.where(top == float("-inf"), 0.0, top)
            total = total * tl.exp(largest - finite) + tl.sum(tl.exp(z - finite[None, :]), 0)
            largest = top
    return largest[None, :], total[None, :]


@_jit
def _probs(z, norm, plan: tl.constexpr):
    if plan.sigmoid:
        return 1.0 / (1.0 + tl.exp(-z))
    return tl.exp(z - norm[0]) * (1.0 / norm[1])


# Forward


@_jit
def _cross_entropy(z, y, norm, plan: tl.constexpr):
    if plan.sigmoid:
        # log(1 + u): what the sum loses of a small u is made good by the quotient.
        u = tl.exp(-tl.abs(z))
        more = 1.0 + u
        log = tl.where(more == 1.0, u, tl.log(more) * (u / tl.maximum(more - 1.0, 1e-30)))
        return tl.maximum(z, 0.0) - z * y + log
    # A class that cannot be (logit -inf) costs nothing where it is not there: not 0 * inf.
    return tl.where(y != 0, -y * ((z - norm[0]) - tl.log(norm[1])), 0.0)


@_jit
def _zeros(plan: tl.constexpr):
    """Return empty sums of a tile, P, Y, D, M and perhaps the maxima, and empty totals."""
    zero = tl.zeros([plan.BLOCK_C, plan.BLOCK_P], tl.float32)
    weight = tl.zeros([plan.BLOCK_C if plan.sigmoid else 1, plan.BLOCK_P], tl.float32)
    return (zero,) * (6 if plan.maxima else 4), (weight, zero)


@_jit
def _add(sums, totals, tile, norm, t, plan: tl.constexpr):
    """Add a tile entry by entry: sums across the pixels are dear, and left to the end."""
    z, y, w = tile
    p = _probs(z, norm, plan)
    P, Y, D, M = sums[0], sums[1], sums[2], sums[3]
    added = (P + w * p, Y + w * y, D + w * tl.abs(p - y), M + w * (p * y))
    if plan.maxima:
        p_max = tl.maximum(sums[4], tl.where(w > 0, p, 0.0))
        added += (p_max, tl.maximum(sums[5], y))
    # A sigmoid weighs every entry, a softmax the pixel.
    weight = totals[0] + (w if plan.sigmoid else tl.where(t == 0, w, 0.0))
    entropy = totals[1]
    if plan.cross_entropy:
        entropy += w * _cross_entropy(z, y, norm, plan)
    return added, (weight, entropy)


@_jit
def _store(row, sums, t, plan: tl.constexpr):
    """Write the sums of a tile across its pixels."""
    classes = t * plan.BLOCK_C + tl.arange(0, plan.BLOCK_C)
    for k in tl.static_range(len(sums)):
        across = tl.sum(sums[k], 1) if k < 4 else tl.max(sums[k], 1)
        tl.store(row + k * plan.C + classes, across, mask=classes < plan.C)


@_jit
def _gather(sums_at, totals_at, programs, steps, inputs, plan: tl.constexpr):
    """Write sums (4 or 6, C) and totals (2,) of some blocks of pixels, of one in turn."""
    program = tl.program_id(0).to(tl.int64)
    start = (tl.program_id(0) % programs) * steps * plan.BLOCK_P
    zeros, totals = _zeros(plan)
    row = sums_at + program * (len(zeros) * plan.C)
    if plan.at_once:
        sums = (zeros,) * plan.T
        for step in tl.range(steps, num_stages=plan.STAGES):
            indices = start + step * plan.BLOCK_P + tl.arange(0, plan.BLOCK_P)
            pixels = _pixels(program // programs, indices, inputs, plan)
            tiles, norm = _tiles(pixels, inputs, plan)
            all_added = ()
            for t in tl.static_range(plan.T):
                added, totals = _add(sums[t], totals, tiles[t], norm, t, plan)
                all_added += (added,)
            sums = all_added
        for t in tl.static_range(plan.T):
            _store(row, sums[t], t, plan)
    else:
        indices = start + tl.arange(0, plan.BLOCK_P)
        pixels = _pixels(program // programs, indices, inputs, plan)
        norm = _norm(pixels, inputs, plan)
        for t in range(plan.T):
            added, totals = _add(zeros, totals, _tile(pixels, t, inputs, plan), norm, t, plan)
            _store(row, added, t, plan)
    for k in tl.static_range(2):
        tl.store(totals_at + program * 2 + k, tl.sum(tl.sum(totals[k], 1), 0))


def gather(job: Job) -> Sums:
    """Gather the sums of a job, all programs and then what they wrote."""
    if job.logits.numel() == 0:
        return job.empty(job.dtype)
    inputs, plan, _ = _prepare(job)
    N, C = job.shape[0], job.num_classes
    # About a thousand pixels a program: what it writes is little next to what it reads. Fewer where
    # processors would be idle.
    most = max(4, 1024 // plan.BLOCK_P) if plan.at_once else 1
    steps = max(1, min(most, N * inputs.pixels // (_ENOUGH_PROGRAMS * plan.BLOCK_P)))
    U = triton.cdiv(inputs.pixels, steps * plan.BLOCK_P)
    sums = job.logits.new_empty((N, U, 6 if job.maxima else 4, C), dtype=torch.float32)
    totals = sums.new_empty((N, U, 2))
    _launch(_gather, N * U, sums, totals, U, steps, inputs, plan)
    masses = sums[:, :, :4].sum(1, dtype=torch.float64)
    maxima = sums[:, :, 4:].amax(1) if job.maxima else sums.new_zeros((N, 2, C))
    total = totals.sum(1, dtype=torch.float64)
    # (N, 4 or 2, C) -> (4 or 2, 1, N, C)
    whole = (x.movedim(1, 0).unsqueeze(1).float().contiguous() for x in (masses, maxima, total))
    return Sums(*whole)


# Backward


@_jit
def _probs_and_slopes(tile, norm, slopes_at, t, plan: tl.constexpr):
    """Return p and a of a tile, from P', D' and M' (3, C)."""
    z, y, _ = tile
    p, classes = _probs(z, norm, plan), _classes(t, plan)
    there = classes < plan.C
    of_p = tl.load(slopes_at + classes, mask=there, other=0)
    of_d = tl.load(slopes_at + plan.C + classes, mask=there, other=0)
    of_m = tl.load(slopes_at + 2 * plan.C + classes, mask=there, other=0)
    return p, of_p + tl.where(p > y, of_d, tl.where(p < y, -of_d, 0.0)) + of_m * y


@_jit
def _share(tile, norm, slopes_at, entropy, t, plan: tl.constexpr):
    """Return the entries of a tile whose sum over the classes is r."""
    if plan.sigmoid:
        return tl.zeros([plan.BLOCK_C, plan.BLOCK_P], tl.float32)
    p, a = _probs_and_slopes(tile, norm, slopes_at, t, plan)
    return p * a - entropy * tile[1]


@_jit
def _write(first, stride, inside, tile, norm, slopes_at, entropy, r, t, plan: tl.constexpr):
    """Write dz of a tile."""
    _, y, w = tile
    p, a = _probs_and_slopes(tile, norm, slopes_at, t, plan)
    if plan.sigmoid:
        dz = w * (p * (1.0 - p) * a + entropy * (p - y))
    else:
        dz = w * (p * (a - r) - entropy * y)
    dz, classes = tl.where(w > 0, dz, 0.0), _classes(t, plan)
    pointers, there = first[None, :] + classes.to(tl.int64) * stride, (classes < plan.C) & inside
    tl.store(pointers, dz.to(first.dtype.element_ty), mask=there)


@_jit
def _gradient(result, slopes_at, entropies_at, programs, inputs, plan: tl.constexpr):
    """Write dz of a block of pixels."""
    image = tl.program_id(0).to(tl.int64) // programs
    indices = (tl.program_id(0) % programs) * plan.BLOCK_P + tl.arange(0, plan.BLOCK_P)
    pixels = _pixels(image, indices, inputs, plan)
    first, stride, inside = _at(result, image, indices, inputs, plan), result.strides[1], pixels[2]
    slopes, entropy = slopes_at + image * (3 * plan.C), tl.load(entropies_at + image)
    shares = tl.zeros([plan.BLOCK_C, plan.BLOCK_P], tl.float32)
    if plan.at_once:
        tiles, norm = _tiles(pixels, inputs, plan)
        for t in tl.static_range(plan.T):
            shares += _share(tiles[t], norm, slopes, entropy, t, plan)
        r = tl.sum(shares, 0)[None, :]
        for t in tl.static_range(plan.T):
            _write(first, stride, inside, tiles[t], norm, slopes, entropy, r, t, plan)
    else:
        norm = _norm(pixels, inputs, plan)
        for t in range(plan.T):
            shares += _share(_tile(pixels, t, inputs, plan), norm, slopes, entropy, t, plan)
        r = tl.sum(shares, 0)[None, :]
        for t in range(plan.T):
            tile = _tile(pixels, t, inputs, plan)
            _write(first, stride, inside, tile, norm, slopes, entropy, r, t, plan)


def gradient(job: Job, cotangents: Cotangents) -> Tensor:
    """Compute the gradient of the logits, in their dtype and memory layout."""
    result = torch.empty_like(job.logits)
    if result.numel() == 0:
        return result
    inputs, plan, where = _prepare(job, result)
    slopes = cotangents.masses[[0, 2, 3], 0].movedim(0, 1).float().contiguous()  # (N, 3, C)
    entropies = cotangents.cross_entropy[0].float() * job.cross_entropy
    U = triton.cdiv(inputs.pixels, plan.BLOCK_P)
    _launch(_gradient, job.shape[0] * U, where, slopes, entropies.contiguous(), U, inputs, plan)
    return result


# From a job to a launch


def _prepare(job: Job, result: Tensor | None = None) -> tuple[_Input, _Plan, _Map | None]:
    """Describe a job that is not refused, and the gradient that is to be written."""
    laid_out = _lay_out(job, result)
    if laid_out is None:
        raise RuntimeError("Expected a job that `refuses` does not refuse.")
    (*maps, where), rows, columns = laid_out
    C, target = job.num_classes, _known(job)
    block_c, block_p, warps = _blocks(C)
    T = triton.cdiv(C, block_c)
    # On their way into at most 64 KB of shared memory are the logits, and a dense target, too.
    dense = 0 if isinstance(target, HardTarget) else target.values.itemsize
    tile_bytes = T * block_c * block_p * (job.logits.itemsize + dense)
    plan = _Plan(
        C=C,
        T=T,
        BLOCK_C=block_c,
        BLOCK_P=block_p,
        WARPS=warps,
        STAGES=1 + max(1, min(3, 2**16 // tile_bytes)),
        at_once=C <= _MOST_CLASSES_AT_ONCE,
        flat=rows == 1,
        sigmoid=job.activation == "sigmoid",
        hard=isinstance(target, HardTarget),
        independent=isinstance(target, DenseTarget) and target.independent,
        ignore_index=target.ignore_index,
        cross_entropy=job.cross_entropy,
        maxima=job.maxima,
    )
    logits, values, valid, weights = maps
    inputs = _Input(logits, values, valid, weights, columns, rows * columns)
    return inputs, plan, where


def _blocks(C: int) -> tuple[int, int, int]:
    """Choose the classes and pixels of a tile, and the warps of a program.

    The pass is bound by memory. Tiles of 8 or 32 classes waste less arithmetic on classes that are
    none than one power of two (19 -> 24, 150 -> 160). All tiles of a pixel together are 12 entries
    a thread or fewer, as each takes ten registers in the forward pass: three programs or 16 warps
    on a processor, nothing spilled. Rows of 32 pixels are a line of 128 bytes of float32.
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
        # Fusion said aloud, as the default of Triton is about to change.
        kernel[(programs,)](*arguments, num_warps=plan.WARPS, enable_fp_fusion=True)


def _lay_out(job: Job, result: Tensor | None) -> tuple[list[Any], int, int] | None:
    """See the space as rows x columns in all maps.

    Returns:
        The maps of logits, target, valid, weights and gradient, None where there is none, and the
        number of rows and of columns; or None when the memory of the space is too irregular.
    """
    target = _known(job)
    values = target.labels if isinstance(target, HardTarget) else target.values
    tensors = (job.logits, values, job.valid, job.weights, result)
    dims = len(job.size)
    steps = [(0,) * dims if x is None else x.stride()[-dims:] for x in tensors]
    axes: list[tuple[int, ...]] = []  # length, stride in each map
    # In the order in which the logits lie in memory, whatever that of the dimensions.
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


def _map(x: Tensor, dims: int, strides: Sequence[int]) -> _Map:
    of_class = x.stride(1) if x.ndim == dims + 2 else 0
    # Bytes are what a bool is in memory.
    data = x.view(torch.uint8) if x.dtype == torch.bool else x
    return _Map(data, (x.stride(0), of_class, *strides))


def _known(job: Job) -> HardTarget | DenseTarget:
    (target,) = job.targets
    if isinstance(target, HardTarget | DenseTarget):
        return target
    raise RuntimeError("Expected a job that `refuses` does not refuse.")


def refuses(job: Job) -> str | None:
    """Say why a job cannot be done here; None when it can."""
    if triton is None:
        return "Triton is not installed."
    if job.logits.device.type != "cuda" and isinstance(_gather, triton.JITFunction):
        return "The logits are not on a CUDA device."
    if job.logits.dtype not in _FLOATS:
        return f"It computes in float32, and the logits are {job.logits.dtype}."
    if job.activation == "none":
        return "It knows softmax and sigmoid alone, not activation='none'."
    if job.bilinear is not None:
        return "It does not interpolate logits."
    if len(job.targets) != 1:
        return "It knows one target at a time."
    return _refuses_target(job, job.targets[0]) or _refuses_size(job)


def _refuses_target(job: Job, target: Target) -> str | None:
    if not isinstance(target, HardTarget | DenseTarget):
        return f"It does not know a {type(target).__name__}."
    known = [*tensors_of(target), *(x for x in (job.valid, job.weights) if x is not None)]
    if any(x.device != job.logits.device for x in known):
        return "What is known of the pixels is not on the device of the logits."
    if isinstance(target, HardTarget):
        return None
    if target.values.dtype not in (*_FLOATS, torch.float64):
        return (
            f"It reads floating probabilities, and those of the target are {target.values.dtype}."
        )
    if target.values.shape[1] != job.num_classes:
        return "The target has other classes than the logits."
    if target.independent and job.activation == "softmax":
        return "The classes of the target are independent, those of a softmax are not."
    return None


def _refuses_size(job: Job) -> str | None:
    if job.num_classes > _MOST_CLASSES:
        return f"It knows up to {_MOST_CLASSES} classes."
    if prod(job.size) > _MOST_PIXELS:
        return f"It knows up to {_MOST_PIXELS} pixels of an image."
    if _lay_out(job, torch.empty_like(job.logits, device="meta")) is None:
        return "The memory of the space is too irregular."
    return None
