"""The kernels of the pass on a GPU: one computes the sums, the others the gradient.

A program works on a fixed range of pixels of one image, for all targets together. With
p = activation(z), the target y, the weight w of a pixel, the gradients P', D', M', T' of the sums,
the h of `entropy` for the cross-entropy, and [p < y] as in `chunked`:

    a_c = P'_c + D'_c sign(p_c - y_c) + M'_c y_c + T'_c [p_c < y_c]
    softmax:  g_c = sum over the targets of w (p_c a_c + h_c)    dz_c = g_c - p_c sum_k g_k
    sigmoid:  g_c = sum over the targets of w (p_c (1 - p_c) a_c + h_c)    dz_c = g_c
    none:     g_c = sum over the targets of w a_c    dz_c = g_c

Low-resolution logits are interpolated when they are read, four for each pixel. For their gradient,
a program sums for each low-resolution position over the pixels that read it. So no full-resolution
tensor is written, and no two programs add to the same number, but each pixel is computed four
times.

The classes are divided into T tiles. Up to 256 classes, all tiles of a pixel are in registers; with
more, a program processes them one after the other, several times, from the cache. Every program
writes its own sums, and torch adds them up in a fixed order, so results are bitwise reproducible.

Shapes: N images, C classes, K targets, *S space, U programs per image, [BLOCK_C, BLOCK_P] classes
and pixels of a tile.
"""

# Inside a kernel, values have the types of Triton, which mypy does not know.
# mypy: disable-error-code="no-untyped-def, no-untyped-call, assignment, misc, index"
# mypy: disable-error-code="import-untyped"
from __future__ import annotations

from typing import NamedTuple

from softiou.overlap.triton_targets import (
    Kind,
    Map,
    Source,
    Taps,
    add_to_softmax,
    at,
    classes_of,
    jit,
    load_logits,
    open_target,
    point,
    read_entries,
)

try:
    import triton.language as tl
except ImportError:  # `softiou.overlap.triton.unsupported_reason` reports it
    tl = None


class Input(NamedTuple):
    """The input of all kernels."""

    logits: Map
    targets: tuple[Source, ...]
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
    activation: str
    kinds: tuple[Kind, ...]
    cross_entropy: bool
    maxima: bool
    smoothing: float
    gamma: float


# Shared by all kernels


@jit
def _pixels(image, indices, inputs, plan: tl.constexpr):
    """Return what `_tile` needs of some pixels: pointers, and targets with their weights."""
    inside = indices < inputs.pixels
    z_at = point(inputs.logits, inputs.taps, image, indices, inside, inputs, plan)
    valid, weights = inside, inside
    if inputs.valid is not None:
        valid &= tl.load(at(inputs.valid, image, indices, inputs, plan), mask=inside, other=0) != 0
    if inputs.weights is not None:
        weights_at = at(inputs.weights, image, indices, inputs, plan)
        weights = tl.load(weights_at, mask=inside, other=0)
    opened, counts = (), False
    for k in tl.static_range(len(plan.kinds)):
        one = open_target(inputs.targets[k], plan.kinds[k], image, indices, inside, inputs, plan)
        w = tl.where(valid & one[0], weights.to(tl.float32), 0.0)
        counts = (w > 0) | counts
        opened += ((one, w[None, :]),)
    return z_at, inside, counts[None, :], opened


@jit
def _logits(pixels, t, inputs, plan: tl.constexpr):
    """Return a tile of logits, 0 in pixels that no target uses."""
    z_at, inside, counts, _ = pixels
    z = load_logits(z_at, inputs.logits, inputs.taps, t, inside, plan)
    z = tl.where(counts, z, 0.0)
    if plan.activation == "softmax":
        z = tl.where(classes_of(t, plan) < plan.C, z, float("-inf"))
    return z


@jit
def _tile(pixels, t, inputs, plan: tl.constexpr):
    """Return the logits of a tile, and the probabilities and weights of each target."""
    _, inside, _, opened = pixels
    z, targets, counts = _logits(pixels, t, inputs, plan), (), False
    for k in tl.static_range(len(plan.kinds)):
        one, w = opened[k]
        if plan.activation != "softmax":
            w = tl.where(classes_of(t, plan) < plan.C, w, 0.0)
        y, w = read_entries(one, w, inputs.targets[k], plan.kinds[k], t, inside, plan)
        counts = (w > 0) | counts
        targets += ((y, w),)
    if plan.activation != "softmax":
        z = tl.where(counts, z, 0.0)  # 0 * NaN is NaN
    return z, targets


@jit
def _tiles(pixels, inputs, plan: tl.constexpr):
    """Return all tiles of some pixels, with the largest logit and the sum of the softmax."""
    tiles = ()
    for t in tl.static_range(plan.T):
        tiles += (_tile(pixels, t, inputs, plan),)
    norm = (pixels[2], pixels[2])  # others need neither
    if plan.activation == "softmax":
        top = tiles[0][0]
        for t in tl.static_range(1, plan.T):
            top = tl.maximum(top, tiles[t][0])
        largest = tl.max(top, 0)
        exps = tl.exp(tiles[0][0] - largest[None, :])
        for t in tl.static_range(1, plan.T):
            exps += tl.exp(tiles[t][0] - largest[None, :])
        norm = (largest[None, :], tl.sum(exps, 0)[None, :])
    return tiles, norm


@jit
def _norm(pixels, inputs, plan: tl.constexpr):
    """Return largest logit and sum of the softmax, updated tile by tile (online softmax)."""
    largest = tl.full([plan.BLOCK_P], float("-inf"), tl.float32)
    total = tl.zeros([plan.BLOCK_P], tl.float32)
    if plan.activation == "softmax":
        for t in range(plan.T):
            z = _logits(pixels, t, inputs, plan)
            largest, total = add_to_softmax(largest, total, z)
    return largest[None, :], total[None, :]


@jit
def _probs(z, norm, plan: tl.constexpr):
    if plan.activation == "softmax":
        p = tl.exp(z - norm[0]) * (1.0 / norm[1])
    elif plan.activation == "sigmoid":
        p = 1.0 / (1.0 + tl.exp(-z))
    else:
        p = z
    return p


# Cross-entropy


@jit
def _costs(z, norm, plan: tl.constexpr):
    """Return -log p, and with a sigmoid -log(1 - p)."""
    if plan.activation == "softmax":
        costs = (tl.log(norm[1]) - (z - norm[0]),)
    else:
        # log(1 + u): the quotient corrects the rounding error of 1 + u for small u.
        u = tl.exp(-tl.abs(z))
        more = 1.0 + u
        log = tl.where(more == 1.0, u, tl.log(more) * (u / tl.maximum(more - 1.0, 1e-30)))
        costs = (log + tl.maximum(-z, 0.0), log + tl.maximum(z, 0.0))
    return costs


@jit
def _smoothed(y, plan: tl.constexpr):
    """Return y with the label smoothing of the cross-entropy."""
    if plan.smoothing != 0.0:
        outcomes: tl.constexpr = plan.C if plan.activation == "softmax" else 2
        y = (1.0 - plan.smoothing) * y + plan.smoothing / outcomes
    return y


@jit
def _power(x, exponent: tl.constexpr):
    """Return x^exponent; 0 for x = 0, also for negative exponents."""
    return tl.where(x > 0, tl.exp(exponent * tl.log(tl.where(x > 0, x, 1.0))), 0.0)


@jit
def _entropies(z, p, y, norm, plan: tl.constexpr):
    """Return the cross-entropy of positives and, with a sigmoid, of negatives."""
    y, costs = _smoothed(y, plan), _costs(z, norm, plan)
    factor = 1.0
    if plan.gamma != 0.0:
        factor = _power(tl.abs(y - p), plan.gamma)
    # A logit of -inf must not give 0 * inf = NaN where the class is not in the target.
    entropies = (tl.where(y != 0, factor * y * costs[0], 0.0),)
    if plan.activation == "sigmoid":
        entropies += (tl.where(y != 1, factor * (1.0 - y) * costs[1], 0.0),)
    return entropies


@jit
def _entropy_slope(z, p, y, norm, slopes_at, k, t, plan: tl.constexpr):
    """Return the gradient h of the logits, see `entropy`."""
    y, on = _smoothed(y, plan), _slope(slopes_at, 5, k, t, plan)
    if plan.activation == "softmax":
        y = tl.where(classes_of(t, plan) < plan.C, y, 0.0)
        slope = -on * y
    else:
        off = _slope(slopes_at, 6, k, t, plan)
        slope = off * (1.0 - y) * p - on * y * (1.0 - p)
    if plan.gamma != 0.0:
        costs, gap = _costs(z, norm, plan), tl.abs(p - y)
        if plan.activation == "softmax":
            of_factor = on * y * tl.where(p > 0, p * costs[0], 0.0)
        else:
            of_factor = p * (1.0 - p) * (on * y * costs[0] + off * (1.0 - y) * costs[1])
        steep = plan.gamma * _power(gap, plan.gamma - 1.0)
        slope = tl.where(p > y, steep, -steep) * of_factor + _power(gap, plan.gamma) * slope
    return slope


# Forward


@jit
def _zeros(plan: tl.constexpr):
    """Return sums of 0 for a tile and a target, and weights.

    The sums are P, Y, D, M, T, then optional entropies and maxima.
    """
    zero = tl.zeros([plan.BLOCK_C, plan.BLOCK_P], tl.float32)
    sums = (zero,) * 5
    if plan.cross_entropy:
        sums += (zero,) * (2 if plan.activation == "sigmoid" else 1)
    if plan.maxima:
        sums += (zero, zero)
    weights = ()
    for k in tl.static_range(len(plan.kinds)):
        weights += (_no_weight(plan.kinds[k].weighs_entries, plan),)
    return (sums,) * len(plan.kinds), weights


@jit
def _no_weight(weighs_entries: tl.constexpr, plan: tl.constexpr):
    height: tl.constexpr = plan.BLOCK_C if weighs_entries else 1
    return tl.zeros([height, plan.BLOCK_P], tl.float32)


@jit
def _add(sums, weights, tile, norm, t, plan: tl.constexpr):
    """Add a tile entry by entry; the expensive sums over the pixels are done once at the end."""
    z, targets = tile
    p, all_added, added_weights = _probs(z, norm, plan), (), ()
    for k in tl.static_range(len(plan.kinds)):
        y, w = targets[k]
        added = (
            sums[k][0] + w * p,
            sums[k][1] + w * y,
            sums[k][2] + w * tl.abs(p - y),
            sums[k][3] + w * (p * y),
            sums[k][4] + w * tl.minimum(p, y),
        )
        if plan.cross_entropy:
            entropies = _entropies(z, p, y, norm, plan)
            for i in tl.static_range(len(entropies)):
                added += (sums[k][5 + i] + w * entropies[i],)
        if plan.maxima:
            p_max = tl.maximum(sums[k][len(sums[k]) - 2], tl.where(w > 0, p, 0.0))
            added += (p_max, tl.maximum(sums[k][len(sums[k]) - 1], y))
        all_added += (added,)
        # With a sigmoid every entry has a weight, with a softmax every pixel.
        if plan.kinds[k].weighs_entries:
            added_weights += (weights[k] + w,)
        else:
            added_weights += (weights[k] + tl.where(t == 0, tl.max(w, 0)[None, :], 0.0),)
    return all_added, added_weights


@jit
def _store(row, sums, t, plan: tl.constexpr):
    """Sum a tile over its pixels, and write the result."""
    classes = t * plan.BLOCK_C + tl.arange(0, plan.BLOCK_C)
    K: tl.constexpr = len(plan.kinds)
    for k in tl.static_range(K):
        for i in tl.static_range(len(sums[k])):
            largest = plan.maxima and i >= len(sums[k]) - 2
            across = tl.max(sums[k][i], 1) if largest else tl.sum(sums[k][i], 1)
            tl.store(row + (i * K + k) * plan.C + classes, across, mask=classes < plan.C)


@jit
def gather_sums(sums_at, weights_at, programs, steps, inputs, plan: tl.constexpr):
    """Write the sums of each class and the weight of several blocks of pixels, for each target."""
    program = tl.program_id(0).to(tl.int64)
    start = (tl.program_id(0) % programs) * steps * plan.BLOCK_P
    zeros, weights = _zeros(plan)
    K: tl.constexpr = len(plan.kinds)
    row = sums_at + program * (K * len(zeros[0]) * plan.C)
    if plan.at_once:
        sums = (zeros,) * plan.T
        for step in tl.range(steps, num_stages=plan.STAGES):
            indices = start + step * plan.BLOCK_P + tl.arange(0, plan.BLOCK_P)
            pixels = _pixels(program // programs, indices, inputs, plan)
            tiles, norm = _tiles(pixels, inputs, plan)
            all_added = ()
            for t in tl.static_range(plan.T):
                added, weights = _add(sums[t], weights, tiles[t], norm, t, plan)
                all_added += (added,)
            sums = all_added
        for t in tl.static_range(plan.T):
            _store(row, sums[t], t, plan)
    else:
        indices = start + tl.arange(0, plan.BLOCK_P)
        pixels = _pixels(program // programs, indices, inputs, plan)
        norm = _norm(pixels, inputs, plan)
        for t in range(plan.T):
            added, weights = _add(zeros, weights, _tile(pixels, t, inputs, plan), norm, t, plan)
            _store(row, added, t, plan)
    for k in tl.static_range(K):
        tl.store(weights_at + program * K + k, tl.sum(tl.sum(weights[k], 1), 0))


# Backward


@jit
def _slopes_of(slopes_at, image, plan: tl.constexpr):
    """Point to the gradients of the sums of an image, (5 K or 7 K, C)."""
    rows: tl.constexpr = (7 if plan.cross_entropy else 5) * len(plan.kinds)
    return slopes_at + image * (rows * plan.C)


@jit
def _slope(slopes_at, row, k, t, plan: tl.constexpr):
    """Load the gradients of a row of sums of a target, (BLOCK_C, 1)."""
    classes = classes_of(t, plan)
    first = slopes_at + (row * len(plan.kinds) + k) * plan.C
    return tl.load(first + classes, mask=classes < plan.C, other=0)


@jit
def _probs_and_slopes(tile, norm, slopes_at, t, plan: tl.constexpr):
    """Return p and g of a tile, from the gradients of the sums."""
    z, targets = tile
    p = _probs(z, norm, plan)
    g = tl.zeros_like(p)
    for k in tl.static_range(len(plan.kinds)):
        y, w = targets[k]
        of_d, of_t = _slope(slopes_at, 2, k, t, plan), _slope(slopes_at, 4, k, t, plan)
        sign = tl.where(p > y, of_d, tl.where(p < y, of_t - of_d, 0.5 * of_t))
        slope = _slope(slopes_at, 0, k, t, plan) + sign + _slope(slopes_at, 3, k, t, plan) * y
        if plan.activation != "none":
            slope *= p
        if plan.activation == "sigmoid":
            slope *= 1.0 - p
        if plan.cross_entropy:
            slope += _entropy_slope(z, p, y, norm, slopes_at, k, t, plan)
        # A single weight is applied last, which needs fewer registers.
        g += slope if len(plan.kinds) == 1 else _weighted(w, slope)
    return p, g


@jit
def _weighted(w, x):
    return tl.where(w > 0, w * x, 0.0)  # 0 * NaN is NaN


@jit
def _dz(tile, norm, slopes_at, r, t, plan: tl.constexpr):
    """Return dz of a tile."""
    p, g = _probs_and_slopes(tile, norm, slopes_at, t, plan)
    dz = g - p * r if plan.activation == "softmax" else g
    return _weighted(tile[1][0][1], dz) if len(plan.kinds) == 1 else dz


@jit
def _store_tile(first, stride, inside, values, t, plan: tl.constexpr):
    """Write a tile of a map."""
    classes = classes_of(t, plan)
    there = (classes < plan.C) & inside[None, :]
    pointers = first[None, :] + classes.to(tl.int64) * stride
    tl.store(pointers, values.to(first.dtype.element_ty), mask=there)


@jit
def _all_shares(tiles, norm, slopes, plan: tl.constexpr):
    """Return the sum of g over the classes, for a softmax."""
    shares = tl.zeros([plan.BLOCK_C, plan.BLOCK_P], tl.float32)
    if plan.activation == "softmax":
        for t in tl.static_range(plan.T):
            _, g = _probs_and_slopes(tiles[t], norm, slopes, t, plan)
            shares += g
    return tl.sum(shares, 0)[None, :]


@jit
def write_gradient(result, slopes_at, programs, inputs, plan: tl.constexpr):
    """Write dz of a block of pixels."""
    image = tl.program_id(0).to(tl.int64) // programs
    indices = (tl.program_id(0) % programs) * plan.BLOCK_P + tl.arange(0, plan.BLOCK_P)
    pixels = _pixels(image, indices, inputs, plan)
    first, stride, inside = at(result, image, indices, inputs, plan), result.strides[1], pixels[1]
    slopes = _slopes_of(slopes_at, image, plan)
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
            tile = _tile(pixels, t, inputs, plan)
            _, g = _probs_and_slopes(tile, norm, slopes, t, plan)
            shares += g
        r = tl.sum(shares, 0)[None, :]
        for t in range(plan.T):
            dz = _dz(_tile(pixels, t, inputs, plan), norm, slopes, r, t, plan)
            _store_tile(first, stride, inside, dz, t, plan)


@jit
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
    slopes = _slopes_of(slopes_at, image, plan)
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


@jit
def _share_of(first_at, share_at, pixel, place, reads):
    """Return the weight of a low-resolution row or column in a pixel, along one axis."""
    share = tl.load(share_at + pixel, mask=reads, other=0)
    first = tl.load(first_at + pixel, mask=reads, other=0)
    return tl.where(reads, tl.where(first == place, 1.0 - share, share), 0.0)
