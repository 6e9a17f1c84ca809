"""The kernels of the pass on a GPU: one computes the sums, the others the gradient.

A program works on a fixed range of pixels of one image. With p = activation(z), the target y, the
weight w of a pixel, the gradients P', D', M', T', E', F' of the sums, and [p < y] as in `chunked`:

    a_c = P'_c + D'_c sign(p_c - y_c) + M'_c y_c + T'_c [p_c < y_c]
    softmax:  dz_c = w (p_c (a_c - r) - E'_c y_c)    r = sum_k (p_k a_k - E'_k y_k)
    sigmoid:  dz_c = w (p_c (1 - p_c) a_c + F'_c (1 - y_c) p_c - E'_c y_c (1 - p_c))

With label smoothing, the terms with E' and F' use the smoothed y'. Low-resolution logits are
interpolated when they are read, four for each pixel. For their gradient, a program sums for each
low-resolution position over the pixels that read it. So no full-resolution tensor is written, and
no two programs add to the same number, but each pixel is computed four times.

The classes are divided into T tiles. Up to 256 classes, all tiles of a pixel are in registers; with
more, a program processes them one after the other, several times, from the cache. Every program
writes its own sums, and torch adds them up in a fixed order, so results are bitwise reproducible.

Shapes: N images, C classes, *S space, U programs per image, [BLOCK_C, BLOCK_P] classes and pixels
of a tile.
"""

# Inside a kernel, values have the types of Triton, which mypy does not know.
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
    # Do not recompile for every number of programs.
    return triton.jit(function, do_not_specialize=("programs", "steps", "across"))


class Map(NamedTuple):
    """A map (N, C, *S) or (N, *S), and its strides of image, class, row and column."""

    data: Tensor
    strides: tuple[int, ...]


class Taps(NamedTuple):
    """The low-resolution logits that each pixel reads, see `softiou.tiles.Taps`.

    The pixels in [first, last) are those that read a row or column of the low resolution.
    """

    row: Tensor
    row_share: Tensor
    column: Tensor
    column_share: Tensor
    first_row: Tensor
    last_row: Tensor
    first_column: Tensor
    last_column: Tensor
    h: int
    w: int


class Input(NamedTuple):
    """The input of all kernels."""

    logits: Map
    target: Map
    valid: Map | None
    weights: Map | None
    columns: int
    pixels: int
    taps: Taps | None


class Plan(NamedTuple):
    """The compile-time constants of a kernel."""

    C: int
    T: int
    BLOCK_C: int
    BLOCK_P: int
    WARPS: int
    STAGES: int
    at_once: bool  # whether all tiles of a pixel are in registers
    flat: bool  # the space is one row in all maps
    sigmoid: bool
    hard: bool
    independent: bool  # whether single entries of a dense target are ignored, not pixels
    ignore_index: int | None
    cross_entropy: bool
    maxima: bool
    smoothing: float


# Shared by all kernels


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
    """Load a tile of a map, with 0 outside the range of classes or pixels."""
    classes = _classes(t, plan)
    there = (classes < plan.C) & inside[None, :]
    return tl.load(first[None, :] + classes.to(tl.int64) * stride, mask=there, other=0)


@_jit
def _ignored(y, plan: tl.constexpr):
    """Return `ignore_index` in the precision of the target, as torch compares them."""
    return tl.full([1, 1], plan.ignore_index, y.dtype)


@_jit
def _corners(image, indices, inside, inputs):
    """Return pointers to the first of four logits of each pixel, and steps and shares."""
    taps, strides = inputs.taps, inputs.logits.strides
    rows, columns = indices // inputs.columns, indices % inputs.columns
    row = tl.load(taps.row + rows, mask=inside, other=0).to(tl.int64)
    column = tl.load(taps.column + columns, mask=inside, other=0).to(tl.int64)
    down = tl.where(row + 1 < taps.h, 1, 0).to(tl.int64) * strides[2]
    right = tl.where(column + 1 < taps.w, 1, 0).to(tl.int64) * strides[3]
    lower = tl.load(taps.row_share + rows, mask=inside, other=0)
    latter = tl.load(taps.column_share + columns, mask=inside, other=0)
    first = inputs.logits.data + image * strides[0] + row * strides[2] + column * strides[3]
    return first, down, right, lower[None, :], latter[None, :]


@_jit
def _logits(z_at, t, inside, inputs, plan: tl.constexpr):
    """Load a tile of logits, or interpolate it."""
    stride = inputs.logits.strides[1]
    if inputs.taps is None:
        z = _load(z_at, stride, t, inside, plan).to(tl.float32)
    else:
        first, down, right, lower, latter = z_at
        z = (1.0 - lower) * (1.0 - latter) * _load(first, stride, t, inside, plan).to(tl.float32)
        z += (1.0 - lower) * latter * _load(first + right, stride, t, inside, plan).to(tl.float32)
        below = first + down
        z += lower * (1.0 - latter) * _load(below, stride, t, inside, plan).to(tl.float32)
        z += lower * latter * _load(below + right, stride, t, inside, plan).to(tl.float32)
    return z


@_jit
def _smoothed(y, plan: tl.constexpr):
    """Return y with the label smoothing of the cross-entropy."""
    if plan.smoothing != 0.0:
        y = (1.0 - plan.smoothing) * y + plan.smoothing / (2 if plan.sigmoid else plan.C)
    return y


@_jit
def _pixels(image, indices, inputs, plan: tl.constexpr):
    """Return pointers to logits and target, and the mask, weight and label of the pixels."""
    inside = indices < inputs.pixels
    if inputs.taps is not None:
        z_at = _corners(image, indices, inside, inputs)
    else:
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
        label = label.to(tl.int32) - (plan.C == 1)  # for a single class, label 1 is the class
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
    """Return logits, target and weight of a tile; the first two are 0 in ignored pixels."""
    z_at, y_at, inside, w, label = pixels
    classes, w = _classes(t, plan), w[None, :]
    z = _logits(z_at, t, inside, inputs, plan)
    if plan.sigmoid:
        w = tl.where(classes < plan.C, w, 0.0)
    if plan.hard:
        y = (classes == label[None, :]).to(tl.float32)
    else:
        loaded = _load(y_at, inputs.target.strides[1], t, inside, plan)
        if plan.independent and plan.ignore_index is not None:
            w = tl.where(loaded == _ignored(loaded, plan), 0.0, w)
        y = loaded.to(tl.float32)
    # Before the computation, because 0 * NaN is NaN.
    z, y = tl.where(w > 0, z, 0.0), tl.where(w > 0, y, 0.0)
    if not plan.sigmoid:
        z = tl.where(classes < plan.C, z, float("-inf"))
    return z, y, w


@_jit
def _tiles(pixels, inputs, plan: tl.constexpr):
    """Return all tiles of some pixels, with the largest logit and the sum of the softmax."""
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
    """Return largest logit and sum of the softmax, updated tile by tile (online softmax)."""
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
def _entropies(z, y, norm, plan: tl.constexpr):
    """Return the cross-entropy of positives and, with a sigmoid, of negatives."""
    y = _smoothed(y, plan)
    if plan.sigmoid:
        # log(1 + u): the quotient corrects the rounding error of 1 + u for small u.
        u = tl.exp(-tl.abs(z))
        more = 1.0 + u
        log = tl.where(more == 1.0, u, tl.log(more) * (u / tl.maximum(more - 1.0, 1e-30)))
        entropies = (y * (log + tl.maximum(-z, 0.0)), (1.0 - y) * (log + tl.maximum(z, 0.0)))
    else:
        # A logit of -inf must not give 0 * inf = NaN where the class is not in the target.
        entropies = (tl.where(y != 0, -y * ((z - norm[0]) - tl.log(norm[1])), 0.0),)
    return entropies  # a single return: Triton uses the type of the last one in the source


@_jit
def _zeros(plan: tl.constexpr):
    """Return sums of 0 for a tile: P, Y, D, M, T, optional entropies and maxima, and weights."""
    zero = tl.zeros([plan.BLOCK_C, plan.BLOCK_P], tl.float32)
    weight = tl.zeros([plan.BLOCK_C if plan.sigmoid else 1, plan.BLOCK_P], tl.float32)
    sums = (zero,) * 5
    if plan.cross_entropy:
        sums += (zero,) * (2 if plan.sigmoid else 1)
    if plan.maxima:
        sums += (zero, zero)
    return sums, weight


@_jit
def _add(sums, weight, tile, norm, t, plan: tl.constexpr):
    """Add a tile entry by entry; the expensive sums over the pixels are done once at the end."""
    z, y, w = tile
    p = _probs(z, norm, plan)
    added = (
        sums[0] + w * p,
        sums[1] + w * y,
        sums[2] + w * tl.abs(p - y),
        sums[3] + w * (p * y),
        sums[4] + w * tl.minimum(p, y),
    )
    if plan.cross_entropy:
        entropies = _entropies(z, y, norm, plan)
        for k in tl.static_range(len(entropies)):
            added += (sums[5 + k] + w * entropies[k],)
    if plan.maxima:
        p_max = tl.maximum(sums[len(sums) - 2], tl.where(w > 0, p, 0.0))
        added += (p_max, tl.maximum(sums[len(sums) - 1], y))
    # With a sigmoid every entry has a weight, with a softmax every pixel.
    return added, weight + (w if plan.sigmoid else tl.where(t == 0, w, 0.0))


@_jit
def _store(row, sums, t, plan: tl.constexpr):
    """Sum a tile over its pixels, and write the result."""
    classes = t * plan.BLOCK_C + tl.arange(0, plan.BLOCK_C)
    for k in tl.static_range(len(sums)):
        largest = plan.maxima and k >= len(sums) - 2
        across = tl.max(sums[k], 1) if largest else tl.sum(sums[k], 1)
        tl.store(row + k * plan.C + classes, across, mask=classes < plan.C)


@_jit
def gather_sums(sums_at, weights_at, programs, steps, inputs, plan: tl.constexpr):
    """Write the sums of each class and the weight of several blocks of pixels."""
    program = tl.program_id(0).to(tl.int64)
    start = (tl.program_id(0) % programs) * steps * plan.BLOCK_P
    zeros, weight = _zeros(plan)
    row = sums_at + program * (len(zeros) * plan.C)
    if plan.at_once:
        sums = (zeros,) * plan.T
        for step in tl.range(steps, num_stages=plan.STAGES):
            indices = start + step * plan.BLOCK_P + tl.arange(0, plan.BLOCK_P)
            pixels = _pixels(program // programs, indices, inputs, plan)
            tiles, norm = _tiles(pixels, inputs, plan)
            all_added = ()
            for t in tl.static_range(plan.T):
                added, weight = _add(sums[t], weight, tiles[t], norm, t, plan)
                all_added += (added,)
            sums = all_added
        for t in tl.static_range(plan.T):
            _store(row, sums[t], t, plan)
    else:
        indices = start + tl.arange(0, plan.BLOCK_P)
        pixels = _pixels(program // programs, indices, inputs, plan)
        norm = _norm(pixels, inputs, plan)
        for t in range(plan.T):
            added, weight = _add(zeros, weight, _tile(pixels, t, inputs, plan), norm, t, plan)
            _store(row, added, t, plan)
    tl.store(weights_at + program, tl.sum(tl.sum(weight, 1), 0))


# Backward


@_jit
def _slope(slopes_at, row, t, plan: tl.constexpr):
    """Load the gradients of a row of sums, (BLOCK_C, 1)."""
    classes = _classes(t, plan)
    return tl.load(slopes_at + row * plan.C + classes, mask=classes < plan.C, other=0)


@_jit
def _probs_and_slopes(tile, norm, slopes_at, t, plan: tl.constexpr):
    """Return p and a of a tile, from the gradients of the sums (5 or 7, C)."""
    z, y, _ = tile
    p = _probs(z, norm, plan)
    of_d, of_t = _slope(slopes_at, 2, t, plan), _slope(slopes_at, 4, t, plan)
    sign = tl.where(p > y, of_d, tl.where(p < y, of_t - of_d, 0.5 * of_t))
    return p, _slope(slopes_at, 0, t, plan) + sign + _slope(slopes_at, 3, t, plan) * y


@_jit
def _share(tile, norm, slopes_at, t, plan: tl.constexpr):
    """Return the terms of a tile whose sum over the classes is r."""
    if plan.sigmoid:
        return tl.zeros([plan.BLOCK_C, plan.BLOCK_P], tl.float32)
    p, a = _probs_and_slopes(tile, norm, slopes_at, t, plan)
    share = p * a
    if plan.cross_entropy:
        y = tl.where(_classes(t, plan) < plan.C, _smoothed(tile[1], plan), 0.0)
        share -= _slope(slopes_at, 5, t, plan) * y
    return share


@_jit
def _dz(tile, norm, slopes_at, r, t, plan: tl.constexpr):
    """Return dz of a tile."""
    _, y, w = tile
    p, a = _probs_and_slopes(tile, norm, slopes_at, t, plan)
    dz = p * (1.0 - p) * a if plan.sigmoid else p * (a - r)
    if plan.cross_entropy:
        of_e = _slope(slopes_at, 5, t, plan)
        y = _smoothed(y, plan)
        if plan.sigmoid:
            dz += _slope(slopes_at, 6, t, plan) * (1.0 - y) * p - of_e * y * (1.0 - p)
        else:
            dz -= of_e * y
    return tl.where(w > 0, w * dz, 0.0)


@_jit
def _store_tile(first, stride, inside, values, t, plan: tl.constexpr):
    """Write a tile of a map."""
    classes = _classes(t, plan)
    there = (classes < plan.C) & inside[None, :]
    pointers = first[None, :] + classes.to(tl.int64) * stride
    tl.store(pointers, values.to(first.dtype.element_ty), mask=there)


@_jit
def _all_shares(tiles, norm, slopes, plan: tl.constexpr):
    """Return r of some pixels from their tiles."""
    shares = tl.zeros([plan.BLOCK_C, plan.BLOCK_P], tl.float32)
    for t in tl.static_range(plan.T):
        shares += _share(tiles[t], norm, slopes, t, plan)
    return tl.sum(shares, 0)[None, :]


@_jit
def write_gradient(result, slopes_at, programs, inputs, plan: tl.constexpr):
    """Write dz of a block of pixels."""
    image = tl.program_id(0).to(tl.int64) // programs
    indices = (tl.program_id(0) % programs) * plan.BLOCK_P + tl.arange(0, plan.BLOCK_P)
    pixels = _pixels(image, indices, inputs, plan)
    first, stride, inside = _at(result, image, indices, inputs, plan), result.strides[1], pixels[2]
    slopes = slopes_at + image * ((7 if plan.cross_entropy else 5) * plan.C)
    if plan.at_once:
        tiles, norm = _tiles(pixels, inputs, plan)
        r = _all_shares(tiles, norm, slopes, plan)
        for t in tl.static_range(plan.T):
            dz = _dz(tiles[t], norm, slopes, r, t, plan)
            _store_tile(first, stride, inside, dz, t, plan)
    else:
        norm = _norm(pixels, inputs, plan)
        shares = tl.zeros([plan.BLOCK_C, plan.BLOCK_P], tl.float32)
        for t in range(plan.T):
            shares += _share(_tile(pixels, t, inputs, plan), norm, slopes, t, plan)
        r = tl.sum(shares, 0)[None, :]
        for t in range(plan.T):
            dz = _dz(_tile(pixels, t, inputs, plan), norm, slopes, r, t, plan)
            _store_tile(first, stride, inside, dz, t, plan)


@_jit
def write_low_gradient(result, slopes_at, programs, steps, across, inputs, plan: tl.constexpr):
    """Write the gradient of low-resolution logits, summed over the pixels that read them."""
    taps = inputs.taps
    image = tl.program_id(0).to(tl.int64) // programs
    places = (tl.program_id(0) % programs) * plan.BLOCK_P + tl.arange(0, plan.BLOCK_P)
    there = places < taps.h * taps.w
    row, column = places // taps.w, places % taps.w
    first_row = tl.load(taps.first_row + row, mask=there, other=0)
    last_row = tl.load(taps.last_row + row, mask=there, other=0)
    first_column = tl.load(taps.first_column + column, mask=there, other=0)
    last_column = tl.load(taps.last_column + column, mask=there, other=0)
    slopes = slopes_at + image * ((7 if plan.cross_entropy else 5) * plan.C)
    totals = (tl.zeros([plan.BLOCK_C, plan.BLOCK_P], tl.float32),) * plan.T
    for step in range(steps):
        y, x = first_row + step // across, first_column + step % across
        reads = there & (y < last_row) & (x < last_column)
        pixels = _pixels(
            image, tl.where(reads, y * inputs.columns + x, inputs.pixels), inputs, plan
        )
        share = _share_of(taps.row, taps.row_share, y, row, reads)
        share *= _share_of(taps.column, taps.column_share, x, column, reads)
        tiles, norm = _tiles(pixels, inputs, plan)
        r = _all_shares(tiles, norm, slopes, plan)
        added = ()
        for t in tl.static_range(plan.T):
            added += (totals[t] + share[None, :] * _dz(tiles[t], norm, slopes, r, t, plan),)
        totals = added
    first = result.data + image * result.strides[0]
    first += row.to(tl.int64) * result.strides[2] + column.to(tl.int64) * result.strides[3]
    for t in tl.static_range(plan.T):
        _store_tile(first, result.strides[1], there, totals[t], t, plan)


@_jit
def _share_of(first_at, share_at, pixel, place, reads):
    """Return the weight of a low-resolution row or column in a pixel, along one axis."""
    share = tl.load(share_at + pixel, mask=reads, other=0)
    first = tl.load(first_at + pixel, mask=reads, other=0)
    return tl.where(reads, tl.where(first == place, 1.0 - share, share), 0.0)
