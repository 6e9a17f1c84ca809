"""Append-only tar archives with the soft labels of many images.

Each process writes its own shards, so any number of processes can label at once. If a process is
killed, at most one truncated entry is left, which is ignored. If a name occurs twice, after a
repair, the entry of the later shard is used.

Shapes: L labels of all shards.
"""

import hashlib
import os
import re
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np

from softiou.data.shards import BLOCK, indices

_NAME = re.compile(r"labels-\d{6}-[0-9a-f]{8}\.tar")


class LabelShards:
    """The shards in a folder, which may not exist yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._places = shards_in_order(folder)
        self._added: dict[str, tuple[str, int, int]] = {}  # appended by this process
        self._file: Any = None
        # hash of the name, shard number, start and size, sorted by hash (L, 4)
        parts = [np.empty((0, 4), np.int64)]
        for number, index in enumerate(indices(self._places, torn=True)):
            hashes = np.array([_hash(name) for name in index.names], np.int64)
            columns = hashes, np.full(len(hashes), number), index.starts, index.sizes
            parts.append(np.stack(columns, 1))
        table = np.concatenate(parts)
        self._table = table[np.argsort(table[:, 0], kind="stable")]

    def __reduce__(self) -> Any:
        return LabelShards, (self.folder,)

    def place(self, name: str) -> tuple[str, int, int] | None:
        """Return the shard, start and size of an entry, or None."""
        if name in self._added:
            return self._added[name]
        wanted, hashes = _hash(name), self._table[:, 0]
        first, last = (int(np.searchsorted(hashes, wanted, side)) for side in ("left", "right"))
        if first == last:
            return None
        _, number, start, size = self._table[last - 1].tolist()
        return self._places[number], start, size

    def append(self, name: str, content: bytes, *, most_bytes: int) -> None:
        """Append an entry to a shard of this process; start a new shard after `most_bytes`."""
        if self._file is None:
            self.folder.mkdir(parents=True, exist_ok=True)
            last = [0, *(int(Path(one).name[7:13]) for one in shards_in_order(self.folder))][-1]
            path = self.folder / f"labels-{last + 1:06d}-{os.urandom(4).hex()}.tar"
            self._file = path.open("xb")
        about = tarfile.TarInfo(name)
        about.size = len(content)
        header = about.tobuf(tarfile.GNU_FORMAT, "utf-8", "surrogateescape")
        self._added[name] = (self._file.name, self._file.tell() + len(header), len(content))
        self._file.write(header + content + bytes(-len(content) % BLOCK))
        self._file.flush()
        if self._file.tell() >= most_bytes:
            self.close()

    def close(self) -> None:
        """Close and sync the shard of this process."""
        if self._file is not None:
            self._file.write(bytes(2 * BLOCK))
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None


def shards_in_order(folder: Path) -> list[str]:
    """Return the shards in a folder, in the order of creation."""
    names = os.listdir(folder) if folder.is_dir() else []
    return [str(folder / name) for name in sorted(names) if _NAME.fullmatch(name)]


def names_in(folder: Path) -> Iterator[str]:
    """Yield the names of all entries of the shards in a folder; names may repeat."""
    for index in indices(shards_in_order(folder), torn=True):
        yield from index.names


def _hash(name: str) -> int:
    digest = hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)
