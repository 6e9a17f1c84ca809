"""Lines and progress bars: in a terminal, in a notebook, or in a file that a program writes."""

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
SLOW_SECONDS = 2.0  # after which a person wonders
LINE_SECONDS = 30.0  # between two lines in a file, where a tenth of the work takes longer
_VERBOSITY = {"level": 0}  # -1: results and errors alone, 1: everything


def verbosity() -> int:
    """Return how much is printed: -1 results and errors alone, 0 progress too, 1 everything."""
    return _VERBOSITY["level"]


def set_verbosity(level: int) -> None:
    """Say how much this process prints, see `verbosity`."""
    _VERBOSITY["level"] = level


_UNSEEN = re.compile(r"[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028-\u202e\u2066-\u2069\ud800-\udfff]")


def in_notebook() -> bool:
    """Return whether this process is the kernel of a notebook."""
    ipython = sys.modules.get("IPython")
    return ipython is not None and getattr(ipython.get_ipython(), "kernel", None) is not None


def is_watched() -> bool:
    """Return whether a person sees the output, so that progress bars make sense."""
    return in_notebook() or sys.stdout.isatty()


def say(line: str) -> None:
    """Print lines at once, also into a file or pipe; control characters are shown escaped."""
    print(visible(line, keep="\n\t"), flush=True)


def visible(text: object, *, keep: str = "") -> str:
    r"""Show control characters, directions of writing and bytes that are not UTF-8 escaped.

    Names of files and classes may hold them, and a terminal would obey.

    Example:
        >>> visible("a\x1b[2Jb\n")
        'a\\x1b[2Jb\\n'
    """
    return _UNSEEN.sub(
        lambda found: found[0] if found[0] in keep else _escaped(found[0]), str(text)
    )


def _escaped(character: str) -> str:
    byte = ord(character) - 0xDC00  # a byte of a name that is not UTF-8, as Python keeps it
    return f"\\x{byte:02x}" if 0x80 <= byte <= 0xFF else ascii(character)[1:-1]


class Pace:
    """Says when a line about slow work is due: at each tenth of `total`, or every 30 seconds."""

    def __init__(self, total: int) -> None:
        self._tenth = total / 10
        self.restart(0)

    def restart(self, done: int) -> None:
        """Count from here, as after a line of another kind."""
        self._done, self._time = done, time.monotonic()

    def due(self, done: int) -> bool:
        """Return whether a line is due after some of the work, and count from here if it is."""
        waited = time.monotonic() - self._time
        tenth = done - self._done >= self._tenth
        found = waited >= (SLOW_SECONDS if tenth else LINE_SECONDS)
        if found:
            self.restart(done)
        return found


def _say_aside(line: str) -> None:
    """Print a line on stderr: standard output may be the result of a command."""
    print(f"softiou: {line}", file=sys.stderr, flush=True)


@contextmanager
def doing(what: str, say: Callable[[str], None] = _say_aside) -> Iterator[None]:
    """While entered, say what takes long, once it takes more than two seconds."""
    timer = Timer(SLOW_SECONDS, say, (f"{what} ...",))
    timer.daemon = True
    timer.start()
    try:
        yield
    finally:
        timer.cancel()


@dataclass(frozen=True)
class Progress:
    """What a job shows while it runs."""

    lines: bool  # whether to print lines
    bars: bool  # whether to show progress bars
    notes: bool = True  # whether lines tell results, too, and not only what takes long

    def say(self, line: str) -> None:
        """Print a line at once, also into a file or pipe."""
        if self.lines and self.notes:
            say(line)

    def track(self, items: Iterable[T], total: int, description: str) -> Iterable[T]:
        """Wrap an iterable with a progress bar, or with lines where nobody watches."""
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
        """Return what says on stderr what takes long, see `doing`."""
        return doing(what) if self.lines else nullcontext()

    def without_notes(self) -> "Progress":
        """Return the same without results."""
        return replace(self, notes=False)


def progress_of(progress: "bool | Progress | None") -> Progress:
    """Return what to show: all of it, nothing, or by default lines, and bars if someone watches."""
    if isinstance(progress, Progress):
        return progress
    shown = progress is not False and verbosity() >= 0 and is_first()
    return Progress(lines=shown, bars=is_watched() and shown)


def notebook_bar(items: Iterable[T] | None = None, **settings: Any) -> Any:
    """Return a bar of tqdm, which may be iterated over or updated."""
    # The bar made of widgets warns where there are none; rich has no other one for notebooks.
    module = import_module("tqdm.notebook" if find_spec("ipywidgets") else "tqdm")
    return module.tqdm(items, file=sys.stdout, leave=False, **settings)
