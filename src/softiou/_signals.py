"""Ctrl-C and SIGTERM on the command line: raised, and remembered if something swallows them."""

import os
import signal
from types import FrameType

STOPPING = (signal.SIGINT, signal.SIGTERM)  # SIGTERM: what clusters send before they take a machine
_received: list[int] = []
_listening: list[int] = []  # the process, which forked ones are not


def listen() -> None:
    """Make both signals raise KeyboardInterrupt in this process, which is not a library's."""
    _received.clear()
    _listening[:] = [os.getpid()]
    for number in STOPPING:
        signal.signal(number, _interrupt)


def received() -> int:
    """Return the number of the first signal that came, 0 for none."""
    return _received[0] if _received else 0


def raise_if_received() -> None:
    """Raise KeyboardInterrupt where an earlier one was swallowed, as destructors do."""
    if _received and os.getpid() in _listening:
        raise KeyboardInterrupt


def _interrupt(number: int, frame: FrameType | None) -> None:
    if os.getpid() not in _listening:
        os._exit(128 + number)  # a process that was forked just now
    _received.append(number)
    raise KeyboardInterrupt
