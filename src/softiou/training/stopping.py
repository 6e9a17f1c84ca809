"""Ctrl-C and SIGTERM request a stop after the current step, instead of raising anywhere."""

import contextlib
import os
import signal
import threading
from collections.abc import Callable
from types import FrameType
from typing import Any

from softiou._signals import STOPPING


class Stopped(BaseException):
    """Unwinds the trainer. Not a KeyboardInterrupt, which Lightning turns into sys.exit(1)."""


class StopRequest:
    """While entered, a signal only sets `requested`; a second one raises `Stopped` at once."""

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
        if self.requested and error is None:  # after the last step, so that nothing has stopped yet
            raise Stopped

    def listen(self) -> None:
        """Take over the signals, again if somebody else took them in between."""
        if threading.current_thread() is not threading.main_thread():
            return  # Python hands signals to the main thread alone
        for number in STOPPING:
            previous = signal.signal(number, self._handle)
            self._previous.setdefault(number, previous)

    def _handle(self, number: int, frame: FrameType | None) -> None:
        if os.getpid() != self._process:
            return  # a loading process that was forked just now
        if self.requested:
            raise Stopped
        self.requested = True
        # The signal may have come in the middle of another print.
        with contextlib.suppress(RuntimeError):
            self._say("stopping after this step; once more to stop at once")
