"""Handle Ctrl-C and SIGTERM on the command line, even if a library swallows them."""

import os
import signal
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM)  # clusters send SIGTERM before preemption
_received: list[int] = []
_listening: list[int] = []  # process id; forked processes differ


def listen() -> None:
    """Make both signals raise KeyboardInterrupt in this process."""
    _received.clear()
    _listening[:] = [os.getpid()]
    for number in STOPPING:
        signal.signal(number, _interrupt)


def received() -> int:
    """Return the number of the first received signal, or 0."""
    return _received[0] if _received else 0


def raise_if_received() -> None:
    """Raise KeyboardInterrupt if an earlier one was swallowed, for example by a destructor."""
    if _received and os.getpid() in _listening:
        raise KeyboardInterrupt


def _interrupt(number: int, frame: FrameType | None) -> None:
    if os.getpid() not in _listening:
        os._exit(128 + number)  # a forked process
    _received.append(number)
    raise KeyboardInterrupt
