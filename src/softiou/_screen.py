"""Messages and progress bars for terminals, notebooks and log files."""

import re
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from threading import Timer
from typing import Any, TypeVar

from softiou._processes import is_first

T = TypeVar("T")
SLOW_SECONDS = 2.0  # delay before a message about slow work
LINE_SECONDS = 30.0  # longest time between two progress lines
_VERBOSITY = {"level": 0}  # -1: only results and errors, 1: everything


def verbosity() -> int:
    """Return the verbosity: -1 results and errors only, 0 progress as well, 1 everything."""
    return _VERBOSITY["level"]


def set_verbosity(level: int) -> None:
    """Set the verbosity of this process, see `verbosity`."""
    _VERBOSITY["level"] = level


_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None


def is_watched() -> bool:
    """Return whether the output is a notebook or a terminal."""
    return in_notebook() or sys.stdout.isatty()


def say(line: str) -> None:
    """Print and flush a line; control characters are escaped."""
    print(visible(line, keep="\n\t"), flush=True)


def visible(text: object, *, keep: str = "") -> str:
    r"""Escape control characters, text direction marks and bytes that are not UTF-8.

    Names of files and classes can contain them, and a terminal would execute them.

    Example:
        >>> visible("a\x1b[2Jb\n")
        'a\\x1b[2Jb\\n'
    """
    return _UNSEEN.sub(
        lambda found: found[0] if found[0] in keep else _escaped(found[0]), str(text)
    )


def _escaped(character: str) -> str:
    byte = ord(character) - 0xDC00  # a byte that is not UTF-8 (surrogateescape)
    return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else ascii(character)[1:-1]


class Pace:
    """Decides when to print progress: at each tenth of `total`, or every 30 seconds."""

    def __init__(self, total: int) -> None:
        self._tenth = total / 10
        self.restart(0)

    def restart(self, done: int) -> None:
        """Restart the intervals, after another line was printed."""
        self._done, self._time = done, time.monotonic()

    def due(self, done: int) -> bool:
        """Return whether a line is due, and restart the intervals if so."""
        waited = time.monotonic() - self._time
        tenth = done - self._done >= self._tenth
        found = waited >= (SLOW_SECONDS if tenth else LINE_SECONDS)
        if found:
            self.restart(done)
        return found


def _say_aside(line: str) -> None:
    """Print a line on stderr, because standard output may be a result to parse."""
    print(f"softiou: {line}", file=sys.stderr, flush=True)


@contextmanager
def doing(what: str, say: Callable[[str], None] = _say_aside) -> Iterator[None]:
    """Return a context that prints a message after two seconds."""
    timer = Timer(SLOW_SECONDS, say, (f"{what} ...",))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@dataclass(frozen=True)
class Progress:
    """The output of a job while it runs."""

    lines: bool  # whether to print lines
    bars: bool  # whether to show progress bars
    notes: bool = True  # whether to print results, not only progress

    def say(self, line: str) -> None:
        """Print and flush a line."""
        if self.lines and self.notes:
            say(line)

    def track(self, items: Iterable[T], total: int, description: str) -> Iterable[T]:
        """Wrap an iterable with a progress bar, or with progress lines in a log file."""
        if not self.bars:
            return self._with_lines(items, total, description) if self.lines else items
        if in_notebook():
            bar: Iterable[T] = notebook_bar(items, desc=description, total=total)
            return bar
        from rich.progress import track

        return track(items, description=description, total=total)

    def _with_lines(self, items: Iterable[T], total: int, description: str) -> Iterator[T]:
        pace = Pace(total)
        for done, item in enumerate(items, start=1):
            yield item
            if pace.due(done):
                say(f"{description}  {done}/{total}")

    def doing(self, what: str) -> AbstractContextManager[None]:
        """Return a context that prints a message on stderr after two seconds."""
        return doing(what) if self.lines else nullcontext()

    def without_notes(self) -> "Progress":
        """Return a copy that prints progress only."""
        return replace(self, notes=False)


def progress_of(progress: "bool | Progress | None") -> Progress:
    """Return the output settings; default: lines, and bars in a notebook or terminal."""
    if isinstance(progress, Progress):
        return progress
    shown = progress is not False and verbosity() >= 0 and is_first()
    return Progress(lines=shown, bars=is_watched() and shown)


def notebook_bar(items: Iterable[T] | None = None, **settings: Any) -> Any:
    """Return a tqdm bar, for iteration or manual updates."""
    # tqdm.notebook warns without ipywidgets, and rich has no other bar for notebooks.
    module = import_module("tqdm.notebook" if find_spec("ipywidgets") else "tqdm")
    return module.tqdm(items, file=sys.stdout, leave=False, **settings)
