"""Python wrappers of the inner loops in native.c."""

import ctypes
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torchvision.transforms import v2

from softiou._native import load_library

_Array = NDArray[Any]


def numbers_in(raw: _Array) -> _Array:
    """Return the sorted distinct values."""
    library = load_library("data")
    if raw.dtype != np.uint8 or isinstance(library, str):
        return np.unique(raw)
    raw, seen = np.ascontiguousarray(raw), np.zeros(256, np.uint8)
    _call(library.softiou_mark_bytes, raw, raw.size, seen)
    return np.flatnonzero(seen)


def unfiltered(rows: bytes, shape: tuple[int, int, int]) -> NDArray[np.uint8]:
    """Return the pixels (h, w, B) of filtered PNG rows; raise ValueError on failure."""
    library, (height, width, bands) = load_library("data"), shape
    pixels = np.zeros((height + 1, width, bands), np.uint8)  # starts with a row of zeros
    given = np.frombuffer(rows, np.uint8), height, width * bands, bands, pixels
    size = height * (1 + width * bands)
    if isinstance(library, str) or len(rows) != size or _call(library.softiou_unfilter, *given):
        raise ValueError(f"Expected filtered rows of {shape}, but got {len(rows)} bytes.")
    return pixels[1:]


def jittered(image: Tensor, strength: float) -> Tensor:
    """Change brightness, contrast and saturation of an image (B, h, w) like `v2.ColorJitter`.

    The three changes are linear, so the C code combines them into one, and rounds and clips once
    instead of after each change. It draws the same random numbers.
    """
    library = load_library("data")
    if isinstance(library, str) or image.dtype != torch.uint8:
        found: Tensor = v2.ColorJitter(strength, strength, strength)(image)
        return found.contiguous()
    order, factors = torch.randperm(4), torch.empty(3).uniform_(1 - strength, 1 + strength)
    changed = torch.empty(image.shape, dtype=torch.uint8)
    given = image.numpy(), *image.shape, *image.stride(), order.numpy(), len(order)
    _call(library.softiou_jitter, *given, factors.numpy(), changed.numpy())
    return changed


def covers(edges: _Array, own: _Array, boxes: _Array, offsets: _Array) -> _Array | None:
    """Return the shares in the boxes of all shapes as a flat array; None without the C library.

    Edges (9, E) have end points, weight and box; `own` (E,) is the index of their shape. Boxes are
    (S, 4); box i starts at `offsets[i]` of the result (S + 1,).
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
    """Return the shares of the labels (C, h, w); None without the C library.

    `rows` and `columns` describe pieces: index in the labels (H, W), index in the result, and
    length.
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
    """Move min(shares, left) (h, w) from `left` to `plane`; return False without the C library."""
    library = load_library("data")
    if isinstance(library, str):
        return False
    stride, step = (one // 4 for one in shares.strides)
    if step != 1:
        shares, stride = np.ascontiguousarray(shares), shares.shape[1]
    _call(library.softiou_paint, shares, stride, *shares.shape, plane, left, left.strides[0] // 4)
    return True


def asked(folder: Path, names: _Array) -> _Array | None:
    """Return size and modification time (N, 2), -1 if missing; None without the C library."""
    library, facts = load_library("data"), np.full((len(names), 2), -1)
    if isinstance(library, str) or not hasattr(library, "softiou_ask") or not folder.is_dir():
        return None
    if names.view(np.uint8).max(initial=0) > 127:  # the file system may use another encoding
        return None
    place = os.open(folder, os.O_RDONLY)
    _call(library.softiou_ask, place, names, names.itemsize, len(names), facts)
    os.close(place)
    return facts


def _call(function: Any, *values: Any) -> Any:
    """Call a C function with integers and pointers to arrays."""
    return function(
        *(
            ctypes.c_int64(value) if isinstance(value, int) else ctypes.c_void_p(value.ctypes.data)
            for value in values
        )
    )
