"""Probabilities as .npy files, written band by band.

Shapes: C classes, (H, W) the image.
"""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np
from torch import Tensor

from softiou._files import atomic_file


class ProbabilityFile:
    """A .npy file of `shape` (C, H, W), float16, opened for writing, to write bands of rows into.

    Plain writes instead of a memory map, because a map counts as memory of the process, and a
    full disk kills the process instead of raising an error.
    """

    def __init__(self, file: IO[bytes], shape: tuple[int, int, int]) -> None:
        header = {"descr": "<f2", "fortran_order": False, "shape": shape}
        np.lib.format.write_array_header_1_0(file, header)
        self._file = file
        self._shape = shape
        self._start = file.tell()

    def write(self, rows: slice, probs: Tensor) -> None:
        """Write the probabilities (C, rows, W) of some rows."""
        _, height, width = self._shape
        halves = probs.half().cpu().numpy().astype("<f2", copy=False)
        for index, plane in enumerate(halves):
            self._file.seek(self._start + 2 * width * (index * height + rows.start))
            self._file.write(plane.tobytes())


@contextmanager
def probability_file(path: Path, shape: tuple[int, int, int]) -> Iterator[ProbabilityFile]:
    """Open a file of probabilities, which appears when all of it is written."""
    with atomic_file(path) as file:
        yield ProbabilityFile(file, shape)
