"""The pass for CPUs in compiled tiles: a softmax against any targets.

The arithmetic is in `native.c`, which is compiled on first use; this file hands it pointers and
strides, and adds up what its units of work return. Labels, smoothed labels and probabilities are
read where they lie; other targets are read in Python, for a few units of work at a time.

Shapes: N images, C classes, *S space, seen as rows x columns, K targets.
"""

import ctypes
from bisect import bisect_left
from collections.abc import Iterator, Sequence
from ctypes import POINTER, byref, c_double, c_float, c_int32, c_int64, c_void_p, cast
from math import prod
from typing import Any

import torch
from torch import Tensor

from softiou._compile import load_library
from softiou.overlap.job import Cotangents, Job, Sums
from softiou.targets import DenseTarget, HardTarget, SmoothedTarget, SoftTile, Target
from softiou.tiles import Tile

_TYPES = {
    torch.float32: 0,
    torch.bfloat16: 1,
    torch.float16: 2,
    torch.uint8: 3,
    torch.bool: 3,
    torch.int8: 4,
    torch.int16: 5,
    torch.int32: 6,
    torch.int64: 7,
}
_FLOATS = (torch.float32, torch.bfloat16, torch.float16)
_SUMS = 6  # P, Y, D, M, P_MAX, Y_MAX
# Entries (C T) of a tile: it stays in the second-level cache with its buffers.
_ENTRIES = 2**16


class _Tensor(ctypes.Structure):
    _fields_ = [
        ("data", c_void_p),
        *((name, c_int64) for name in ("image", "channel", "row", "column", "type")),
    ]


class _Target(ctypes.Structure):
    _fields_ = [
        ("kind", c_int64),
        ("values", _Tensor),
        ("ignores", c_int64),
        ("ignore", c_int64),
        ("epsilon", c_double),
        ("where", _Tensor),
    ]


class _Job(ctypes.Structure):
    _fields_ = [
        *((name, c_int64) for name in ("N", "C", "rows", "columns", "K", "h", "w")),
        ("row_first", POINTER(c_int32)),
        ("column_first", POINTER(c_int32)),
        ("row_share", POINTER(c_float)),
        ("column_share", POINTER(c_float)),
        *((name, _Tensor) for name in ("logits", "valid", "weights")),
        ("targets", POINTER(_Target)),
        *(
            (name, c_int64)
            for name in ("cross_entropy", "maxima", "tile", "units", "threads", "first", "last")
        ),
        ("sums", POINTER(c_double)),
        ("totals", POINTER(c_double)),
        *((name, POINTER(c_float)) for name in ("dP", "dD", "dM", "dE")),
        ("gradient", _Tensor),
        ("borders", POINTER(c_float)),
    ]


def unsupported_reason(job: Job) -> str | None:
    """Say why a job cannot be done here; None when it can."""
    if job.logits.device.type != "cpu":
        return "The logits are not on the CPU."
    if job.logits.dtype not in _FLOATS:
        return f"It computes in float32, and the logits are {job.logits.dtype}."
    if job.activation != "softmax":
        return f"It knows a softmax alone, not activation={job.activation!r}."
    if len(job.size) != 2 and not all(_in_place(target) for target in job.targets):
        return "It reads targets other than labels and probabilities for pictures alone."
    if _grid(job) is None:
        return "The memory layout of the space is too irregular."
    library = load_library("softiou.overlap", "native.c")
    return library if isinstance(library, str) else None


def gather(job: Job) -> Sums:
    """Gather the sums of a job."""
    call = _Call(job)
    K, (N, *_), C = len(job.targets), job.shape, job.num_classes
    exact: dict[str, Any] = {"dtype": torch.float64, "device": "cpu"}
    sums = torch.zeros(N, call.job.units, K, C, _SUMS, **exact)
    totals = torch.zeros(N, call.job.units, K, 2, **exact)
    call.job.sums, call.job.totals = call.pointer(sums), call.pointer(totals)
    call.run("softiou_gather")
    masses = sums[..., :4].sum(1).movedim(-1, 0).transpose(1, 2)  # (N, U, K, C, 6) -> (4, K, N, C)
    maxima = sums[..., 4:].amax(1).movedim(-1, 0).transpose(1, 2)
    return Sums(
        masses.to(job.dtype).contiguous(),
        maxima.to(job.dtype).contiguous(),
        totals.sum(1).permute(2, 1, 0).to(job.dtype).contiguous(),
    )


def gradient(job: Job, cotangents: Cotangents) -> Tensor:
    """Compute the gradient of the logits, in their dtype and memory layout."""
    result = torch.empty_like(job.logits)
    call = _Call(job, result)
    P, _, D, M = (x.contiguous() for x in cotangents.masses.float())
    call.job.dP, call.job.dD, call.job.dM = call.pointer(P), call.pointer(D), call.pointer(M)
    call.job.dE = call.pointer(cotangents.cross_entropy.float().contiguous())
    if job.bilinear is not None:
        N, C, _, w = job.logits.shape
        borders = torch.empty(N, call.job.units, 2, C, w, dtype=torch.float32, device="cpu")
        call.job.borders = call.pointer(borders)
    size = result.numel() * result.element_size()
    call.run("softiou_gradient", call.pointer((P + D)[0].contiguous()), c_int64(size))
    if job.bilinear is not None:
        call.library.softiou_join(byref(call.job))
    return result


def _in_place(target: Target) -> bool:
    """Whether the compiled code reads a target's own memory."""
    if isinstance(target, HardTarget | SmoothedTarget):
        return target.labels.dtype in _TYPES
    return (
        isinstance(target, DenseTarget)
        and not target.independent
        and target.values.dtype in _FLOATS
        and _holds(target.values.dtype, target.ignore_index)
    )


def _holds(dtype: torch.dtype, value: int | None) -> bool:
    """Whether a dtype holds a number as it is: bfloat16 has no 257."""
    return value is None or float(torch.tensor(float(value), dtype=dtype, device="cpu")) == value


def _values(target: Target) -> Tensor:
    return target.values if isinstance(target, DenseTarget) else target.labels  # type: ignore[attr-defined]


def _grid(job: Job) -> tuple[int, int] | None:
    """Return rows and columns that all tensors can be seen as without a copy, or None."""
    maps = [x for x in (job.valid, job.weights) if x is not None]
    channels: list[Tensor] = [] if job.bilinear is not None else [job.logits]
    own = [target for target in job.targets if _in_place(target)]
    for target in own:
        (channels if isinstance(target, DenseTarget) else maps).append(_values(target))
    *outer, columns = job.size
    grids = [(prod(outer), columns)]
    if job.bilinear is None and len(own) == len(job.targets):
        grids.insert(0, (1, prod(job.size)))
    for rows, length in grids:
        if all(_flattens(x, 2, rows, length) for x in channels) and all(
            _flattens(x, 1, rows, length) for x in maps
        ):
            return rows, length
    return None


def _flattens(x: Tensor, leading: int, rows: int, columns: int) -> bool:
    try:
        x.view(*x.shape[:leading], rows, columns)
    except RuntimeError:
        return False
    return True


class _Call:
    """The structure of a call, and the tensors that its pointers point into."""

    def __init__(self, job: Job, gradient: Tensor | None = None) -> None:
        grid, library = _grid(job), load_library("softiou.overlap", "native.c")
        if grid is None or isinstance(library, str):
            raise RuntimeError("a job that was to be refused")
        self.library = library
        self._kept: list[object] = []
        self._grid, self._described = grid, job
        rows, columns = grid
        N, C = job.shape[0], job.num_classes
        tile = job.tile or max(64, min(1024, _ENTRIES // C // 16 * 16))
        tile = min(tile, max(columns, 1))
        self.job = _Job(N=N, C=C, rows=rows, columns=columns, K=len(job.targets), tile=tile)
        self._pieces = rows * -(-columns // tile)
        if job.bilinear is None:
            self.job.logits = self._channels(job.logits)
            if gradient is not None:
                self.job.gradient = self._channels(gradient)
        else:
            self._pieces = self._interpolate(job, gradient)
        # More units than threads balance the load; their number does not depend on the threads.
        self.job.units = max(1, min(self._pieces, -(-64 // max(N, 1))))
        self.job.valid, self.job.weights = self._map(job.valid), self._weights(job.weights)
        self._targets = (_Target * len(job.targets))(*(self._target(y) for y in job.targets))
        self.job.targets = cast(self._targets, POINTER(_Target))
        self.job.cross_entropy, self.job.maxima = job.cross_entropy, job.maxima
        entries = N * C * rows * columns
        self.job.threads = 1 if entries < 2**16 else torch.get_num_threads()

    def run(self, function: str, *arguments: object) -> None:
        """Call a function of the library for all units."""
        if self.job.N == 0 or self.job.rows * self.job.columns == 0:
            return
        for first, last in self._groups():
            self.job.first, self.job.last = first, last
            if getattr(self.library, function)(byref(self.job), *arguments):
                raise MemoryError("no memory for the tiles of the overlap statistics")

    def pointer(self, x: Tensor) -> Any:
        """Return a pointer to a contiguous float32 or float64 tensor, which is kept alive."""
        self._kept.append(x)
        kinds: dict[torch.dtype, Any] = {torch.float32: c_float, torch.float64: c_double}
        return cast(x.data_ptr(), POINTER(kinds[x.dtype]))

    def _groups(self) -> Iterator[tuple[int, int]]:
        """Divide the units into those that are done in one call.

        All of them, unless a target has to be read in Python first: then as many of one image as
        there are threads, so that its probabilities are in memory for these alone.
        """
        units, threads = self.job.units, self.job.threads
        read = [k for k, y in enumerate(self._described.targets) if not _in_place(y)]
        if not read:
            yield 0, self.job.N * units
            return
        for image in range(self.job.N):
            for start in range(0, units, threads):
                stop = min(start + threads, units)
                rows = self._rows(start, stop)
                tile = Tile(image, (rows, slice(0, self.job.columns)))
                # Units have no rows where the image has fewer than the logits.
                kept = [self._read(k, tile) for k in read] if tile.pixels else []
                yield image * units + start, image * units + stop
                del kept

    def _rows(self, start: int, stop: int) -> slice:
        """Return the rows of the image that the units from `start` to `stop` need."""
        first, last = (self._pieces * unit // self.job.units for unit in (start, stop))
        bilinear = self._described.bilinear
        if bilinear is None:
            per_row = -(-self.job.columns // self.job.tile)
            return slice(first // per_row, -(-last // per_row))
        sources = bilinear.taps[0].first
        return slice(bisect_left(sources, first), bisect_left(sources, last))

    def _read(self, k: int, tile: Tile) -> SoftTile:
        """Read the probabilities of some rows, and let the target's structure point to them."""
        job = self._described
        read = (
            job.targets[k].read(tile, job.num_classes, job.dtype).dense(job.num_classes, job.dtype)
        )
        y, counts, columns = read.y.contiguous(), read.valid, self.job.columns
        if tuple(y.shape) != (job.num_classes, tile.pixels):
            raise ValueError(
                f"Expected {type(job.targets[k]).__name__}.read to return probabilities of shape "
                f"(C, T) = {(job.num_classes, tile.pixels)}, but got {tuple(y.shape)}."
            )
        # The first row in memory is not row 0 of the image.
        before = tile.box[0].start * columns
        described = self._targets[k]
        described.kind = 1
        described.values = _Tensor(y.data_ptr() - 4 * before, 0, y.shape[1], columns, 1, 0)
        described.where = _Tensor()
        if counts is not None:
            job.check_valid(by_class=counts.ndim == 2)
            counts = counts.contiguous()
            described.where = _Tensor(counts.data_ptr() - before, 0, 0, columns, 1, 3)
        return SoftTile(y, counts)

    def _interpolate(self, job: Job, gradient: Tensor | None) -> int:
        """Describe low-resolution logits; return how many source rows there are to share out."""
        bilinear = job.bilinear
        if bilinear is None:
            raise RuntimeError("logits of full resolution")
        self.job.h, self.job.w = bilinear.source
        self.job.logits = self._strides(job.logits, job.logits.stride())
        if gradient is not None:
            self.job.gradient = self._strides(gradient, gradient.stride())
        for name, taps in zip(("row", "column"), bilinear.taps, strict=True):
            first = (c_int32 * len(taps.first))(*taps.first)
            share = (c_float * len(taps.share))(*taps.share)
            self._kept += [first, share]
            setattr(self.job, f"{name}_first", cast(first, POINTER(c_int32)))
            setattr(self.job, f"{name}_share", cast(share, POINTER(c_float)))
        return max(1, bilinear.source[0] - 1)

    def _target(self, target: Target) -> _Target:
        """Describe a target that is read in place; others are described when they are read."""
        if not _in_place(target):
            return _Target()
        ignore = getattr(target, "ignore_index", None)
        described = _Target(kind=0, ignores=ignore is not None, ignore=ignore or 0)
        if isinstance(target, DenseTarget):
            described.kind, described.values = 1, self._channels(target.values)
            return described
        described.values = self._map(_values(target))
        if isinstance(target, SmoothedTarget):
            described.epsilon = target.epsilon
            band = target.with_band(self._described.num_classes).band
            described.where = self._map(None if band is None else band.contiguous())
        return described

    def _weights(self, weights: Tensor | None) -> _Tensor:
        if weights is not None and weights.dtype not in _FLOATS:
            weights = weights.float()
        return self._map(weights)

    def _map(self, x: Tensor | None) -> _Tensor:
        """Describe (N, *S)."""
        if x is None:
            return _Tensor()
        image, row, column = x.view(x.shape[0], *self._grid).stride()
        return self._strides(x, (image, 0, row, column))

    def _channels(self, x: Tensor) -> _Tensor:
        """Describe (N, C, *S)."""
        return self._strides(x, x.view(*x.shape[:2], *self._grid).stride())

    def _strides(self, x: Tensor, strides: Sequence[int]) -> _Tensor:
        self._kept.append(x)
        image, channel, row, column = strides
        return _Tensor(x.data_ptr(), image, channel, row, column, _TYPES[x.dtype])
