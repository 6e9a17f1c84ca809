"""What the verbs share: printing, progress, the table of scores."""

import re
import shlex
import sys
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import TypeVar

from softiou.metrics.registry import MetricInfo, metric_info, metrics_of

T = TypeVar("T")

SCORES = {"soft_dice_d": "soft Dice D", "ged": "energy"}


def command_line() -> str:
    """Return the command that was typed."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def plain_message(error: Exception) -> str:
    """Return the message of an error; without the traceback when it comes from a loading process.

    DataLoader puts the whole traceback of its process into the message of the error.
    """
    text = str(error)
    if not text.startswith("Caught "):
        return text
    return re.split(rf"^[\w.]*{type(error).__name__}: ", text, flags=re.MULTILINE)[-1].strip()


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
    names: Sequence[str] | None = None,
    title: str | None = None,
    intervals: Mapping[str, Sequence[float | None]] | None = None,
) -> None:
    """Print metrics in per cent, a row each; None for those of an evaluation that any row has.

    The intervals are those of the first row, by name; they stand below it.
    """
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    caption = "per cent; 95 % intervals by resampling the images" if intervals else "per cent"
    table = Table(title_justify="left", caption=caption, caption_justify="left")
    table.title = escape(title) if title else None
    table.add_column("")
    if names is None:
        metrics = metrics_of(shown="console", among={name for row in rows.values() for name in row})
    else:
        metrics = [metric_info(name) for name in names]
    for metric in metrics:
        table.add_column(metric.heading, justify="right", no_wrap=True)
    for label, values in rows.items():
        table.add_row(escape(label), *[_cell(metric, values.get(metric.key)) for metric in metrics])
        if intervals:
            limits = [_interval(metric, intervals.get(metric.key)) for metric in metrics]
            table.add_row("", *limits, style="dim")
            intervals = None
    Console(width=None if interactive() else 100).print(table)


def _cell(metric: MetricInfo, value: float | None) -> str:
    return "-" if value is None else metric.text(value)


def _interval(metric: MetricInfo, pair: Sequence[float | None] | None) -> str:
    return "" if pair is None else "..".join(_cell(metric, value) for value in pair)
