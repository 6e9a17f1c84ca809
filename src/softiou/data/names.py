"""File names and paths in arrays, because a million Python objects take a gigabyte.

The arrays are tensors, whose memory is shared with worker processes (forked or spawned).
"""

import os
from bisect import bisect_left
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from contextlib import suppress
from functools import cached_property, lru_cache
from pathlib import Path
from typing import Any, Self

import numpy as np
import torch
from numpy.typing import NDArray

from softiou.data import native
from softiou.data.volumes import stored_file

Rows = NDArray[np.int64]
_UTF_8 = ("utf-8", "surrogatepass")  # keeps any name, and sorts as Python does
_PIECE = 1 << 14
_MOST_BYTES = 1 << 28  # largest table of names
_SUFFIX = 5  # longest suffix, with the dot


class Names(Sequence[str]):
    """Strings in a byte array; compares and iterates like a tuple of strings."""

    def __init__(self, texts: "Iterable[str] | NDArray[np.bytes_]") -> None:
        if not isinstance(texts, np.ndarray):
            texts = np.array([text.encode(*_UTF_8) for text in texts], np.bytes_)
        letters = np.ascontiguousarray(texts).view(np.uint8).reshape(len(texts), texts.itemsize)
        self._letters = torch.from_numpy(letters)

    @property
    def table(self) -> NDArray[np.bytes_]:
        """Return the strings in UTF-8 (N,)."""
        letters = self._letters.numpy()
        return letters.view(f"S{letters.shape[1]}")[:, 0]

    def __len__(self) -> int:
        return len(self._letters)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return tuple(map(self.__getitem__, range(len(self))[index]))
        return bytes(self.table[index]).decode(*_UTF_8)

    def __iter__(self) -> Iterator[str]:
        for first in range(0, len(self), _PIECE):
            for text in self.table[first : first + _PIECE].tolist():
                yield text.decode(*_UTF_8)

    def __eq__(self, other: object) -> bool:
        if isinstance(other, Names):
            return self is other or np.array_equal(self.table, other.table)
        return tuple(self) == other

    def __hash__(self) -> int:
        return hash(tuple(self))

    def take(self, rows: Rows) -> "Names":
        """Return the strings of some rows; empty strings for -1."""
        taken = self.table[rows] if len(self) else np.zeros(len(rows), np.bytes_)
        taken[rows < 0] = b""
        return Names(taken)

    def rows(self, wanted: Iterable[str]) -> Rows:
        """Return the row of each string, or -1; these names must be sorted."""
        table, texts = self.table, wanted if isinstance(wanted, Names) else Names(wanted)
        if self == texts:
            return np.arange(len(self))
        if not len(self):
            return np.full(len(texts), -1)
        rows = table.searchsorted(texts.table).clip(max=len(self) - 1)
        return np.where(table[rows] == texts.table, rows, -1)


class Inner(Sequence[Any]):
    """Files inside other files, by index; paths are created lazily, "" for -1."""

    def __init__(self, numbers: Iterable[int], path_of: Callable[[int], Path]) -> None:
        self._numbers, self._path_of = torch.tensor(np.asarray(numbers, np.int64)), path_of

    def __len__(self) -> int:
        return len(self._numbers)

    def __getitem__(self, index: Any) -> Any:
        number = int(self._numbers[index])
        return self._path_of(number) if number >= 0 else ""

    def take(self, rows: Rows) -> "Inner":
        """Return the files of some rows; missing files for -1."""
        taken = np.append(self._numbers.numpy(), -1)[rows]
        return Inner(taken, self._path_of)


class Paths(Sequence[Path]):
    """Paths of a folder (stored as names) or any paths; an empty name means no file."""

    def __init__(self, files: Iterable[Path] | Names | Inner, folder: Path = Path()) -> None:
        self.folder = folder
        self.names = files if isinstance(files, Names | Inner) else tuple(files)
        if isinstance(self.names, tuple) and all(type(one) is type(folder) for one in self.names):
            self.names = Names(map(str, self.names))

    @classmethod
    def of(cls, files: Iterable[Path]) -> "Paths":
        """Convert any sequence of files."""
        return files if isinstance(files, Paths) else cls(files)

    def __len__(self) -> int:
        return len(self.names)

    def __getitem__(self, index: Any) -> Any:
        if isinstance(index, slice):
            return tuple(map(self.__getitem__, range(len(self))[index]))
        name = self.names[index]
        return self.folder / name if isinstance(name, str) else name

    def __getstate__(self) -> dict[str, Any]:
        return {"folder": self.folder, "names": self.names}

    def take(self, rows: Rows) -> "Paths":
        """Return the files of some rows; missing files for -1."""
        if isinstance(self.names, Names | Inner):
            return Paths(self.names.take(rows), self.folder)
        chosen: list[Any] = [self.names[row] if row >= 0 else "" for row in rows]
        return Paths(chosen)

    def texts(self) -> Iterator[str]:
        """Return the paths as strings."""
        start = os.path.join(self.folder, "") if self.folder.parts else ""
        return (f"{start}{name}" for name in self.names)

    @cached_property
    def facts(self) -> Rows:
        """Return size in bytes and modification time in ns (N, 2); -1 for missing files."""
        asked = isinstance(self.names, Names) and native.asked(self.folder, self.names.table)
        facts = asked if isinstance(asked, np.ndarray) else np.full((len(self), 2), -1)
        for row in np.flatnonzero(facts[:, 0] < 0).tolist():
            with suppress(OSError):
                if self.names[row]:
                    about = stored_file(self[row]).stat()
                    facts[row] = about.st_size, about.st_mtime_ns
        return facts

    def real(self) -> Iterator[str]:
        """Yield the real path of each file, with links resolved."""
        real = lru_cache(os.path.realpath)  # files share few folders
        for head, tail in map(os.path.split, self.texts()):
            path = os.path.join(real(head), tail)
            yield os.path.realpath(path) if os.path.islink(path) else path


class FileTable(Mapping[str, Path]):
    """Files by stem, sorted by stem."""

    def __init__(self, stems: Names, paths: Paths) -> None:
        self.stems, self.paths = stems, paths

    @classmethod
    def of(cls, files: Mapping[str, Path]) -> "FileTable":
        """Convert any mapping of files."""
        if isinstance(files, FileTable):
            return files
        stems = sorted(files)
        return cls(Names(stems), Paths(files[stem] for stem in stems))

    def __len__(self) -> int:
        return len(self.stems)

    def __iter__(self) -> Iterator[str]:
        return iter(self.stems)

    def __getitem__(self, stem: str) -> Path:
        row = bisect_left(self.stems, stem)
        if row == len(self) or self.stems[row] != stem:
            raise KeyError(stem)
        found: Path = self.paths[row]
        return found

    def at(self, rows: Rows) -> Self:
        """Return the files of some rows."""
        return type(self)(self.stems.take(rows), self.paths.take(rows))

    def chosen(self, stems: Iterable[str]) -> Self:
        """Return the files of those stems that exist here."""
        rows = self.stems.rows(stems)
        return self.at(np.sort(rows[rows >= 0]))

    def within(self, folder: str) -> Self:
        """Return the files with stems FOLDER/STEM."""
        return type(self)(Names(f"{folder}/{stem}" for stem in self.stems), self.paths)


def usual_files(folder: Path, suffixes: frozenset[str]) -> FileTable | None:
    """Return the visible files with a suffix by stem; None if the fast path cannot handle them.

    That is the case if a name is not ASCII (it must be normalised), is much longer than the
    others, is that of a volume, or if two files share a stem.
    """
    listed = os.listdir(os.fsencode(folder)) if folder.is_dir() else []
    longest = max(map(len, listed), default=0)
    if not listed or len(listed) * longest > _MOST_BYTES:
        return None
    names = np.array(listed, f"S{longest + _SUFFIX}")
    letters = names.view(np.uint8).reshape(len(names), -1)
    last = letters.shape[1] - 1
    dots = last - (letters[:, ::-1] == ord(".")).argmax(1)[:, np.newaxis]
    endings = np.take_along_axis(letters, (dots + np.arange(_SUFFIX + 1)).clip(max=last), 1)
    endings = np.char.lower(endings.view(f"S{_SUFFIX + 1}")[:, 0])
    if np.isin(endings, [b".nii", b".gz"]).any():
        return None
    good = np.isin(endings, [one.encode() for one in suffixes]) & (letters[:, 0] != ord("."))
    names = names[good].astype(f"S{longest}")
    letters = np.where(np.arange(longest) < dots[good], letters[good, :longest], 0)
    stems = letters.astype(np.uint8).view(f"S{longest}")[:, 0]
    order = stems.argsort()
    if letters.max(initial=0) > 127 or (stems[order[1:]] == stems[order[:-1]]).any():
        return None
    return FileTable(Names(stems[order]), Paths(Names(names[order]), folder))
