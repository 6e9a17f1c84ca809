"""Error messages and exit statuses of the command line."""

import errno
import signal
import sys

from softiou._signals import received
from softiou.cli._console import plain_message
from softiou.errors import SoftiouError

_WAYS_OUT = {
    errno.ENOSPC: "Free space on the disk, or choose another path.",
    errno.EDQUOT: "Your disk quota is used up: free space, or choose another path.",
    errno.EROFS: "Nothing can be written there: choose another path.",
    errno.EACCES: "Change its permissions, or choose another path.",
    errno.EPERM: "Change its permissions, or choose another path.",
    errno.EFBIG: "Raise the limit of file sizes, ulimit -f, or choose another file system.",
    errno.EMFILE: "Raise the limit of open files: ulimit -n 4096.",
    errno.ENAMETOOLONG: "Shorten the name.",
    errno.ELOOP: "It is a symbolic link that leads back to itself; remove it.",
}


def message_of(error: Exception) -> str:
    """Return the message of an error, with advice for common errors of the system."""
    text = plain_message(error)
    if isinstance(error, OSError) and error.errno is not None:
        text = f"{error.filename}: {error.strerror}. " if error.filename else f"{error.strerror}. "
        text += _WAYS_OUT.get(error.errno, "")
    elif "Symlink loop from" in text:  # Path.resolve
        text = f"{text}. {_WAYS_OUT[errno.ELOOP]}"
    elif isinstance(error, MemoryError):
        text = f"Out of memory. {text}".strip()
    elif not isinstance(error, SoftiouError | OSError):
        text = (
            f"{type(error).__name__}: {text}\nThis should not happen. Run the same command with "
            "--debug to see where it happened."
        )
    return "\n".join([text.strip(), *getattr(error, "__notes__", ())])


def status_of_interruption() -> int:
    """Return the exit status after a signal, and print the signal on stderr."""
    number = received()
    how = "" if number == signal.SIGINT else f" by {signal.Signals(number).name}"
    print(
        f"softiou: interrupted{how}; files on disk are complete, and the command can be run again",
        file=sys.stderr,
    )
    return 128 + number
