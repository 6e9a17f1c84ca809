"""Ctrl-C and SIGTERM stop the training after the current step, instead of raising at once."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from softiou._signals import STOPPING


class Stopped(BaseException):
    """Ends the trainer. Not a KeyboardInterrupt, which Lightning turns into sys.exit(1)."""


class StopRequest:
    """A context in which a signal only sets `requested`; a second signal raises `Stopped`."""

    def __init__(self, say: Callable[[str], None]) -> None:
        self.requested = False
        self._say = say
        self._process = os.getpid()
        self._previous: dict[int, Any] = {}

    def __enter__(self) -> "StopRequest":
        self.listen()
        return self

    def __exit__(self, kind: object, error: BaseException | None, traceback: object) -> None:
        for number, handler in self._previous.items():
            signal.signal(number, handler)
        self._previous = {}
        if self.requested and error is None:  # the signal came after the last step
            raise Stopped

    def listen(self) -> None:
        """Install the signal handlers, again if other code has replaced them."""
        if threading.current_thread() is not threading.main_thread():
            return  # Python allows signal handlers only in the main thread
        for number in STOPPING:
            previous = signal.signal(number, self._handle)
            self._previous.setdefault(number, previous)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a forked loading process, which inherits the handler
        if self.requested:
            raise Stopped
        self.requested = True
        # The signal may interrupt another print, which makes a second print fail.
        with contextlib.suppress(RuntimeError):
            self._say("stopping after this step; press Ctrl-C again to stop at once")
