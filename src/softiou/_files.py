"""Atomic writing of files and folders: write under a hidden name, then rename.

An error removes the temporary file. A killed process leaves a hidden `.tmp-...` file, which the
next writer in the same folder removes. Temporary names are short, and unique across the processes
and machines that share a folder.
"""

import errno
import hashlib
import os
import platform
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import BinaryIO

_TEMPORARY = re.compile(r"\.tmp-([0-9a-f]{8})-(\d+)-")  # machine and process, see `_prefix`
_LONGEST_BYTES = 255  # of a name, in most file systems
_FORGOTTEN_SECONDS = 86_400  # for files of other machines, whose processes cannot be checked


def file_name(stem: str, ending: str) -> str:
    """Return stem + ending; shorten a stem that is too long for a file system with a hash.

    A stem may contain folders, such as "a/b".
    """
    folder, slash, last = stem.rpartition("/")
    content = os.fsencode(last)
    if len(content) + len(ending) <= _LONGEST_BYTES:
        return stem + ending
    digest = hashlib.sha256(content).hexdigest()[:12]
    start = content[: _LONGEST_BYTES - len(ending) - 13].decode(errors="ignore")
    return f"{folder}{slash}{start}-{digest}{ending}"


def write_atomically(content: bytes, path: Path) -> None:
    """Write a file atomically; replace an existing one."""
    with atomic_file(path) as file:
        file.write(content)


def write_once(content: bytes, path: Path) -> None:
    """Write a file unless it exists; of several writers, the first one wins."""
    with _temporary(path) as temporary:
        with temporary.open("wb") as file:
            file.write(content)
        _sync(temporary)
        try:
            os.link(temporary, path)
        except FileExistsError:
            pass
        except OSError:  # without hard links, the last writer wins
            temporary.replace(path)


@contextmanager
def atomic_file(path: Path) -> Iterator[BinaryIO]:
    """Return a context with a file to write, which gets its name if no error occurs."""
    with atomic_path(path) as temporary, temporary.open("wb") as file:
        yield file


@contextmanager
def atomic_path(path: Path, *, suffix: str = "") -> Iterator[Path]:
    """Return a context with a temporary path; the file is renamed to `path` at its end.

    Errors of the system, such as a full disk, are raised with the name of the file.
    """
    with _temporary(path, suffix) as temporary:
        yield temporary
        move_into_place(temporary, path)


def move_into_place(temporary: Path, path: Path) -> None:
    """Sync a complete file to disk, then rename it."""
    _sync(temporary)
    temporary.replace(path)


@contextmanager
def atomic_folder(path: Path, *, replace: bool = False) -> Iterator[Path]:
    """Return a context with an empty folder, which is renamed to `path` if no error occurs.

    With `replace`, an existing folder is replaced; for a moment between two renames, no folder
    exists, which readers have to expect. Without it, a non-empty folder raises OSError. Parent
    folders are created.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    with scratch_folder(path.parent) as scratch:
        new, old = scratch / "new", scratch / "old"
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
def scratch_folder(parent: Path) -> Iterator[Path]:
    """Return a context with a hidden empty folder, which is removed at its end."""
    _remove_stale_once(parent)
    with TemporaryDirectory(dir=parent, prefix=_prefix()) as scratch:
        yield Path(scratch)


def remove_stale(folder: Path) -> None:
    """Remove temporary files of killed processes in a folder, but not in its subfolders.

    Files of other machines are removed after a day.
    """
    for path in folder.glob(".tmp-*"):
        if _is_stale(path):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def is_alive(process: int) -> bool:
    """Return whether a process of this machine is running."""
    with suppress(PermissionError):  # a process of another user
        try:
            os.kill(process, 0)
        except (ProcessLookupError, OverflowError):
            return False
    return True


@contextmanager
def _temporary(path: Path, suffix: str = "") -> Iterator[Path]:
    _remove_stale_once(path.parent)
    ending = suffix or path.suffix
    name = f"{_prefix()}{os.urandom(4).hex()}{ending if len(ending) < 20 else ''}"
    temporary = path.with_name(name)
    try:
        yield temporary
    except OSError as error:
        if error.errno is None or error.filename not in (None, str(temporary)):
            raise
        raise OSError(error.errno, error.strerror, str(path)) from error
    finally:
        temporary.unlink(missing_ok=True)


def _prefix() -> str:
    """Return the prefix of temporary names, with the machine and the process."""
    return f".tmp-{_machine()}-{os.getpid()}-"


@lru_cache(1)
def _machine() -> str:
    """Return 8 hexadecimal digits that identify the machine or container (PID namespace)."""
    space = Path("/proc/self/ns/pid")
    inside = os.readlink(space) if space.is_symlink() else ""
    return hashlib.sha256(f"{platform.node()} {inside}".encode()).hexdigest()[:8]


def _is_stale(path: Path) -> bool:
    found = _TEMPORARY.match(path.name)
    if found is None:
        return False
    if found[1] == _machine():
        return not is_alive(int(found[2]))
    try:
        return time.time() - path.lstat().st_mtime > _FORGOTTEN_SECONDS
    except FileNotFoundError:  # removed meanwhile by another process
        return False


@lru_cache(64)
def _remove_stale_once(folder: Path) -> None:
    remove_stale(folder)


def _sync(path: Path) -> None:
    try:
        with path.open("rb") as file:
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # fsync is not supported
            raise
