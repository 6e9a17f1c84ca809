"""Lines and progress bars: in a terminal, in a notebook, or in a file that a program writes."""

import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from importlib import import_module
from importlib.util import find_spec
from threading import Timer
from typing import TypeVar

T = TypeVar("T")
SLOW_SECONDS = 2.0  # after which a person wonders
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


@dataclass(frozen=True)
class Progress:
    """What a job shows while it runs.

    Attributes:
        lines: Whether to print lines.
        bars: Whether to show progress bars.
    """

    lines: bool
    bars: bool

    def say(self, line: str) -> None:
        """Print a line at once, also into a file or pipe."""
        if self.lines:
            say(line)

    def track(self, items: Iterable[T], total: int, description: str) -> Iterable[T]:
        """Wrap an iterable with a progress bar."""
        if not self.bars:
            return items
        if in_notebook():
            return _notebook_bar(items, total, description)
        from rich.progress import track

        return track(items, description=description, total=total)

    @contextmanager
    def doing(self, what: str) -> Iterator[None]:
        """While entered, say on stderr what takes long, once it takes more than two seconds."""
        words = f"softiou: {what} ..."
        timer = Timer(SLOW_SECONDS, print, (words,), {"file": sys.stderr, "flush": True})
        timer.daemon = True
        if self.lines:
            timer.start()
        try:
            yield
        finally:
            timer.cancel()

    def without_lines(self) -> "Progress":
        """Return the same with bars alone."""
        return replace(self, lines=False)


def progress_of(progress: "bool | Progress | None") -> Progress:
    """Return what to show: all of it, nothing, or by default lines, and bars if someone watches."""
    if isinstance(progress, Progress):
        return progress
    shown = progress is not False and verbosity() >= 0
    return Progress(lines=shown, bars=is_watched() and shown)


def _notebook_bar(items: Iterable[T], total: int, description: str) -> Iterable[T]:
    # The bar made of widgets warns where there are none; rich has no other one for notebooks.
    module = import_module("tqdm.notebook" if find_spec("ipywidgets") else "tqdm")
    options = {"desc": description, "total": total, "file": sys.stdout, "leave": False}
    bar: Iterable[T] = module.tqdm(items, **options)
    return bar
