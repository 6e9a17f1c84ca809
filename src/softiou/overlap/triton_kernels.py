"""The kernels of the pass on a GPU: one gathers the sums, another writes the gradient.

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

from collections.abc import Callable
from typing import Any, NamedTuple

from torch import Tensor

try:
    import triton
    import triton.language as tl
except ImportError:  # `softiou.overlap.triton.unsupported_reason` reports it
    triton = tl = None


def _jit(function: Callable[..., Any]) -> Any:
    if triton is None:
        return function
    # Not compiled anew for every number of programs.
    return triton.jit(function, do_not_specialize=("programs", "steps"))


class Map(NamedTuple):
    """A map (N, C, *S) or (N, *S) and its strides: of image, class, row and column."""

    data: Tensor
    strides: tuple[int, ...]


class Input(NamedTuple):
    """What both kernels read."""

    logits: Map
    target: Map
    valid: Map | None
    weights: Map | None
    columns: int
    pixels: int


class Plan(NamedTuple):
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
def gather_sums(sums_at, totals_at, programs, steps, inputs, plan: tl.constexpr):
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
def write_gradient(result, slopes_at, entropies_at, programs, inputs, plan: tl.constexpr):
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
