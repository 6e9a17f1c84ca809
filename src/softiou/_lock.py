"""A lock on a run directory, so that only one process writes to it."""

import errno
import os
import platform
import re
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import TextIO

from softiou._files import is_alive
from softiou._processes import is_first
from softiou.errors import RunExistsError

NAME = ".lock"
_OWNER = re.compile(r"process (\d+) on ([\w.-]+), since [\d: -]+")
_held: set[Path] = set()  # locks of this process, which lockf does not exclude


@contextmanager
def only_writer(run: Path) -> Iterator[None]:
    """Return a context that locks a run directory; the lock ends with the process.

    It is a lockf lock on RUN/.lock, which works on network file systems and is not inherited by
    worker processes. If the file system has no locks, the process named in the file is checked,
    which works for this machine only. In distributed training, only the first process holds the
    lock.
    """
    if not is_first():
        yield
        return
    for path in (run / NAME, run / "metrics.jsonl"):
        if path.is_symlink():
            raise RunExistsError(
                f"{path} is a symbolic link, and writing would change another file. Remove it."
            )
    folder = run.resolve()
    if folder in _held:
        raise _busy(run, "this process")
    with _locked(run) as path:
        _held.add(folder)
        try:
            yield
        finally:
            _held.discard(folder)
            path.unlink(missing_ok=True)


@contextmanager
def _locked(run: Path) -> Iterator[Path]:
    """Lock the lock file of a run, and write process and machine into it."""
    path = run / NAME
    while True:
        with path.open("a+", encoding="utf-8", errors="replace") as file:
            if not _lock(file):
                raise _busy(run, _owner(file) or "another process")
            # the previous holder may have removed the file after it was opened here
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                file.truncate(0)
                now = f"{datetime.now():%Y-%m-%d %H:%M}"
                file.write(f"process {os.getpid()} on {platform.node()}, since {now}")
                file.flush()
                yield path
                return


def _lock(file: TextIO) -> bool:
    """Try to lock a file, and return whether this succeeded."""
    try:
        import fcntl
    except ImportError:  # Windows
        return not _is_owned(file)
    try:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return error.errno not in (errno.EACCES, errno.EAGAIN) and not _is_owned(file)
    return True


def _is_owned(file: TextIO) -> bool:
    """Return whether the process named in a lock file may still be running."""
    found = _OWNER.fullmatch(_owner(file))
    return found is not None and (found[2] != platform.node() or is_alive(int(found[1])))


def _owner(file: TextIO) -> str:
    file.seek(0)
    text = file.read(200)
    return text if _OWNER.fullmatch(text) else ""


def _busy(run: Path, owner: str) -> RunExistsError:
    return RunExistsError(
        f"{run} is being trained by {owner}; nothing was changed. Wait until it ends, or choose "
        f"another directory with --out. If that process no longer exists, remove {run / NAME}."
    )
