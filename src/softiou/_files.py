"""Files and folders that appear whole or not at all: written under a hidden name, then renamed.

An error removes what was written; a process that is killed leaves a hidden `.tmp-...` behind. Names
are unique across the processes and machines that share a folder.
"""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO


def write_atomically(content: bytes, path: Path) -> None:
    """Write a file, replacing an earlier one."""
    with atomic_file(path) as file:
        file.write(content)


def write_once(content: bytes, path: Path) -> None:
    """Write a file unless it exists; of several writers the first one wins."""
    with _temporary(path) as temporary:
        with temporary.open("wb") as file:
            file.write(content)
        _sync(temporary)
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        except OSError:  # some network and memory-stick file systems have no links: the last wins
            temporary.replace(path)


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Open a file to write into; it replaces an earlier one when the block ends without error."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        yield file


@contextmanager
def atomic_path(path: Path, *, suffix: str = "") -> Iterator[Path]:
    """Give a temporary path for a new file; the file gets its name when the block ends.

    Args:
        path: The file; an earlier one is replaced.
        suffix: Added to the temporary path, for writers that go by it; else it is that of `path`.
    """
    with _temporary(path, suffix) as temporary:
        yield temporary
        move_into_place(temporary, path)


def move_into_place(temporary: Path, path: Path) -> None:
    """Give a complete file its name, once its content is on the disk and not only in a cache."""
    _sync(temporary)
    temporary.replace(path)


@contextmanager
def atomic_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Give an empty folder to write into; it becomes `path` when the block ends without error.

    Args:
        path: Where it goes; its parents are made.
        replace: Whether a folder with files may be there, which is then removed. Between two
            renames there is no folder, so a reader has to expect that.

    Raises:
        OSError: There is a folder with files, and `replace` is False.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with TemporaryDirectory(dir=path.parent, prefix=f".tmp-{path.name}-") as scratch:
        new, old = Path(scratch) / "new", Path(scratch) / "old"
        new.mkdir()
        yield new
        for file in new.rglob("*"):
            if file.is_file() and not file.is_symlink():
                _sync(file)
        if replace and path.exists():
            path.rename(old)
        elif path.exists():
            path.rmdir()
        new.rename(path)


@contextmanager
def _temporary(path: Path, suffix: str = "") -> Iterator[Path]:
    temporary = path.with_name(f".tmp-{os.getpid()}-{os.urandom(4).hex()}-{path.name}{suffix}")
    try:
        yield temporary
    finally:
        temporary.unlink(missing_ok=True)


def _sync(path: Path) -> None:
    with path.open("rb") as file:
        os.fsync(file.fileno())
