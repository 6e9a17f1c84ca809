"""Read the targets of some pixels in a kernel, in the form in which they are stored.

A target is read in two steps. `open_target` loads or computes what is the same for all classes of a
pixel: its label, the number of its votes, the sum of the teacher's softmax. `read_target` then
returns the probabilities of a tile of classes. Mixtures call both for their parts.

Shapes: N images, C classes, *S space, [BLOCK_C, BLOCK_P] classes and pixels of a tile.
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


def jit(function: Callable[..., Any]) -> Any:
    """Mark a function as one that runs in a kernel."""
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


class Source(NamedTuple):
    """The data of a target; what its kind does not have is None.

    Tensors of the resolution of the image are replaced by maps before a launch.
    """

    map: Map | Tensor | None = None  # labels, votes, classes, probabilities or logits
    extra: Map | Tensor | None = (
        None  # the band, the weights of the classes, valid pixels, or the region
    )
    taps: Taps | None = None
    numbers: tuple[float, ...] | None = None
    parts: tuple[Source, ...] | None = None


class Kind(NamedTuple):
    """The compile-time constants of a target."""

    name: str  # "labels", "votes", "sparse", "probs", "teacher", "mixed", "region" or "confident"
    depth: int = 0  # number of votes, classes or parts
    ignore_index: int | None = None
    integers: bool = False  # whether probabilities other than 0 and 1 are ignored
    by_entry: bool = False  # whether single entries are ignored, not pixels
    parts: tuple[Kind, ...] | None = None
    weighs_entries: bool = False  # whether the sum of the weights is over entries, not pixels


# Maps


@jit
def at(source, image, indices, inputs, plan: tl.constexpr):
    """Point to pixels of a map (N, *S), or of the first class of a map (N, C, *S)."""
    data = source.data + image * source.strides[0]
    if plan.flat:
        return data + indices.to(tl.int64) * source.strides[3]
    rows, columns = indices // inputs.columns, indices % inputs.columns
    return data + rows.to(tl.int64) * source.strides[2] + columns.to(tl.int64) * source.strides[3]


@jit
def classes_of(t, plan: tl.constexpr):
    """Return the classes of a tile, (BLOCK_C, 1)."""
    return (t * plan.BLOCK_C + tl.arange(0, plan.BLOCK_C))[:, None]


@jit
def load_tile(first, stride, t, inside, plan: tl.constexpr):
    """Load a tile of a map, with 0 outside the range of classes or pixels."""
    classes = classes_of(t, plan)
    there = (classes < plan.C) & inside[None, :]
    return tl.load(first[None, :] + classes.to(tl.int64) * stride, mask=there, other=0)


@jit
def corners(logits, taps, image, indices, inside, inputs):
    """Return pointers to the first of four logits of each pixel, and steps and shares."""
    strides = logits.strides
    rows, columns = indices // inputs.columns, indices % inputs.columns
    row = tl.load(taps.row + rows, mask=inside, other=0).to(tl.int64)
    column = tl.load(taps.column + columns, mask=inside, other=0).to(tl.int64)
    down = tl.where(row + 1 < taps.h, 1, 0).to(tl.int64) * strides[2]
    right = tl.where(column + 1 < taps.w, 1, 0).to(tl.int64) * strides[3]
    lower = tl.load(taps.row_share + rows, mask=inside, other=0)
    latter = tl.load(taps.column_share + columns, mask=inside, other=0)
    first = logits.data + image * strides[0] + row * strides[2] + column * strides[3]
    return first, down, right, lower[None, :], latter[None, :]


@jit
def point(logits, taps, image, indices, inside, inputs, plan: tl.constexpr):
    """Point to the logits of some pixels, for `load_logits`."""
    if taps is not None:
        z_at = corners(logits, taps, image, indices, inside, inputs)
    else:
        z_at = at(logits, image, indices, inputs, plan)
    return z_at


@jit
def load_logits(z_at, logits, taps, t, inside, plan: tl.constexpr):
    """Load a tile of logits, or interpolate it."""
    stride = logits.strides[1]
    if taps is None:
        z = load_tile(z_at, stride, t, inside, plan).to(tl.float32)
    else:
        first, down, right, lower, latter = z_at
        upper, former = 1.0 - lower, 1.0 - latter
        z = upper * former * load_tile(first, stride, t, inside, plan).to(tl.float32)
        z += upper * latter * load_tile(first + right, stride, t, inside, plan).to(tl.float32)
        first += down
        z += lower * former * load_tile(first, stride, t, inside, plan).to(tl.float32)
        z += lower * latter * load_tile(first + right, stride, t, inside, plan).to(tl.float32)
    return z


@jit
def add_to_softmax(largest, total, z):
    """Update the largest logit and the sum of a softmax by a tile (online softmax)."""
    top = tl.maximum(largest, tl.max(z, 0))
    finite = tl.where(top == float("-inf"), 0.0, top)
    return top, total * tl.exp(largest - finite) + tl.sum(tl.exp(z - finite[None, :]), 0)


# Opening a target


@jit
def open_target(source, kind: tl.constexpr, image, indices, inside, inputs, plan: tl.constexpr):
    """Return what `read_target` needs of some pixels; first, which of them are valid."""
    if kind.name == "labels":
        opened = _open_labels(source, kind, image, indices, inside, inputs, plan)
    elif kind.name == "probs":
        opened = _open_probs(source, kind, image, indices, inside, inputs, plan)
    elif kind.name == "votes":
        opened = _open_votes(source, kind, image, indices, inside, inputs, plan)
    elif kind.name == "sparse":
        opened = _open_sparse(source, kind, image, indices, inside, inputs, plan)
    elif kind.name == "teacher":
        opened = _open_teacher(source, image, indices, inside, inputs, plan)
    elif kind.name == "mixed":
        opened = _open_mixed(source, kind, image, indices, inside, inputs, plan)
    elif kind.name == "region":
        opened = _open_region(source, kind, image, indices, inside, inputs, plan)
    else:
        opened = _open_confident(source, kind, image, indices, inside, inputs, plan)
    return opened


@jit
def _is_class(label, kind: tl.constexpr, plan: tl.constexpr):
    found = (label >= 0) & (label < plan.C + (plan.C == 1))
    if kind.ignore_index is not None:
        found &= label != kind.ignore_index
    return found


@jit
def _index(label, plan: tl.constexpr):
    """Return the class of a label; for a single class, label 1 is the class."""
    return (label.to(tl.int32) - (plan.C == 1))[None, :]


@jit
def _open_labels(source, kind: tl.constexpr, image, indices, inside, inputs, plan: tl.constexpr):
    label = tl.load(at(source.map, image, indices, inputs, plan), mask=inside, other=0)
    label = label.to(tl.int64)
    opened = (inside & _is_class(label, kind, plan), _index(label, plan))
    if source.numbers is not None:
        epsilon = inside.to(tl.float32) * source.numbers[0]
        if source.extra is not None:
            band = tl.load(at(source.extra, image, indices, inputs, plan), mask=inside, other=0)
            epsilon = tl.where(band != 0, epsilon, 0.0)
        opened += (epsilon[None, :],)
    return opened


@jit
def _ignored(y, kind: tl.constexpr):
    """Return `ignore_index` in the precision of the target, as torch compares them."""
    dtype: tl.constexpr = y.dtype if y.dtype.is_floating() else tl.int64
    return tl.full([1, 1], kind.ignore_index, dtype)


@jit
def _open_probs(source, kind: tl.constexpr, image, indices, inside, inputs, plan: tl.constexpr):
    first, valid = at(source.map, image, indices, inputs, plan), inside
    if not kind.by_entry:
        differs = tl.zeros([plan.BLOCK_P], tl.int32)
        strange = tl.zeros([plan.BLOCK_P], tl.int32)
        if kind.ignore_index is not None or kind.integers:
            for t in tl.static_range(plan.T):
                y, here = (
                    load_tile(first, source.map.strides[1], t, inside, plan),
                    classes_of(t, plan) < plan.C,
                )
                if kind.ignore_index is not None:
                    differs |= tl.max(((y != _ignored(y, kind)) & here).to(tl.int32), 0)
                if kind.integers:
                    strange |= tl.max(((y != 0) & (y != 1)).to(tl.int32), 0)
        if kind.ignore_index is not None:
            valid &= differs != 0
        valid &= strange == 0
    return valid, first


@jit
def _open_votes(source, kind: tl.constexpr, image, indices, inside, inputs, plan: tl.constexpr):
    first = at(source.map, image, indices, inputs, plan)
    voters, vote_at = tl.zeros([plan.BLOCK_P], tl.float32), first
    for _ in range(kind.depth):
        vote = tl.load(vote_at, mask=inside, other=0).to(tl.int64)
        voters += _is_class(vote, kind, plan).to(tl.float32)
        vote_at += source.map.strides[1]
    return inside & (voters > 0), first, (1.0 / tl.maximum(voters, 1.0))[None, :]


@jit
def _open_sparse(source, kind: tl.constexpr, image, indices, inside, inputs, plan: tl.constexpr):
    first = at(source.map, image, indices, inputs, plan)
    weights_at = at(source.extra, image, indices, inputs, plan)
    valid, total, class_at, w_at = inside, tl.zeros([plan.BLOCK_P], tl.float32), first, weights_at
    for _ in range(kind.depth):
        valid &= _is_class(tl.load(class_at, mask=inside, other=0).to(tl.int64), kind, plan)
        total += tl.load(w_at, mask=inside, other=0).to(tl.float32) * source.numbers[0]
        class_at += source.map.strides[1]
        w_at += source.extra.strides[1]
    # Spreading a rounding error over all classes would make every class present.
    whole = total > 1.0 - source.numbers[1]
    scale = source.numbers[0] / tl.where(whole, total, 1.0)
    rest = tl.where(whole, 0.0, (1.0 - total) / plan.C)
    return valid, first, weights_at, scale[None, :], rest[None, :]


@jit
def _open_teacher(source, image, indices, inside, inputs, plan: tl.constexpr):
    z_at, valid = point(source.map, source.taps, image, indices, inside, inputs, plan), inside
    if source.extra is not None:
        mask_at = at(source.extra, image, indices, inputs, plan)
        valid &= tl.load(mask_at, mask=inside, other=0) != 0
    largest = tl.full([plan.BLOCK_P], float("-inf"), tl.float32)
    total = tl.zeros([plan.BLOCK_P], tl.float32)
    for t in range(plan.T):
        z = _scores(z_at, source, t, inside, plan)
        largest, total = add_to_softmax(largest, total, z)
    return valid, z_at, largest[None, :], (1.0 / total)[None, :]


@jit
def _scores(z_at, source, t, inside, plan: tl.constexpr):
    """Return the teacher's logits, divided by the temperature."""
    z = load_logits(z_at, source.map, source.taps, t, inside, plan) * source.numbers[0]
    return tl.where(classes_of(t, plan) < plan.C, z, float("-inf"))


@jit
def _open_mixed(source, kind: tl.constexpr, image, indices, inside, inputs, plan: tl.constexpr):
    parts, mass = (), tl.zeros([plan.BLOCK_P], tl.float32)
    for i in tl.static_range(kind.depth):
        part = open_target(source.parts[i], kind.parts[i], image, indices, inside, inputs, plan)
        mass += tl.where(part[0], source.numbers[i], 0.0)
        parts += (part,)
    valid = mass > 0
    return valid, parts, (1.0 / tl.where(valid, mass, 1.0))[None, :]


@jit
def _open_region(source, kind: tl.constexpr, image, indices, inside, inputs, plan: tl.constexpr):
    region_at = at(source.extra, image, indices, inputs, plan)
    region = tl.load(region_at, mask=inside, other=0) != 0
    one = open_target(source.parts[0], kind.parts[0], image, indices, inside, inputs, plan)
    other = open_target(source.parts[1], kind.parts[1], image, indices, inside, inputs, plan)
    return (region & one[0]) | (~region & other[0]), region[None, :], one, other


@jit
def _open_confident(source, kind: tl.constexpr, image, indices, inside, inputs, plan: tl.constexpr):
    inner = open_target(source.parts[0], kind.parts[0], image, indices, inside, inputs, plan)
    top = tl.full([plan.BLOCK_P], float("-inf"), tl.float32)
    for t in range(plan.T):
        y = read_target(inner, source.parts[0], kind.parts[0], t, inside, plan)
        top = tl.maximum(top, tl.max(tl.where(classes_of(t, plan) < plan.C, y, float("-inf")), 0))
    total = tl.zeros([plan.BLOCK_P], tl.float32)
    for t in range(plan.T):
        y = read_target(inner, source.parts[0], kind.parts[0], t, inside, plan)
        total += tl.sum(_sharpened(y, top[None, :], source, kind, t, plan), 0)
    inverse = 1.0 / tl.where(total > 0, total, 1.0)
    return inner[0] & (top >= source.numbers[0]), inner, top[None, :], inverse[None, :]


@jit
def _sharpened(y, top, source, kind: tl.constexpr, t, plan: tl.constexpr):
    """Return probabilities before they are divided by their sum: 1 for the largest, or powers."""
    if kind.depth == 1:
        kept = (y >= top) & (y > 0)
        found = kept.to(tl.float32)
    else:
        # Divide first: otherwise powers of small numbers could all underflow to 0.
        y = y / tl.where(top > 0, top, 1.0)
        found = tl.where(y > 0, tl.exp(tl.log(tl.where(y > 0, y, 1.0)) * source.numbers[1]), 0.0)
    return tl.where(classes_of(t, plan) < plan.C, found, 0.0)


# Reading a target


@jit
def read_target(opened, source, kind: tl.constexpr, t, inside, plan: tl.constexpr):
    """Return the probabilities of a tile; arbitrary where not valid."""
    if kind.name == "labels":
        y = _read_labels(opened, source, t, plan)
    elif kind.name == "probs":
        y = load_tile(opened[1], source.map.strides[1], t, inside, plan).to(tl.float32)
    elif kind.name == "votes":
        y = _read_votes(opened, source, kind, t, inside, plan)
    elif kind.name == "sparse":
        y = _read_sparse(opened, source, kind, t, inside, plan)
    elif kind.name == "teacher":
        y = tl.exp(_scores(opened[1], source, t, inside, plan) - opened[2]) * opened[3]
    elif kind.name == "mixed":
        y = tl.zeros([plan.BLOCK_C, plan.BLOCK_P], tl.float32)
        for i in tl.static_range(kind.depth):
            part = opened[1][i]
            values = read_target(part, source.parts[i], kind.parts[i], t, inside, plan)
            y += tl.where(part[0][None, :], source.numbers[i] * values, 0.0)
        y = y * opened[2]
    elif kind.name == "region":
        one = read_target(opened[2], source.parts[0], kind.parts[0], t, inside, plan)
        other = read_target(opened[3], source.parts[1], kind.parts[1], t, inside, plan)
        y = tl.where(opened[1], one, other)
    else:
        y = read_target(opened[1], source.parts[0], kind.parts[0], t, inside, plan)
        y = _sharpened(y, opened[2], source, kind, t, plan) * opened[3]
    return y


@jit
def read_entries(opened, w, source, kind: tl.constexpr, t, inside, plan: tl.constexpr):
    """Return the probabilities of a tile, and the weights without ignored entries."""
    if kind.by_entry:
        loaded = load_tile(opened[1], source.map.strides[1], t, inside, plan)
        if kind.ignore_index is not None:
            w = tl.where(loaded == _ignored(loaded, kind), 0.0, w)
        if kind.integers:
            w = tl.where((loaded == 0) | (loaded == 1), w, 0.0)
        y = loaded.to(tl.float32)
    else:
        y = read_target(opened, source, kind, t, inside, plan)
    return tl.where(w > 0, y, 0.0), w  # 0 * NaN is NaN


@jit
def _read_labels(opened, source, t, plan: tl.constexpr):
    y = (classes_of(t, plan) == opened[1]).to(tl.float32)
    if source.numbers is not None:
        y = y * (1.0 - opened[2]) + opened[2] / plan.C
    return y


@jit
def _read_votes(opened, source, kind: tl.constexpr, t, inside, plan: tl.constexpr):
    y, vote_at = tl.zeros([plan.BLOCK_C, plan.BLOCK_P], tl.float32), opened[1]
    for _ in range(kind.depth):
        vote = tl.load(vote_at, mask=inside, other=0).to(tl.int64)
        chosen = (classes_of(t, plan) == _index(vote, plan)) & _is_class(vote, kind, plan)[None, :]
        y += chosen.to(tl.float32)
        vote_at += source.map.strides[1]
    return y * opened[2]


@jit
def _read_sparse(opened, source, kind: tl.constexpr, t, inside, plan: tl.constexpr):
    y = tl.zeros([plan.BLOCK_C, plan.BLOCK_P], tl.float32)
    class_at, w_at = opened[1], opened[2]
    for _ in range(kind.depth):
        index = tl.load(class_at, mask=inside, other=0).to(tl.int32)[None, :]
        w = tl.load(w_at, mask=inside, other=0).to(tl.float32)[None, :]
        y += tl.where(classes_of(t, plan) == index, w, 0.0)
        class_at += source.map.strides[1]
        w_at += source.extra.strides[1]
    return y * opened[3] + opened[4]
