"""One process trains a run: a lock that names it and ends with it."""

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
_held: set[Path] = set()  # by this process, which the system does not lock out


@contextmanager
def only_writer(run: Path) -> Iterator[None]:
    """Hold a run directory while a process trains it; the lock ends with the process.

    It is a lock of the system on RUN/.lock, which network file systems know, too, and which loading
    processes do not inherit. Where a file system has none, the process that the file names is asked
    for, which works for processes of this machine. Of those that train together the first has it.
    """
    if not is_first():
        yield
        return
    for path in (run / NAME, run / "metrics.jsonl"):
        if path.is_symlink():
            raise RunExistsError(
                f"{path} is a symbolic link, and writing would change a file elsewhere. Remove it."
            )
    folder = run.resolve()
    if folder in _held:
        raise _busy(run, "this very process")
    with _locked(run) as path:
        _held.add(folder)
        try:
            yield
        finally:
            _held.discard(folder)
            path.unlink(missing_ok=True)


@contextmanager
def _locked(run: Path) -> Iterator[Path]:
    """Lock the file of a run and write into it who we are."""
    path = run / NAME
    while True:
        with path.open("a+", encoding="utf-8", errors="replace") as file:
            if not _lock(file):
                raise _busy(run, _owner(file) or "another process")
            # Whoever held it before may have removed the file after it was opened here.
            if path.exists() and os.path.samestat(os.fstat(file.fileno()), path.stat()):
                file.truncate(0)
                now = f"{datetime.now():%Y-%m-%d %H:%M}"
                file.write(f"process {os.getpid()} on {platform.node()}, since {now}")
                file.flush()
                yield path
                return


def _lock(file: TextIO) -> bool:
    """Try to lock a file, and return whether it is ours."""
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
    """Return whether the process that a file names may be alive, where nothing can be locked."""
    found = _OWNER.fullmatch(_owner(file))
    return found is not None and (found[2] != platform.node() or is_alive(int(found[1])))


def _owner(file: TextIO) -> str:
    file.seek(0)
    text = file.read(200)
    return text if _OWNER.fullmatch(text) else ""


def _busy(run: Path, owner: str) -> RunExistsError:
    return RunExistsError(
        f"{run} is being trained by {owner}; nothing was changed. Wait until it ends, or choose "
        f"another directory with --out. If that process is gone, remove {run / NAME}."
    )
