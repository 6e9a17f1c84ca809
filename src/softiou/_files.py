"""Files and folders that appear whole or not at all: written under a hidden name, then renamed.

An error removes what was written; a process that is killed leaves a hidden `.tmp-...` behind, which
the next one that writes there removes. Temporary names are unique across the processes and machines
that share a folder, and short.
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
_FORGOTTEN_SECONDS = 86_400  # of another machine's file, whose process cannot be asked for


def file_name(stem: str, ending: str) -> str:
    """Return STEM.ENDING; of a stem too long for a file system, its beginning and a hash.

    A stem may name folders: "a/b".
    """
    folder, slash, last = stem.rpartition("/")
    content = os.fsencode(last)
    if len(content) + len(ending) <= _LONGEST_BYTES:
        return stem + ending
    digest = hashlib.sha256(content).hexdigest()[:12]
    start = content[: _LONGEST_BYTES - len(ending) - 13].decode(errors="ignore")
    return f"{folder}{slash}{start}-{digest}{ending}"


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
    """Give a temporary path, with a suffix if need be; the file gets its name when the block ends.

    Errors of the system, such as a full disk, name the file.
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

    With `replace` a folder with files may be there, which is then removed; between two renames
    there is no folder, so a reader has to expect that. Without, it is an OSError. Parents are
    made.
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
    """Give a hidden empty folder in another one, and remove it with all that is in it."""
    _remove_stale_once(parent)
    with TemporaryDirectory(dir=parent, prefix=_prefix()) as scratch:
        yield Path(scratch)


def remove_stale(folder: Path) -> None:
    """Remove what killed processes left under temporary names in a folder, not further inside.

    Processes of this machine are asked for; what others have left goes after a day.
    """
    for path in folder.glob(".tmp-*"):
        if _is_stale(path):
            if path.is_dir() and not path.is_symlink():
                shutil.rmtree(path, ignore_errors=True)
            else:
                path.unlink(missing_ok=True)


def is_alive(process: int) -> bool:
    """Return whether there is a process of this number on this machine."""
    with suppress(PermissionError):  # somebody else's
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
    """Return how temporary names of this process begin: which machine, and which process."""
    return f".tmp-{_machine()}-{os.getpid()}-"


@lru_cache(1)
def _machine() -> str:
    """Return 8 digits for the machine, or the container, in which process numbers are unique."""
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
    except FileNotFoundError:  # another process has removed it just now
        return False


@lru_cache(64)
def _remove_stale_once(folder: Path) -> None:
    remove_stale(folder)


def _sync(path: Path) -> None:
    try:
        with path.open("rb") as file:
            os.fsync(file.fileno())
    except OSError as error:
        if error.errno not in (errno.EINVAL, errno.ENOTSUP):  # a file system that never syncs
            raise
