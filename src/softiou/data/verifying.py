"""Check that files can be decoded, once per file until it changes."""

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

_AHEAD = 4  # queued items per thread, enough to bridge one large image
_HEAD = _FACTS = 2 * 8  # bytes of the header, and of size and time of one file


def verify_readable(dataset: SegmentationDataset) -> list[Problem]:
    """Check in parallel that the files of a data set can be decoded.

    Faster than reading the samples: PNG files are verified by their checksums, JPEG files decoded
    at an eighth of their size. Decodable files are recorded in ~/.cache/softiou by name, size and
    modification time, and not read again until one of these changes.

    Returns:
        One problem per unreadable file, in the order of the samples.
    """
    return [problem for _, problem in unreadable(dataset.columns(), dataset.bands)]


def unreadable(columns: Sequence[Paths], bands: Bands | None) -> list[tuple[int, Problem]]:
    """Return (sample index, problem) for each file that cannot be decoded.

    Args:
        columns: Files of the samples: the images first, then the other columns.
        bands: Bands of the images.
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
    """Return (row, problem) for each problem of some files, using cached results.

    Only files that are new or have changed are checked. `kind` identifies the check; results are
    cached for each folder.
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
    finally:  # keep the results of an interrupted check
        if whole[todo].any():
            others = np.setdiff1d(np.arange(len(before)), rows)
            names = np.concatenate([before.table[others], own.table[whole]])
            order = names.argsort()
            numbers = np.concatenate([known[others], facts[whole]])[order]
            head = np.array([len(names), names.itemsize])
            remember(key, head.tobytes() + numbers.tobytes() + names[order].tobytes())
    return found


def _remembered(key: str) -> tuple[Names, Rows]:
    """Return sorted names, and sizes and times, of the files that were readable."""
    content = recall(key)
    count, width = np.frombuffer(content, np.int64, 2).tolist() if len(content) >= _HEAD else (0, 0)
    if min(count, width) < 1 or len(content) != _HEAD + count * (_FACTS + width):
        return Names(()), np.empty((0, 2), np.int64)
    numbers = np.frombuffer(content, np.int64, 2 * count, _HEAD).reshape(-1, 2)
    return Names(np.frombuffer(content, f"S{width}", count, _HEAD + _FACTS * count).copy()), numbers


def _decoding_problems(paths: Paths, bands: Bands | None, row: int) -> tuple[Problem, ...]:
    """Decode a file as cheaply as its format allows; for bands, only the last row."""
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
    """Map a function over items in threads; yield results in order, with a bounded queue.

    Threads suffice, because decoding and counting release the GIL. If the caller stops early, only
    the running items are completed.
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
