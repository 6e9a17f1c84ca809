"""The pass for CPUs in compiled C code, tile by tile: any activation, any targets.

`native.c` is compiled when the package is built; this file passes pointers and strides to it. Most
targets are read in place. Confident, mixed, pasted and user-defined targets are read in Python, for
a few units of work at a time.

Shapes: N images, C classes, *S space, viewed as rows x columns, K targets.
"""

import ctypes
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from ctypes import POINTER, byref, c_double, c_float, c_int32, c_int64, c_void_p
from functools import lru_cache
from math import prod
from typing import Any, NamedTuple

import torch
from torch import Tensor

from softiou import targets
from softiou._native import FLOATS, TYPES, load_library
from softiou.overlap.job import Job, Sums
from softiou.targets.neighbours import gaussian_weights
from softiou.tiles import Bilinear, Tile

_SUMS = 9  # P, Y, D, M, T, E, F, P_MAX, Y_MAX


class _Kind(NamedTuple):
    """A kind of target that the compiled code reads in place."""

    number: int  # as in native.c
    leading: int  # number of dimensions before the space
    tensors: tuple[str, ...]  # names of its tensors


_KINDS: dict[type[targets.Target], _Kind] = {
    targets.HardTarget: _Kind(0, 1, ("labels",)),
    targets.SmoothedTarget: _Kind(0, 1, ("labels",)),
    targets.DenseTarget: _Kind(1, 2, ("values",)),
    targets.VotesTarget: _Kind(2, 2, ("masks",)),
    targets.SparseTarget: _Kind(3, 2, ("indices", "weights")),
    targets.GaussianTarget: _Kind(4, 1, ("labels",)),
    targets.TeacherTarget: _Kind(5, 2, ("logits",)),
}
_ACTIVATIONS = {"softmax": 0, "sigmoid": 1, "none": 2}
# Entries (C T) of a tile, so that it fits in the second-level cache with its buffers.
_ENTRIES = 2**16


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", c_void_p),
        *((name, c_int64) for name in ("image", "channel", "row", "column", "type")),
    ]


class _Taps(ctypes.Structure):
    _fields_ = [
        *((name, c_int64) for name in ("h", "w")),
        *((name, c_void_p) for name in ("row_first", "row_share", "column_first", "column_share")),
    ]


class _Target(ctypes.Structure):
    _fields_ = [
        ("kind", c_int64),
        ("values", _Tensor),
        ("ignores", c_int64),
        ("ignore", c_int64),
        ("independent", c_int64),
        ("epsilon", c_double),
        ("flags", _Tensor),
        ("shares", _Tensor),
        ("depth", c_int64),
        ("window", c_void_p),
        ("low", _Taps),
    ]


class _Job(ctypes.Structure):
    _fields_ = [
        *((name, c_int64) for name in ("N", "C", "rows", "columns", "K")),
        ("low", _Taps),
        *((name, _Tensor) for name in ("logits", "valid", "weights")),
        ("targets", POINTER(_Target)),
        *(
            (name, c_int64)
            for name in ("activation", "cross_entropy", "maxima", "tile", "units", "threads")
        ),
        *((name, c_double) for name in ("smoothing", "gamma")),
        ("invalid", c_void_p),
        *((name, c_int64) for name in ("first", "last")),
        *((name, c_void_p) for name in ("sums", "weights_of", "slopes", "zeros")),
        ("gradient", _Tensor),
        ("shared_rows", c_void_p),
    ]


def library() -> Any:
    """Return the compiled library, or the reason why it is not available."""
    return load_library("overlap")


def unsupported_reason(job: Job) -> str | None:
    """Return why this implementation does not support a job; None if it does."""
    if job.logits.device.type != "cpu":
        return "The logits are not on the CPU."
    if job.logits.dtype not in FLOATS:
        return f"It computes in float32, but the logits are {job.logits.dtype}."
    grid, in_place = _layout(job)
    if len(job.size) != 2 and not all(in_place):
        return "Targets other than labels and probabilities need two spatial dimensions."
    if grid is None:
        return "The tensors cannot be viewed as rows and columns without a copy."
    compiled = library()
    return compiled if isinstance(compiled, str) else None


def gather(job: Job) -> Sums:
    """Compute the sums of a job."""
    call = job.cache["call"] = _Call(job)
    K, N, C = len(job.targets), job.shape[0], job.num_classes
    units = N * call.job.units * K
    sums = (c_double * (units * (C * _SUMS + 1)))()  # zeros, faster than torch.zeros
    call.job.sums = start = ctypes.addressof(sums)
    call.job.weights_of = start + 8 * units * C * _SUMS
    call.run(job, "softiou_gather")
    job.cache["invalid"] = call.invalid.value
    masses, weights = _empty(job.rows * K, N, C), _empty(K, N)
    maxima = _empty(2 * K, N, C) if job.settings.maxima else None
    pointers = (c_void_p(x if x is None else x.data_ptr()) for x in (masses, maxima, weights))
    library().softiou_total(byref(call.job), *pointers)
    return Sums(masses, maxima, weights)


def gradient(job: Job, cotangents: Tensor) -> Tensor:
    """Compute the gradient of the logits, in their dtype and memory layout."""
    call = job.cache.get("call")
    if call is None or call.key != _key(job.logits):  # the logits have been copied in between
        job.cache.clear()
        call = _Call(job)
    result = torch.empty_like(job.logits)
    call.job.gradient = call.logits(result)
    cotangents = cotangents.float().contiguous()
    call.job.slopes = cotangents.data_ptr()
    if job.bilinear is not None:
        N, C, _, w = job.logits.shape
        shared_rows = _empty(N, call.job.units, 2, C, w)
        call.job.shared_rows = shared_rows.data_ptr()
    call.run(job, "softiou_gradient", c_int64(result.numel() * result.element_size()))
    if job.bilinear is not None:
        library().softiou_join(byref(call.job))
    return result


def _empty(*shape: int) -> Tensor:
    return torch.empty(shape, dtype=torch.float32, device="cpu")


def _key(x: Tensor) -> tuple[int, tuple[int, ...]]:
    """Return the address and the strides of a tensor."""
    return x.data_ptr(), x.stride()


def _in_place(job: Job, target: targets.Target) -> bool:
    """Whether the compiled code reads a target's own memory."""
    kind = _KINDS.get(type(target))
    if kind is None or any(getattr(target, name).dtype not in TYPES for name in kind.tensors):
        return False
    if isinstance(target, targets.DenseTarget):
        return _holds(target.values.dtype, target.ignore_index)
    if isinstance(target, targets.TeacherTarget) and target.logits.shape[1] != job.num_classes:
        return False
    return len(job.size) == 2 or not _is_spatial(target)


def _is_spatial(target: targets.Target) -> bool:
    """Whether reading a target needs the rows and columns of the image."""
    return isinstance(target, targets.GaussianTarget) or (
        isinstance(target, targets.TeacherTarget) and target.interpolated
    )


@lru_cache
def _holds(dtype: torch.dtype, value: int | None) -> bool:
    """Whether a dtype represents a number exactly; bfloat16 cannot represent 257."""
    if value is None or not dtype.is_floating_point:
        return True
    return float(torch.tensor(float(value), dtype=dtype, device="cpu")) == value


def _layout(job: Job) -> tuple[tuple[int, int] | None, list[bool]]:
    """Return the `_grid` of a job, and which of its targets are read in place."""
    if "layout" not in job.cache:
        in_place = [_in_place(job, target) for target in job.targets]
        job.cache["layout"] = _grid(job, in_place), in_place
    return job.cache["layout"]  # type: ignore[no-any-return]


def _grid(job: Job, in_place: list[bool]) -> tuple[int, int] | None:
    """Return the rows and columns as which all tensors can be viewed without a copy, or None."""
    maps = [(x, 1) for x in (job.valid, job.weights) if x is not None]
    read = [target for target, own in zip(job.targets, in_place, strict=True) if own]
    for target in read:
        kind = _KINDS[type(target)]
        maps += [(getattr(target, name), kind.leading) for name in kind.tensors]
    if job.bilinear is None:
        maps.append((job.logits, 2))
    *outer, columns = job.size
    grids = [(prod(outer), columns)]
    if job.bilinear is None and all(in_place) and not any(map(_is_spatial, read)):
        grids.insert(0, (1, prod(job.size)))
    strided = [one for one in maps if not one[0].is_contiguous()]  # contiguous ones always can
    return next((g for g in grids if all(_steps(x, n, g) is not None for x, n in strided)), None)


def _steps(x: Tensor, leading: int, grid: tuple[int, int]) -> tuple[int, int] | None:
    """Return the strides of rows and columns after the leading dimensions; None if impossible."""
    if x.is_contiguous():  # a short cut for the most frequent case
        return grid[1], 1
    sizes, strides = x.shape[leading:], x.stride()[leading:]
    if grid[0] == 1:
        column = _step(sizes, strides)
        return None if column is None else (0, column)
    row = _step(sizes[:-1], strides[:-1])
    return None if row is None else (row, strides[-1])


def _step(sizes: Sequence[int], strides: Sequence[int]) -> int | None:
    """Return the stride of several dimensions merged into one; None if they cannot be merged."""
    step, following = 1, None
    for size, stride in zip(reversed(sizes), reversed(strides), strict=True):
        if size == 1:
            continue
        if following is None:
            step = stride
        elif stride != following:
            return None
        following = size * stride
    return step


@lru_cache(maxsize=64)
def _tap_arrays(bilinear: Bilinear) -> list[ctypes.Array[Any]]:
    """Convert the taps of rows and columns to C arrays."""
    arrays: list[ctypes.Array[Any]] = []
    for taps in bilinear.taps:
        size = len(taps.first)
        arrays += [(c_int32 * size)(*taps.first), (c_float * size)(*taps.share)]
    return arrays


def _taps(bilinear: Bilinear) -> _Taps:
    """Return the C structure of an interpolation; the caller must keep its arrays alive."""
    return _Taps(*bilinear.source, *(ctypes.addressof(array) for array in _tap_arrays(bilinear)))


@lru_cache(maxsize=64)
def _window(sigma: float, width: int) -> ctypes.Array[Any]:
    """Return the weights of a Gaussian as a C array, row by row."""
    weights = dict(gaussian_weights(sigma, width, 2))
    return (c_float * len(weights))(*(weights[offset] for offset in sorted(weights)))


class _Call:
    """The C structure of a job, without its outputs; it is valid for logits with the same `key`."""

    def __init__(self, job: Job) -> None:
        (grid, self._in_place), N, C = _layout(job), job.shape[0], job.num_classes
        if grid is None:
            raise RuntimeError("Expected a job that is supported.")
        self._kept: list[object] = []
        self._grid, (rows, columns) = grid, grid
        tile = job.settings.tile or max(64, min(1024, _ENTRIES // C // 16 * 16))
        tile = min(tile, max(columns, 1))
        self.job = _Job(N, C, rows, columns, len(job.targets), tile=tile)
        self._pieces = rows * -(-columns // tile)
        if job.bilinear is not None:  # the units are divided by source rows
            self.job.low = _taps(job.bilinear)
            self._kept.append(_tap_arrays(job.bilinear))
            self._pieces = max(1, job.bilinear.source[0] - 1)
        # More units than threads, to balance the load; the result does not depend on the threads.
        self.job.units = max(1, min(self._pieces, -(-64 // max(N, 1))))
        self.key, self.job.logits = _key(job.logits), self.logits(job.logits)
        if job.valid is not None:
            self.job.valid = self._map(job.valid, 1)
        if job.weights is not None:
            floats = job.weights.dtype in FLOATS
            weights = job.weights if floats else job.weights.float()
            self._kept.append(weights)
            self.job.weights = self._map(weights, 1)
        described = (
            self._target(job, y) if own else _Target()
            for y, own in zip(job.targets, self._in_place, strict=True)
        )
        self._targets = (_Target * len(job.targets))(*described)
        self.job.targets = self._targets
        settings = job.settings
        self.job.cross_entropy, self.job.maxima = settings.cross_entropy, settings.maxima
        self.job.activation = _ACTIVATIONS[settings.activation]
        self.job.smoothing, self.job.gamma = settings.label_smoothing, settings.focal_gamma
        self.invalid = c_int64(0)
        self.job.invalid = ctypes.addressof(self.invalid)
        # Starting threads takes longer than the work on a few thousand entries.
        self.job.threads = 1 if N * C * rows * columns < 2**16 else torch.get_num_threads()

    def run(self, job: Job, name: str, *arguments: object) -> None:
        """Call a function of the compiled library for all units."""
        if self.job.N == 0 or self.job.rows * self.job.columns == 0:
            return
        function = getattr(library(), name)
        for first, last in self._groups(job):
            self.job.first, self.job.last = first, last
            if function(byref(self.job), *arguments):
                raise MemoryError("no memory for the tiles of the overlap statistics")

    def logits(self, x: Tensor) -> _Tensor:
        """Return the C structure of the logits or their gradient, at either resolution."""
        if self.job.low.h:
            return _Tensor(x.data_ptr(), *x.stride(), TYPES[x.dtype])
        return self._map(x, 2)

    def _groups(self, job: Job) -> Iterator[tuple[int, int]]:
        """Yield ranges of units for one call each; targets read in Python need several calls."""
        units, threads = self.job.units, self.job.threads
        read = [k for k, own in enumerate(self._in_place) if not own]
        if not read:
            yield 0, self.job.N * units
            return
        for image in range(self.job.N):
            for start in range(0, units, threads):
                stop = min(start + threads, units)
                rows = self._rows(job.bilinear, start, stop)
                tile = Tile(image, (rows, slice(0, self.job.columns)))
                # Units may have no rows if the image has fewer rows than the logits.
                kept = [self._read(job, k, tile) for k in read] if tile.pixels else []
                yield image * units + start, image * units + stop
                del kept

    def _rows(self, bilinear: Bilinear | None, start: int, stop: int) -> slice:
        """Return the rows of the image that belong to the units from `start` to `stop`."""
        first, last = (self._pieces * unit // self.job.units for unit in (start, stop))
        if bilinear is None:
            per_row = -(-self.job.columns // self.job.tile)
            return slice(first // per_row, -(-last // per_row))
        sources = bilinear.taps[0].first
        return slice(bisect_left(sources, first), bisect_left(sources, last))

    def _read(self, job: Job, k: int, tile: Tile) -> targets.SoftTile:
        """Read the probabilities of some rows, and make the C structure of the target use them."""
        target, C, columns = job.targets[k], job.num_classes, self.job.columns
        read = target.read(tile, C, job.dtype).dense(C, job.dtype)
        y, valid = read.y.contiguous(), read.valid
        if tuple(y.shape) != (C, tile.pixels):
            raise ValueError(
                f"Expected {type(target).__name__}.read to return probabilities of shape "
                f"(C, T) = {(C, tile.pixels)}, but got {tuple(y.shape)}."
            )
        # Offset the pointer, because the first row in memory is not row 0 of the image.
        before = tile.box[0].start * columns
        described = self._targets[k]
        described.kind = 1
        described.values = _Tensor(y.data_ptr() - 4 * before, 0, y.shape[1], columns, 1, 0)
        described.flags = _Tensor()
        if valid is not None:
            job.check_valid(by_class=valid.ndim == 2)
            valid = valid.contiguous()
            channel = y.shape[1] if valid.ndim == 2 else 0
            described.flags = _Tensor(valid.data_ptr() - before, 0, channel, columns, 1, 3)
        return targets.SoftTile(y, valid)

    def _target(self, job: Job, target: targets.Target) -> _Target:
        """Return the C structure of a target that is read in place."""
        kind = _KINDS[type(target)]
        values: Tensor = getattr(target, kind.tensors[0])
        ignore = getattr(target, "ignore_index", None)
        described = _Target(kind.number, ignores=ignore is not None, ignore=ignore or 0)
        if isinstance(target, targets.TeacherTarget):
            self._teacher(target, described)
            return described
        described.values = self._map(values, kind.leading)
        if isinstance(target, targets.DenseTarget) and target.independent:
            described.independent = ignore is not None or not (
                values.is_floating_point() or values.dtype == torch.bool
            )
            job.check_valid(by_class=bool(described.independent))
        elif isinstance(target, targets.VotesTarget):
            described.depth = values.shape[1]
        elif isinstance(target, targets.SparseTarget):
            described.depth, described.epsilon = values.shape[1], target.rounding
            described.shares = self._map(target.weights, 2)
        elif isinstance(target, targets.GaussianTarget):
            window = _window(target.sigma, target.width)
            described.depth, described.window = target.width, ctypes.addressof(window)
            self._kept.append(window)
        elif isinstance(target, targets.SmoothedTarget):
            described.epsilon = target.epsilon
            band = target.with_band(job.num_classes).band
            if band is not None:
                self._kept.append(band := band.contiguous())
                described.flags = self._map(band, 1)
        return described

    def _teacher(self, target: targets.TeacherTarget, described: _Target) -> None:
        x = target.logits
        described.epsilon = 1 / target.temperature
        if target.interpolated:
            height, width = target.shape[1:]
            bilinear = Bilinear((x.shape[2], x.shape[3]), (height, width), target.align_corners)
            self._kept.append(_tap_arrays(bilinear))
            described.low = _taps(bilinear)
            described.values = _Tensor(x.data_ptr(), *x.stride(), TYPES[x.dtype])
        else:
            described.values = self._map(x, 2)
        if target.valid is not None:
            self._kept.append(valid := target.valid.contiguous())
            described.flags = self._map(valid, 1)

    def _map(self, x: Tensor, leading: int) -> _Tensor:
        """Return the C structure of a tensor with one or two leading dimensions before *S."""
        steps = _steps(x, leading, self._grid)
        if steps is None:
            raise RuntimeError("Expected tensors that can be seen as rows and columns.")
        channel = x.stride(1) if leading == 2 else 0
        return _Tensor(x.data_ptr(), x.stride(0), channel, *steps, TYPES[x.dtype])
