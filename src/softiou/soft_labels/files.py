"""The file of an image's soft labels: a blosc2 frame with a checksum.

The byte maps are an array (P, h, w) of one chunk: the most probable class (two maps above 255
classes, low byte first), then the levels, as differences from the row above within each block. A
crop decompresses only the blocks that it intersects. The header of the frame describes the image,
and has a checksum of the whole file, which is verified on reading, because blosc2 does not detect
bit flips.
"""

import zlib
from collections.abc import Mapping
from typing import Any

import numpy as np

from softiou.soft_labels.codes import Bytes, Codes

_ENTRY = "softiou"
# marks the checksum in the header: msgpack of {"crc32": "00000000"}
_CHECKSUM = b"\xa5crc32\xa8"
_DIGITS = 8
# rows and columns of a block; larger ones compress better, smaller ones are read faster
_BLOCK = (128, 128)
# level 9 saves 3 % more space and takes eight times as long
_ZSTD_LEVEL = 8


class BrokenFileError(ValueError):
    """The file is damaged; the message gives the reason."""


def pack(codes: Codes, about: Mapping[str, Any]) -> bytes:
    """Return the file content for the codes of an image and plain values about it."""
    # imported on first use, because it imports an HTTP client
    import blosc2

    best = np.stack([(codes.best >> shift).astype(np.uint8) for shift in _shifts(codes.best.dtype)])
    maps = np.concatenate([best, codes.levels])  # (P, h, w)
    blocks = (1, min(_BLOCK[0], maps.shape[1]), min(_BLOCK[1], maps.shape[2]))
    _subtract_row_above(maps[len(best) :], blocks[1])
    header = {
        "crc32": "0" * _DIGITS,
        "classes": list(codes.classes),
        "index_bytes": len(best),
        **about,
    }
    compression = blosc2.CParams(
        codec=blosc2.Codec.ZSTD,
        clevel=_ZSTD_LEVEL,
        filters=[blosc2.Filter.NOFILTER],
        filters_meta=[0],
        typesize=1,
        nthreads=1,
    )
    frame: bytes = blosc2.asarray(
        maps, chunks=maps.shape, blocks=blocks, cparams=compression, meta={_ENTRY: header}
    ).to_cframe()
    place = frame.index(_CHECKSUM) + len(_CHECKSUM)
    checksum = f"{zlib.crc32(frame):0{_DIGITS}x}".encode()
    return frame[:place] + checksum + frame[place + _DIGITS :]


class Frame:
    """A file written by `pack`, verified by its checksum; parts are decompressed on request."""

    def __init__(self, content: bytes) -> None:
        import blosc2

        _verify_checksum(content)
        # the array refers to it, and some versions of blosc2 do not keep it alive
        self._content = content
        try:
            self._array = blosc2.ndarray_from_cframe(content)
            self._array.schunk.dparams = blosc2.DParams(nthreads=1)
            self.about = dict(self._array.schunk.meta[_ENTRY])
            self.classes = tuple(self.about.pop("classes"))
            self._index_bytes = int(self.about.pop("index_bytes"))
            maps, height, width = self._array.shape
        except (RuntimeError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise BrokenFileError(f"blosc2 cannot read it ({error})") from error
        self.grid_size = (height, width)
        if maps != self._index_bytes + len(self.classes):
            raise BrokenFileError(f"it has {maps} maps for {len(self.classes)} classes")

    def read(self, top: int, bottom: int, left: int, right: int) -> Codes:
        """Decompress the cells [top:bottom, left:right] of the grid."""
        rows = self._array.blocks[1]
        start = top // rows * rows
        try:
            maps = self._array[:, start:bottom, left:right]
        except (RuntimeError, ValueError) as error:
            raise BrokenFileError(f"blosc2 cannot decompress it ({error})") from error
        levels = maps[self._index_bytes :]
        _add_row_above(levels, rows)
        inside = slice(top - start, None)
        best = maps[0, inside]
        if self._index_bytes > 1:
            best = best | maps[1, inside].astype(np.uint16) << 8
        return Codes(best, levels[:, inside], self.classes)


def _shifts(dtype: np.dtype[Any]) -> range:
    return range(0, 8 * dtype.itemsize, 8)


def _verify_checksum(content: bytes) -> None:
    """Raise unless the checksum matches; it is computed with zeros in its own place."""
    place = content.find(_CHECKSUM) + len(_CHECKSUM)
    if place < len(_CHECKSUM):
        raise BrokenFileError("it is not a file of soft labels")
    found = content[place : place + _DIGITS]
    checksum = zlib.crc32(b"0" * _DIGITS, zlib.crc32(memoryview(content)[:place]))
    checksum = zlib.crc32(memoryview(content)[place + _DIGITS :], checksum)
    if found != f"{checksum:0{_DIGITS}x}".encode():
        raise BrokenFileError(
            f"it was truncated or changed (checksum {checksum:0{_DIGITS}x} instead of "
            f"{found.decode('ascii', 'replace')})"
        )


def _subtract_row_above(levels: Bytes, rows: int) -> None:
    """Replace rows (P, h, w) by differences modulo 256, except the first of each block."""
    for row in reversed(range(levels.shape[1])):
        if row % rows:
            levels[:, row] -= levels[:, row - 1]


def _add_row_above(levels: Bytes, rows: int) -> None:
    """Invert `_subtract_row_above`; the array must start with the first row of a block."""
    for row in range(levels.shape[1]):
        if row % rows:
            levels[:, row] += levels[:, row - 1]
