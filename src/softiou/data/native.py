"""The inner loops of `coverage` in C, several times faster; see native.c."""

import ctypes
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softiou._native import load_library

_Array = NDArray[Any]


def covers(edges: _Array, own: _Array, boxes: _Array, offsets: _Array) -> _Array | None:
    """Return the shares in the boxes of all shapes, one after another; None without a library.

    Edges (9, E) have ends, weight and box, and the number of their shape in `own` (E,); boxes are
    (S, 4), and begin in the result at `offsets` (S + 1,).
    """
    library = load_library("data")
    if isinstance(library, str):
        return None
    flat = np.zeros(offsets[-1], np.float32)
    _call(library.softiou_add_edges, np.ascontiguousarray(edges), offsets[own], len(own), flat)
    _call(library.softiou_sum_rows, np.ascontiguousarray(boxes), offsets, len(boxes), flat)
    return flat


def areas(
    labels: _Array, rows: Sequence[_Array], columns: Sequence[_Array], shape: tuple[int, int, int]
) -> _Array | None:
    """Return the shares of labels as a new array of the shape (C, h, w); None without a library.

    Pieces of rows, and of columns, have their row of the labels (H, W) and of the result, and their
    height.
    """
    library = load_library("data")
    if isinstance(library, str):
        return None
    shares = np.zeros(shape, np.float32)
    labels = np.ascontiguousarray(labels, np.int64)
    lines, pieces = (*rows, len(rows[0])), (*columns, len(columns[0]))
    _call(library.softiou_add_areas, labels, labels.shape[1], *lines, *pieces, *shape[1:], shares)
    return shares


def paint(shares: _Array, plane: _Array, left: _Array) -> bool:
    """Move what `shares` cover of `left` to `plane`, all (h, w); False without a library."""
    library = load_library("data")
    if isinstance(library, str):
        return False
    stride, step = (one // 4 for one in shares.strides)
    if step != 1:
        shares, stride = np.ascontiguousarray(shares), shares.shape[1]
    _call(library.softiou_paint, shares, stride, *shares.shape, plane, left, left.strides[0] // 4)
    return True


def _call(function: Any, *values: Any) -> None:
    """Call a function of the library, with pointers to the arrays."""
    function(
        *(
            ctypes.c_int64(value) if isinstance(value, int) else ctypes.c_void_p(value.ctypes.data)
            for value in values
        )
    )
