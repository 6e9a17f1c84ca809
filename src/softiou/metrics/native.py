"""The pass over the pixels in compiled C code, for hard labels on the CPU.

`native.c` is compiled when the package is built. This file passes pointers to it, and adds up the
sums of its units of work. `plain.py` is the reference, and is used in all other cases.

Shapes: N images, C classes, *S space, U units of work, B bins, F fine bins.
"""

import ctypes
from ctypes import byref, c_int64, c_void_p
from dataclasses import dataclass

import torch
from torch import Tensor

from softiou import _checks
from softiou._native import FLOATS, INTEGERS, TYPES, load_library, warn_once
from softiou.metrics.bins import CalibrationBins, num_fine_bins
from softiou.targets.hard import validate_labels

_TILE = 1024  # pixels, as in native.c
# Units of work per image: more than threads, to balance the load. Units have their own sums, so the
# result does not depend on the number of threads.
_UNITS = 16
# The edges of the fine bins are exact in float32 below 2^24 / 16 bins.
_MOST_BINS = 2**16
_WRONG_PREDICTION, _NO_MEMORY = 1, 2


class _Job(ctypes.Structure):
    _fields_ = [
        *((name, c_int64) for name in ("N", "C", "P")),
        ("scores", c_void_p),
        ("scores_type", c_int64),
        ("target", c_void_p),
        ("target_type", c_int64),
        ("valid", c_void_p),
        *((name, c_int64) for name in ("ignores", "ignore")),
        *((name, c_int64) for name in ("bins", "classwise", "units", "threads")),
        *((name, c_void_p) for name in ("counts", "totals", "cells", "classes")),
    ]


@dataclass(frozen=True)
class Gathered:
    """Sums of each image."""

    counts: Tensor  # true positives, predicted and present pixels, int64 (N, 3, C)
    pixels: Tensor  # int64 (N,)
    brier: Tensor  # float64 (N,)
    nll: Tensor  # float64 (N,)
    fine: CalibrationBins  # fine bins of the highest probability (N, F)
    classes: CalibrationBins  # bins of every class (N, C, B); B = 0 without `classwise`


def unsupported_reason(
    scores: Tensor, target: Tensor, valid: Tensor | None, num_bins: int = 0
) -> str | None:
    """Return why the compiled code cannot process the tensors; None if it can."""
    if not all(x is None or x.device.type == "cpu" for x in (scores, target, valid)):
        return "Not all tensors are on the CPU."
    if target.dtype not in INTEGERS:
        return f"It supports integer labels only, not a target of {target.dtype}."
    if scores.dtype not in (FLOATS if num_bins else TYPES):
        return f"It computes in float32, but the prediction is {scores.dtype}."
    if num_bins > _MOST_BINS:
        return f"It supports at most {_MOST_BINS} bins."
    library = load_library("metrics")
    if not isinstance(library, str):
        return None
    warn_once(f"The metrics are computed in PyTorch, which is several times slower: {library}")
    return library


def gather(
    scores: Tensor,
    target: Tensor,
    valid: Tensor | None,
    *,
    num_classes: int,
    ignore_index: int | None,
    num_bins: int = 0,
    classwise: bool = False,
) -> Gathered | None:
    """Compute the sums of each image; None if the prediction of a valid pixel is not a class.

    `scores` are probabilities (N, C, *S). With `num_bins=0`, only the overlap is counted, and they
    may also be logits or class indices (N, *S). `classwise` fills the bins of every class.
    """
    _checks.one_label(ignore_index)
    _check_shapes(scores, target, valid, num_classes)
    N, P, C = len(target), target[:1].numel(), num_classes
    U = max(1, min(_UNITS, -(-P // _TILE)))
    F = num_fine_bins(num_bins) if num_bins else 0
    counts = torch.zeros(N, U, 3, C, dtype=torch.int64, device="cpu")
    totals, cells, classes = (
        torch.zeros(N, U, *shape, dtype=torch.float64, device="cpu")
        for shape in ((3,), (F, 4), (C, num_bins if classwise else 0, 4))
    )
    job = _Job(N=N, C=C, P=P, bins=num_bins, classwise=classwise, units=U)
    job.ignores, job.ignore = ignore_index is not None, ignore_index or 0
    job.threads = 1 if scores.numel() < 2**16 else torch.get_num_threads()
    # `contiguous` may copy: the names keep the copies alive until the call has returned.
    scores, target = scores.detach().contiguous(), target.contiguous()
    valid = None if valid is None else valid.contiguous()
    job.scores, job.scores_type = scores.data_ptr(), TYPES[scores.dtype]
    job.target, job.target_type = target.data_ptr(), INTEGERS[target.dtype]
    job.valid = None if valid is None else valid.data_ptr()
    job.counts, job.totals = counts.data_ptr(), totals.data_ptr()
    job.cells, job.classes = cells.data_ptr(), classes.data_ptr()
    if N * P and not _done(job):
        return None
    if int(counts[:, :, 2].sum()) < N * P:  # some are ignored, or are no classes
        validate_labels(target, num_classes=num_classes, ignore_index=ignore_index, valid=valid)
    pixels, brier, nll = totals.sum(1).unbind(1)
    return Gathered(
        counts.sum(1), pixels.long(), brier, nll, _bins(cells.sum(1)), _classes(classes, pixels)
    )


def _check_shapes(scores: Tensor, target: Tensor, valid: Tensor | None, num_classes: int) -> None:
    """Raise unless the shapes match, because the compiled code does not check bounds."""
    wanted = target.shape
    if scores.is_floating_point():
        wanted = torch.Size((len(target), num_classes, *target.shape[1:]))
    if scores.shape != wanted or (valid is not None and valid.shape != target.shape):
        raise RuntimeError(
            f"prediction {tuple(scores.shape)} of {scores.dtype} for {tuple(target.shape)}"
        )


def _done(job: _Job) -> bool:
    """Run a job; return False if a prediction is not a class."""
    library = load_library("metrics")
    if isinstance(library, str):
        raise RuntimeError("unsupported_reason was not checked")
    outcome = library.softiou_pixels(byref(job))
    if outcome == _NO_MEMORY:
        raise MemoryError("no memory for the tiles of the metrics")
    return bool(outcome != _WRONG_PREDICTION)


def _bins(cells: Tensor) -> CalibrationBins:
    """Convert cells (..., 4) to bins; the columns are confidence, correct, count and padding."""
    confidence, correct, count, _ = (x.contiguous() for x in cells.unbind(-1))
    return CalibrationBins(count.long(), confidence, correct)


def _classes(cells: Tensor, pixels: Tensor) -> CalibrationBins:
    """Sum the bins of every class (N, U, C, B, 4) over the units, and complete the first bins.

    For speed, the compiled code does not count the pixels of the first bin, which are the most.
    """
    cells = cells.sum(1)
    if cells.shape[2]:
        cells[:, :, 0, 2] = pixels.unsqueeze(1) - cells[:, :, 1:, 2].sum(2)
    return _bins(cells)
