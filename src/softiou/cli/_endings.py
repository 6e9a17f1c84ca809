"""How a command ends: a message for a person, a status for a program, never a traceback."""

import errno
import signal
import sys

from softiou._signals import received
from softiou.cli._console import plain_message
from softiou.errors import SoftiouError

_WAYS_OUT = {
    errno.ENOSPC: "Make room on its disk, or choose another place.",
    errno.EDQUOT: "Make room, or choose another place: your share of its disk is used up.",
    errno.EROFS: "Its disk cannot be written to; choose another place.",
    errno.EACCES: "Change its permissions, or choose another place.",
    errno.EPERM: "Change its permissions, or choose another place.",
    errno.EFBIG: "Files of this size are not allowed here: raise ulimit -f, or change the disk.",
    errno.EMFILE: "Raise the number of files that may be open: ulimit -n 4096.",
    errno.ENAMETOOLONG: "Shorten the name.",
    errno.ELOOP: "It is a symbolic link that leads back to itself; remove it.",
}


def message_of(error: Exception) -> str:
    """Return what went wrong, and what to do about it."""
    text = plain_message(error)
    if isinstance(error, OSError) and error.errno is not None:
        text = f"{error.filename}: {error.strerror}. " if error.filename else f"{error.strerror}. "
        text += _WAYS_OUT.get(error.errno, "")
    elif "Symlink loop from" in text:  # Path.resolve
        text = f"{text}. {_WAYS_OUT[errno.ELOOP]}"
    elif isinstance(error, MemoryError):
        text = f"There is not enough memory. {text}".strip()
    elif not isinstance(error, SoftiouError | OSError):
        text = (
            f"{type(error).__name__}: {text}\nThis should not happen. The same command with "
            "--debug shows where it happened."
        )
    return "\n".join([text.strip(), *getattr(error, "__notes__", ())])


def status_of_interruption() -> int:
    """Return the status of a program that was stopped by a signal, and say on stderr which."""
    number = received()
    how = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
    print(
        f"softiou: interrupted{how}; files on disk are complete, and the same command starts again",
        file=sys.stderr,
    )
    return 128 + number
