"""The soft labels of many images in few files: tar archives that are only appended to.

Each process writes shards of its own, so that any number of them may label at once. A kill leaves
at most one entry that is cut short, which is not seen. Of two entries of one name, which are there
after a repair, that of the later shard counts.

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
    """The shards of a folder, which may not exist yet."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self._places = shards_in_order(folder)
        self._added: dict[str, tuple[str, int, int]] = {}  # by this process
        self._file: Any = None
        # hash of the name, number of the shard, start and size, in the order of the hashes (L, 4)
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
        """Return shard, start and size of an entry; None if there is none."""
        if name in self._added:
            return self._added[name]
        wanted, hashes = _hash(name), self._table[:, 0]
        first, last = (int(np.searchsorted(hashes, wanted, side)) for side in ("left", "right"))
        if first == last:
            return None
        _, number, start, size = self._table[last - 1].tolist()
        return self._places[number], start, size

    def append(self, name: str, content: bytes, *, most_bytes: int) -> None:
        """Add an entry to a shard of this process, which ends at a size; it is there at once."""
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
        """End the shard of this process, and see to it that it is on the disk."""
        if self._file is not None:
            self._file.write(bytes(2 * BLOCK))
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
            self._file = None


def shards_in_order(folder: Path) -> list[str]:
    """Return the shards of a folder, in the order of their beginning."""
    names = os.listdir(folder) if folder.is_dir() else []
    return [str(folder / name) for name in sorted(names) if _NAME.fullmatch(name)]


def names_in(folder: Path) -> Iterator[str]:
    """Yield the name of each entry of the shards of a folder, perhaps twice."""
    for index in indices(shards_in_order(folder), torn=True):
        yield from index.names


def _hash(name: str) -> int:
    digest = hashlib.blake2b(name.encode(errors="surrogateescape"), digest_size=8).digest()
    return int.from_bytes(digest, signed=True)
