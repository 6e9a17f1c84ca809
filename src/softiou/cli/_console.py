"""What the verbs share: printing, progress, the table of scores."""

import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

T = TypeVar("T")

SCORES = {
    "miou_d": "mIoU D",
    "miou_i": "mIoU I",
    "miou_c": "mIoU C",
    "mdice_d": "mDice D",
    "accuracy": "accuracy",
    "ece_d": "ECE",
}


def command_line() -> str:
    """Return the command that was typed."""
    return " ".join([Path(sys.argv[0]).name, *sys.argv[1:]])


def say(line: str) -> None:
    """Print a line at once, also into a file or pipe."""
    print(line, flush=True)


def interactive() -> bool:
    """Return whether a person is watching, so that progress bars make sense."""
    return sys.stdout.isatty()


def track(items: Iterable[T], *, total: int, description: str) -> Iterable[T]:
    """Wrap an iterable with a progress bar when a person is watching."""
    if not interactive():
        return items
    from rich.progress import track as rich_track

    return rich_track(items, description=description, total=total)


def score_table(
    rows: Mapping[str, Mapping[str, float | None]],
    *,
    names: Sequence[str] = tuple(SCORES),
    title: str | None = None,
) -> None:
    """Print scores in per cent, a row each."""
    from rich.console import Console
    from rich.table import Table

    table = Table(title=title, title_justify="left", caption="per cent", caption_justify="left")
    table.add_column("")
    for name in names:
        table.add_column(SCORES[name], justify="right", no_wrap=True)
    for label, scores in rows.items():
        table.add_row(label, *[_cell(scores.get(name)) for name in names])
    Console(width=None if interactive() else 100).print(table)


def _cell(value: Any) -> str:
    return "-" if value is None else f"{value:.1f}"
