"""Tar archives as shards, with an index for random access to their files.

A tar is not compressed, so each file in it is a range of bytes. Archives may be hostile: names and
ranges that lead outside are errors, and links, devices and sparse files are skipped. The index of a
shard is stored beside it, or in the user's cache if the folder is not writable.

Shapes: M files of a shard.
"""

import hashlib
import os
import re
import tarfile
from collections.abc import Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import nullcontext, suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np
from numpy.typing import NDArray

from softiou._cache import cache_folder
from softiou._files import write_atomically
from softiou.data.members import Member, member
from softiou.data.problems import data_error

_ERRORS = "surrogateescape"  # for names that are not UTF-8
BLOCK = 512  # bytes, the unit of a tar
_NUMBER = np.dtype("<i8")  # of a stored index
_LONGEST_ENTRY = 1 << 16  # limit for GNU long names and pax headers
_PAX = re.compile(r"^\d+ ([^=\n]+)=(.*)$", re.MULTILINE)
# Names (one per line) that lead out of the archive or have control characters.
_ODD = re.compile(r"^/|(?:^|/)\.\.(?:/|$)|[\x00-\x09\x0b-\x1f]", re.MULTILINE)


@dataclass(frozen=True)
class Shard:
    """A tar archive at a path or URL, with its length in bytes and modification time.

    If `changed` is negative, the archive may still grow.
    """

    place: str
    changed: int  # in ns
    length: int

    def __str__(self) -> str:
        return self.place

    def read(self, start: int, size: int) -> bytes:
        """Return a range of bytes; raise DataError if the archive has changed since."""
        if is_url(self.place):
            files, path = _remote(self.place)
            content: bytes = files.cat_file(path, start=start, end=start + size) if size else b""
            same = len(content) == size
        else:
            with open(self.place, "rb", buffering=0) as file:
                now = os.fstat(file.fileno())
                same = (now.st_mtime_ns, now.st_size) == (self.changed, self.length)
                file.seek(start)
                content = file.read(size)
        if not same and self.changed >= 0:
            message = "Expected an unchanged shard, but it changed since the data set was opened."
            raise data_error(self.place, message, "Restart the command.")
        return content

    @classmethod
    def at(cls, place: str) -> "Shard":
        """Return the archive at a path or URL."""
        if is_url(place):
            files, path = _remote(place)
            return cls(place, int(str(files.ukey(path))[:15], 16), files.info(path)["size"])
        about = os.stat(place)
        return cls(place, about.st_mtime_ns, about.st_size)


@dataclass(frozen=True)
class Index:
    """The files in a shard: names (UTF-8, one per line) and byte ranges."""

    shard: Shard
    lines: NDArray[np.uint8]
    starts: NDArray[np.int64]  # (M,)
    sizes: NDArray[np.int64]  # (M,)

    @property
    def names(self) -> list[str]:
        """Return the names (M,)."""
        text = self.lines.tobytes().decode(errors=_ERRORS)
        return text.split("\n") if text else []

    def member(self, number: int) -> Member:
        """Return the path of a file."""
        ends = self._ends
        name = self.lines[ends[number] + 1 : ends[number + 1]].tobytes().decode(errors=_ERRORS)
        text, start = f"{self.shard}/{name}", int(self.starts[number])
        return member(self.shard, text, start, int(self.sizes[number]))

    @cached_property
    def _ends(self) -> NDArray[np.int64]:
        """Return the ends of the lines, after a leading -1 (M + 1,)."""
        return np.concatenate([[-1], np.flatnonzero(self.lines == ord("\n")), [len(self.lines)]])


def is_url(place: str | Path) -> bool:
    """Return whether a place is a URL, such as s3://bucket/folder."""
    return re.match(r"[a-z][a-z0-9+.-]*://", str(place)) is not None


def as_path(place: str) -> Path:
    """Return a path or URL as a path that prints as given."""
    return member(None, place) if is_url(place) else Path(place).expanduser()


def inside(root: Path, name: str) -> Path:
    """Return the path of a file in a folder or at a URL."""
    if not is_url(root):
        return root / name
    place = f"{root}/{name}"
    with suppress(FileNotFoundError):
        file = Shard.at(place)
        return member(file, place, 0, file.length)
    return as_path(place)


def shards_in(root: Path) -> list[str]:
    """Return the sorted archives in a folder or at a URL, including its subfolders."""
    base = str(root).rstrip("/")
    files, path = _remote(base)
    found = (str(name)[len(path) :] for name in files.find(path, maxdepth=2))
    tars = (name for name in found if f"{base}{name}".endswith(".tar") and "/." not in name)
    return sorted(f"{base}{name}" for name in tars)


def indices(places: Iterable[str], *, torn: bool = False) -> Iterator[Index]:
    """Yield the index of each archive; raise DataError for a damaged or hostile one.

    With `torn`, an archive may end within an entry, as after its writer was killed.
    """
    with ThreadPoolExecutor() as pool:
        yield from pool.map(partial(_index_of, torn=torn), places)


def _index_of(place: str, *, torn: bool) -> Index:
    try:
        shard = Shard.at(place)
        cached = [
            cache_folder()
            / "shards"
            / f"{hashlib.sha256(os.fsencode(place)).hexdigest()[:32]}.index"
        ]
        if not is_url(place):
            cached.insert(0, Path(place).with_name(f".{Path(place).name}.index"))
        for path in cached:
            with suppress(OSError, ValueError):
                return _loaded(path, shard)
        files, inner = _remote(place)
        with files.open(inner, "rb") as file:
            index = _read(file, shard, torn=torn)
    except (OSError, ValueError) as error:
        remedy = "Write it again without compression: `tar cf`, webdataset, `softiou check --fix`."
        raise data_error(place, f"Cannot read the archive: {error}.", remedy) from error
    for path in cached:
        with suppress(OSError):
            path.parent.mkdir(parents=True, exist_ok=True)
            write_atomically(_stored(index), path)
            break
    return index


def _stored(index: Index) -> bytes:
    """Return an index as bytes: M, time and length of the archive, starts, sizes; the names.

    Not an .npz file: numpy parses the headers of those with `ast`, which before Python 3.11.8 fails
    at random in several threads (https://github.com/python/cpython/issues/106905).
    """
    about = [len(index.starts), index.shard.changed, index.shard.length]
    numbers = np.concatenate([about, index.starts, index.sizes]).astype(_NUMBER)
    return numbers.tobytes() + index.lines.tobytes()


def _loaded(path: Path, shard: Shard) -> Index:
    """Read a stored index; raise ValueError if it does not match the current archive."""
    content = path.read_bytes()
    number, changed, length = np.frombuffer(content, _NUMBER, 3).tolist()
    size = (3 + 2 * number) * _NUMBER.itemsize
    if (changed, length) != (shard.changed, shard.length) or not 0 < size <= len(content):
        raise ValueError("another index")
    starts, sizes = np.frombuffer(content[:size], _NUMBER)[3:].reshape(2, number)
    lines = np.frombuffer(content[size:], np.uint8)
    index = Index(shard, lines, starts, sizes)
    ranges = np.stack([starts, sizes, shard.length - starts, shard.length - starts - sizes])
    whole = number == len(index.names)
    if not whole or (ranges < 0).any() or _ODD.search("\n".join(index.names)):
        raise ValueError("invalid index")
    return index


def _remote(place: str) -> tuple[Any, str]:
    """Return the fsspec file system of a path or URL, and the path in it."""
    from fsspec.core import url_to_fs

    try:
        files, path = url_to_fs(place)
    except (ImportError, ValueError) as error:
        remedy = "Install fsspec's package for it, such as s3fs, gcsfs or adlfs."
        raise data_error(place, f"Cannot open the URL: {error}.", remedy) from error
    return files, str(path)


def _read(file: BinaryIO, shard: Shard, *, torn: bool) -> Index:
    """Read the headers of an archive; raise ValueError if they are invalid."""
    found: list[tuple[str, int, int]] = []
    with suppress(ValueError) if torn else nullcontext():
        found.extend(_entries(file, shard.length))
    names = "\n".join(name for name, _, _ in found).encode(errors=_ERRORS)
    ranges = np.array([one[1:] for one in found], np.int64).reshape(-1, 2)
    return Index(shard, np.frombuffer(names, np.uint8), ranges[:, 0], ranges[:, 1])


def _entries(file: BinaryIO, length: int) -> Iterator[tuple[str, int, int]]:
    """Yield name, start and size of each file in an archive."""
    place, changed = 0, dict[str, str]()  # headers for the next entry
    while place < length:
        file.seek(place)
        header = file.read(BLOCK)
        if header == bytes(BLOCK):
            break
        try:
            entry = tarfile.TarInfo.frombuf(header, "utf-8", _ERRORS)
        except tarfile.HeaderError as error:
            raise ValueError(f"no tar header at byte {place} ({error})") from error
        about = entry.type in (tarfile.GNUTYPE_LONGNAME, tarfile.XHDTYPE)
        name = entry.name if about else changed.pop("path", entry.name).removeprefix("./")
        size = entry.size if about else int(changed.pop("size", entry.size))
        start, place = place + BLOCK, place + BLOCK + -(-size // BLOCK) * BLOCK
        if not 0 <= size <= (_LONGEST_ENTRY if about else length - start):
            raise ValueError(f"{name[:80]!r} of {size} bytes in an archive of {length} bytes")
        if about:
            content = file.read(size).decode("utf-8", _ERRORS)
            pax = entry.type == tarfile.XHDTYPE
            changed |= dict(_PAX.findall(content)) if pax else {"path": content.rstrip("\0")}
            continue
        sparse, changed = any(key.startswith("GNU.sparse") for key in changed), {}
        if "\n" in name or _ODD.search(name):
            raise ValueError(f"the name {name[:80]!r} leads elsewhere, or has control characters")
        if entry.type in tarfile.REGULAR_TYPES[:2] and not sparse and name:
            yield name, start, size
