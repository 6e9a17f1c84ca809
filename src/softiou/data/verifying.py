"""Whether files can be decoded: each is read once, and not again while it is unchanged."""

import os
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from functools import partial
from itertools import islice
from typing import TypeVar

import numpy as np

from softiou._cache import recall, remember
from softiou._processes import cores
from softiou.data.bands import BandImage, Bands
from softiou.data.base import SegmentationDataset
from softiou.data.files import ANNOTATION_SUFFIXES
from softiou.data.names import Names, Paths, Rows
from softiou.data.problems import DataProblemsError, Problem
from softiou.data.reading import opened

T = TypeVar("T")
R = TypeVar("R")

_AHEAD = 4  # results that wait for each thread: enough to bridge a large image among small ones
_HEAD = _FACTS = 2 * 8  # bytes of the numbers of files and letters; of size and time of a file


def verify_readable(dataset: SegmentationDataset) -> list[Problem]:
    """Check in parallel that the files of a data set can be decoded.

    Much faster than reading the samples: PNG files are verified by their checksums, JPEG files are
    decoded at an eighth of their size. A file that could be decoded is remembered in
    ~/.cache/softiou by its name, size and time of change, and not read again while it has them.

    Returns:
        One problem per unreadable file, in the order of the samples.
    """
    return [problem for _, problem in unreadable(dataset.columns(), dataset.bands)]


def unreadable(columns: Sequence[Paths], bands: Bands | None) -> list[tuple[int, Problem]]:
    """Return the number of a sample and the problem, for each file that cannot be decoded.

    Args:
        columns: The images of the samples, and further files of them.
        bands: Of the images.
    """
    found = []
    for place, paths in enumerate(columns):
        kept = None if place else bands
        check = partial(_decoding_problems, paths, kept)
        kind = f"decoded {kept.numbers if kept else ''}"
        found += [(row, place, problem) for row, problem in checked_once(paths, check, kind)]
    return [(row, problem) for row, _, problem in sorted(found, key=lambda one: one[:2])]


def checked_once(
    paths: Paths, check: Callable[[int], Sequence[Problem]], kind: str
) -> list[tuple[int, Problem]]:
    """Return the number and each problem of files, by a check of a number.

    Files are checked that are new, or have changed. `kind` names the check, whose answers are
    remembered for each folder.
    """
    key = f"whole files 1 {kind} {os.path.abspath(paths.folder)}"
    own = paths.names if isinstance(paths.names, Names) else Names(map(str, paths.names))
    facts, (before, known) = paths.facts, _remembered(key)
    rows = before.rows(own)
    whole = rows >= 0
    whole[whole] = (known[rows[whole]] == facts[whole]).all(1)
    todo = np.flatnonzero(~whole & (own.table != b"")).tolist()
    found = []
    try:
        for row, problems in zip(todo, bounded_map(check, todo), strict=True):
            whole[row] = not problems and facts[row, 0] >= 0
            found += [(row, problem) for problem in problems]
    finally:  # an interrupted check goes on where it was
        if whole[todo].any():
            others = np.setdiff1d(np.arange(len(before)), rows)
            names = np.concatenate([before.table[others], own.table[whole]])
            order = names.argsort()
            numbers = np.concatenate([known[others], facts[whole]])[order]
            head = np.array([len(names), names.itemsize])
            remember(key, head.tobytes() + numbers.tobytes() + names[order].tobytes())
    return found


def _remembered(key: str) -> tuple[Names, Rows]:
    """Return the names, in order, sizes and times of the files that were whole."""
    content = recall(key)
    count, width = np.frombuffer(content, np.int64, 2).tolist() if len(content) >= _HEAD else (0, 0)
    if min(count, width) < 1 or len(content) != _HEAD + count * (_FACTS + width):
        return Names(()), np.empty((0, 2), np.int64)
    numbers = np.frombuffer(content, np.int64, 2 * count, _HEAD).reshape(-1, 2)
    return Names(np.frombuffer(content, f"S{width}", count, _HEAD + _FACTS * count).copy()), numbers


def _decoding_problems(paths: Paths, bands: Bands | None, row: int) -> tuple[Problem, ...]:
    """Decode one file as cheaply as its format allows; of bands, the last of its pixels alone."""
    path = paths[row]
    if path.suffix.lower() in ANNOTATION_SUFFIXES:
        return ()
    try:
        if bands is not None:
            found = BandImage(path, bands)
            found[:, found.shape[1] - 1 :]
            return ()
        with opened(path) as image:
            if image.format == "PNG":
                image.verify()
            else:
                image.draft(image.mode, (1, 1))
                image.load()
    except DataProblemsError as error:
        return error.problems
    return ()


def bounded_map(function: Callable[[T], R], items: Iterable[T]) -> Iterator[R]:
    """Apply a function to items in threads, and yield the results in order, few at a time.

    Threads suffice: decoding and counting release the interpreter's lock. A caller that stops
    early, by an error or an interrupt, waits for the running items only.
    """
    workers = cores()
    rest = iter(items)
    pool = ThreadPoolExecutor(workers)
    try:
        waiting: deque[Future[R]] = deque(
            pool.submit(function, item) for item in islice(rest, _AHEAD * workers)
        )
        while waiting:
            result = waiting.popleft().result()
            waiting.extend(pool.submit(function, item) for item in islice(rest, 1))
            yield result
    finally:
        pool.shutdown(cancel_futures=True)
