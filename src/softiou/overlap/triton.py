"""The pass on a GPU: one kernel reads the logits and gathers, one reads them and writes the gradient.

A program works on a fixed range of the pixels of one image. With p the activated logits z, y the
target, w the weight of a pixel and P', D', M', E' the gradients of the sums:

    a_c = P'_c + D'_c sign(p_c - y_c) + M'_c y_c
    softmax:  dz_c = w (p_c (a_c - r) - E' y_c)    r = sum_k (p_k a_k - E' y_k)
    sigmoid:  dz_c = w (p_c (1 - p_c) a_c + E' (p_c - y_c))

(r joins two sums of the formula in `chunked`: sum_k p_k a_k, and E' sum_k y_k.) The classes are cut
into tiles. Up to 256 classes all tiles of a pixel stay in registers; beyond, a program passes over
them again and again, and finds them in the cache. Every program writes its own sums and torch adds
them up, so that two runs are equal bit by bit.

Shapes: N images, C classes, *S space, T tiles, [BLOCK_C, BLOCK_P] the classes and pixels of a tile.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from softiou.overlap.job import Cotangents, Job, Sums
from softiou.targets import DenseTarget, HardTarget
from softiou.targets.base import tensors_of

try:
    import triton
    import triton.language as tl
except ImportError:  # an optional companion of torch; `refuses` says so
    triton = tl = None

_FLOATS = (torch.float32, torch.bfloat16, torch.float16)
_MOST_AT_ONCE, _MOST_CLASSES, _MOST_PIXELS = 256, 1024, 2**31 - 2**16


def _jit(function: Callable[..., Any]) -> Any:
    return function if triton is None else triton.jit(function)


class _Maps(NamedTuple):
    """One thing for each map: the tensor, or its strides (image, class, row, column)."""

    logits: Any
    target: Any
    valid: Any
    weights: Any


class _Plan(NamedTuple):
    """What a kernel is compiled for."""

    C: int
    BLOCK_C: int
    T: int
    BLOCK_P: int
    flat: bool  # the space has one stride, in every map
    sigmoid: bool
    hard: bool
    independent: bool  # the entries of a dense target are ignored one by one
    ignore_index: int | None
    cross_entropy: bool
    maxima: bool


# What all kernels share


@_jit
def _at(pointer: Any, strides: Any, image: Any, pixels: Any, width: Any, plan: tl.constexpr) -> Any:
    """Point to pixels of a map (N, *S), or of the first class of a map (N, C, *S)."""
    pointer += image * strides[0]
    if plan.flat:
        return pointer + pixels.to(tl.int64) * strides[3]
    rows, columns = pixels // width, pixels % width
    return pointer + rows.to(tl.int64) * strides[2] + columns.to(tl.int64) * strides[3]


@_jit
def _entries(first: Any, stride: Any, t: Any, inside: Any, plan: tl.constexpr) -> Any:
    """Point to a tile of classes, and say which of its entries exist."""
    classes = t * plan.BLOCK_C + tl.arange(0, plan.BLOCK_C)
    pointers = first[None, :] + (classes.to(tl.int64) * stride)[:, None]
    return pointers, (classes < plan.C)[:, None] & inside[None, :]


@_jit
def _pixels(
    maps: Any, strides: Any, image: Any, pixels: Any, width: Any, size: Any, plan: tl.constexpr
) -> Any:
    """Return where logits and target are, which pixels exist, their weight and their label."""
    inside = pixels < size
    z_at = _at(maps.logits, strides.logits, image, pixels, width, plan)
    y_at = _at(maps.target, strides.target, image, pixels, width, plan)
    counts, label = inside, pixels
    if maps.valid is not None:
        valid_at = _at(maps.valid, strides.valid, image, pixels, width, plan)
        counts &= tl.load(valid_at, mask=inside, other=0) != 0
    if plan.hard:
        label = tl.load(y_at, mask=inside, other=0).to(tl.int64)
        counts &= (label >= 0) & (label < plan.C + (plan.C == 1))
        if plan.ignore_index is not None:
            counts &= label != plan.ignore_index
        label = label.to(tl.int32) - (plan.C == 1)  # of one class, label 1 is the class
    elif plan.ignore_index is not None and not plan.independent:
        counts &= _differs(y_at, strides.target[1], inside, plan)
    w = counts.to(tl.float32)
    if maps.weights is not None:
        weights_at = _at(maps.weights, strides.weights, image, pixels, width, plan)
        w = tl.where(counts, tl.load(weights_at, mask=inside, other=0).to(tl.float32), 0.0)
    return z_at, y_at, inside, w, label


@_jit
def _differs(y_at: Any, stride: Any, inside: Any, plan: tl.constexpr) -> Any:
    """Say of which pixels any class differs from `ignore_index`."""
    differs = tl.zeros([plan.BLOCK_P], tl.int32)
    for t in range(plan.T):
        pointers, there = _entries(y_at, stride, t, inside, plan)
        y = tl.load(pointers, mask=there, other=0)
        differs |= tl.max(((y != _ignored(y, plan)) & there).to(tl.int32), 0)
    return differs != 0


@_jit
def _ignored(y: Any, plan: tl.constexpr) -> Any:
    """Return `ignore_index` in the precision of the target, in which they are compared."""
    return tl.full([1, 1], plan.ignore_index, y.dtype)


@_jit
def _tile(pixels: Any, strides: Any, t: Any, plan: tl.constexpr) -> Any:
    """Return logits, target and weight of a tile, the first two 0 where nothing counts."""
    z_at, y_at, inside, w, label = pixels
    pointers, there = _entries(z_at, strides.logits[1], t, inside, plan)
    z = tl.load(pointers, mask=there, other=0).to(tl.float32)
    classes = (t * plan.BLOCK_C + tl.arange(0, plan.BLOCK_C))[:, None]
    w = w[None, :]
    if plan.sigmoid:
        w = tl.where(classes < plan.C, w, 0.0)
    if plan.hard:
        y = (classes == label[None, :]).to(tl.float32)
    else:
        pointers, there = _entries(y_at, strides.target[1], t, inside, plan)
        y = tl.load(pointers, mask=there, other=0)
        if plan.independent and plan.ignore_index is not None:
            w = tl.where(y == _ignored(y, plan), 0.0, w)
        y = y.to(tl.float32)
    # Beforehand, not after: 0 * NaN is NaN.
    z, y = tl.where(w > 0, z, 0.0), tl.where(w > 0, y, 0.0)
    if not plan.sigmoid:
        z = tl.where(classes < plan.C, z, float("-inf"))
    return z, y, w


@_jit
def _tiles(pixels: Any, strides: Any, plan: tl.constexpr) -> Any:
    """Return all tiles of some pixels, and what turns their logits into probabilities."""
    tiles = ()
    for t in tl.static_range(plan.T):
        tiles += (_tile(pixels, strides, t, plan),)
    largest = total = pixels[3]  # a sigmoid needs neither
    if not plan.sigmoid:
        top = tiles[0][0]
        for t in tl.static_range(1, plan.T):
            top = tl.maximum(top, tiles[t][0])
        largest = tl.max(top, 0)
        sums = tl.exp(tiles[0][0] - largest[None, :])
        for t in tl.static_range(1, plan.T):
            sums += tl.exp(tiles[t][0] - largest[None, :])
        total = tl.sum(sums, 0)
    return tiles, (largest[None, :], total[None, :])


@_jit
def _norm(pixels: Any, strides: Any, plan: tl.constexpr) -> Any:
    """Return the same without the tiles: the largest logit and the sum follow them online."""
    largest = tl.full([plan.BLOCK_P], float("-inf"), tl.float32)
    total = tl.zeros([plan.BLOCK_P], tl.float32)
    if not plan.sigmoid:
        for t in range(plan.T):
            z, _, _ = _tile(pixels, strides, t, plan)
            top = tl.maximum(largest, tl.max(z, 0))
            finite = tl.where(top == float("-inf"), 0.0, top)
            total *= tl.exp(largest - finite)
            total += tl.sum(tl.exp(z - finite[None, :]), 0)
            largest = top
    return largest[None, :], total[None, :]


@_jit
def _probs(z: Any, norm: Any, plan: tl.constexpr) -> Any:
    if plan.sigmoid:
        return 1.0 / (1.0 + tl.exp(-z))
    return tl.exp(z - norm[0]) * (1.0 / norm[1])


# Forward


@_jit
def _cross_entropy(z: Any, y: Any, norm: Any, plan: tl.constexpr) -> Any:
    if plan.sigmoid:
        # log(1 + u) in the precision of a small u, which 1 + u rounds.
        u = tl.exp(-tl.abs(z))
        rounded = 1.0 + u
        log = tl.where(rounded == 1.0, u, tl.log(rounded) * (u / tl.maximum(rounded - 1.0, 1e-30)))
        return tl.maximum(z, 0.0) - z * y + log
    # A class that cannot be (logit -inf) costs nothing where it is not there: not 0 * inf.
    return tl.where(y != 0, -y * ((z - norm[0]) - tl.log(norm[1])), 0.0)


@_jit
def _zeros(plan: tl.constexpr) -> Any:
    return (tl.zeros([plan.BLOCK_C, plan.BLOCK_P], tl.float32),) * (6 if plan.maxima else 4)


@_jit
def _add(sums: Any, p: Any, y: Any, w: Any, plan: tl.constexpr) -> Any:
    """Add to P, Y, D, M and the maxima, entry by entry: across the pixels only once, at the end."""
    added = (
        sums[0] + w * p,
        sums[1] + w * y,
        sums[2] + w * tl.abs(p - y),
        sums[3] + w * (p * y),
    )
    if plan.maxima:
        largest = tl.maximum(sums[4], tl.where(w > 0, p, 0.0))
        added += (largest, tl.maximum(sums[5], y))
    return added


@_jit
def _store(row: Any, sums: Any, t: Any, plan: tl.constexpr) -> Any:
    """Write the sums of a tile across its pixels."""
    classes = t * plan.BLOCK_C + tl.arange(0, plan.BLOCK_C)
    for k in tl.static_range(4):
        tl.store(row + k * plan.C + classes, tl.sum(sums[k], 1), mask=classes < plan.C)
    if plan.maxima:
        for k in tl.static_range(4, 6):
            tl.store(row + k * plan.C + classes, tl.max(sums[k], 1), mask=classes < plan.C)


@_jit
def _gather_at_once(
    sums_at: Any,
    totals_at: Any,
    maps: Any,
    strides: Any,
    width: Any,
    size: Any,
    programs: Any,
    steps: Any,
    plan: tl.constexpr,
) -> Any:
    program = tl.program_id(0).to(tl.int64)
    start = (tl.program_id(0) % programs) * steps * plan.BLOCK_P
    sums = (_zeros(plan),) * plan.T
    weight = tl.zeros([plan.BLOCK_P], tl.float32)
    entropy = tl.zeros([plan.BLOCK_C, plan.BLOCK_P], tl.float32)
    for step in range(steps):
        indices = start + step * plan.BLOCK_P + tl.arange(0, plan.BLOCK_P)
        pixels = _pixels(maps, strides, program // programs, indices, width, size, plan)
        tiles, norm = _tiles(pixels, strides, plan)
        added = ()
        for t in tl.static_range(plan.T):
            z, y, w = tiles[t]
            added += (_add(sums[t], _probs(z, norm, plan), y, w, plan),)
            if plan.cross_entropy:
                entropy += w * _cross_entropy(z, y, norm, plan)
            if plan.sigmoid:
                weight += tl.sum(w, 0)
        sums = added
        if not plan.sigmoid:
            weight += pixels[3]
    for t in tl.static_range(plan.T):
        _store(sums_at + program * (len(sums[0]) * plan.C), sums[t], t, plan)
    tl.store(totals_at + program * 2, tl.sum(weight, 0))
    tl.store(totals_at + program * 2 + 1, tl.sum(tl.sum(entropy, 1), 0))


@_jit
def _gather_in_turn(
    sums_at: Any,
    totals_at: Any,
    maps: Any,
    strides: Any,
    width: Any,
    size: Any,
    programs: Any,
    steps: Any,
    plan: tl.constexpr,
) -> Any:
    program = tl.program_id(0).to(tl.int64)
    indices = (tl.program_id(0) % programs) * plan.BLOCK_P + tl.arange(0, plan.BLOCK_P)
    pixels = _pixels(maps, strides, program // programs, indices, width, size, plan)
    norm = _norm(pixels, strides, plan)
    weight = tl.zeros([plan.BLOCK_P], tl.float32)
    entropy = tl.zeros([plan.BLOCK_C, plan.BLOCK_P], tl.float32)
    for t in range(plan.T):
        z, y, w = _tile(pixels, strides, t, plan)
        sums = _add(_zeros(plan), _probs(z, norm, plan), y, w, plan)
        _store(sums_at + program * (len(sums) * plan.C), sums, t, plan)
        if plan.cross_entropy:
            entropy += w * _cross_entropy(z, y, norm, plan)
        if plan.sigmoid:
            weight += tl.sum(w, 0)
    if not plan.sigmoid:
        weight = pixels[3]
    tl.store(totals_at + program * 2, tl.sum(weight, 0))
    tl.store(totals_at + program * 2 + 1, tl.sum(tl.sum(entropy, 1), 0))
