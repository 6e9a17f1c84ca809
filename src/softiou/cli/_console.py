"""Output shared by the verbs: messages, progress and tables of metrics."""

import json
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softiou._screen import is_watched, progress_of
from softiou._screen import say as say
from softiou._screen import visible as visible
from softiou.metrics.registry import MetricInfo, metric_info, metrics_of

if TYPE_CHECKING:
    from rich.table import Table

    from softiou.evaluation import EvaluationResult
    from softiou.jobs import Run


def command_line() -> str:
    """Return the command line of this process."""
    return shlex.join([Path(sys.argv[0]).name, *sys.argv[1:]])


def loading() -> AbstractContextManager[None]:
    """Return a context that shows a message if importing PyTorch takes long."""
    return progress_of(None).doing("loading PyTorch")


def for_job(given: dict[str, Any], **readers: Callable[[Any], Any]) -> dict[str, Any]:
    """Return a verb's arguments as arguments of its job; `readers` parse those given as text."""
    read = {name: reader(given[name]) for name, reader in readers.items()}
    progress = False if given["json_output"] else None
    given = {name: value for name, value in given.items() if name != "json_output"}
    return given | read | {"progress": progress}


def print_json(content: Mapping[str, object]) -> None:
    """Print the result of a verb as JSON, with paths as strings."""
    print(json.dumps(content, indent=1, allow_nan=False, default=str))


def plain_message(error: Exception) -> str:
    """Return the message of an error, without the traceback of a DataLoader worker.

    DataLoader puts the traceback of the worker process into the message of the error.
    """
    text = str(error)
    if not text.startswith("Caught "):
        return text
    return re.split(rf"^[\w.]*{type(error).__name__}: ", text, flags=re.MULTILINE)[-1].strip()


def show_evaluation(evaluation: "EvaluationResult", *, home: Path | None) -> None:
    """Print the metrics of an evaluation, and where its report is."""
    content = evaluation.content
    name = content["checkpoint"]
    rows, intervals = {name: content["metrics"]}, {name: content["intervals"]}
    if calibrated := content["calibrated"]:
        rows[f"after {calibrated['kind']}"] = calibrated["metrics"]
    score_table(rows, title=f"{content['data']}, {content['split']}", intervals=intervals)
    if caveat := evaluation.evaluation.caveat:
        say(caveat)
    if absent := evaluation.evaluation.absent_classes:
        say(absent)
    if home:
        say(f"report  {home / 'report.html'}")


def show_models(run: "Run") -> None:
    """Print the models that a run was compared with, and where its report is."""
    contents = run.contents()
    if table := contents.model_table:
        rows = {row.name: row.metrics for row in table.rows}
        intervals = {row.name: row.intervals for row in table.rows if row.intervals}
        score_table(rows, title=f"{table.data}, {table.split}", intervals=intervals)
        for note in table.notes:
            say(note)
    say(f"report  {run.path / 'report.html'}")


def score_table(
    rows: Mapping[str, Mapping[str, float | None]],
    *,
    names: Sequence[str] | None = None,
    title: str | None = None,
    intervals: Mapping[str, Mapping[str, Sequence[float | None] | None]] | None = None,
) -> None:
    """Print the metrics of models in per cent: a line for each metric, a column for each model.

    `names` are the metrics to print; None prints the main metrics of an evaluation. Intervals
    are printed after the values.
    """
    caption = "per cent; 95 % intervals by resampling the images" if intervals else "per cent"
    table = table_of(["", *map(escaped, rows)], caption=caption)
    table.title = escaped(title) if title else None
    if names is None:
        metrics = metrics_of(shown="console", among={name for row in rows.values() for name in row})
    else:
        metrics = [metric_info(name) for name in names]
    for metric in metrics:
        cells = [
            _cell(metric, values.get(metric.key), (intervals or {}).get(label, {}).get(metric.key))
            for label, values in rows.items()
        ]
        table.add_row(metric.heading, *cells)
    print_table(table)


def escaped(text: str) -> str:
    """Escape control characters and markup of a text for a table cell."""
    from rich.markup import escape

    return escape(visible(text))


def table_of(headings: Iterable[str], *, words: int = 1, **settings: Any) -> "Table":
    """Return a table whose first columns contain text and the others numbers."""
    from rich.table import Table

    table = Table(title_justify="left", caption_justify="left", **settings)
    for number, heading in enumerate(headings):
        table.add_column(heading, justify="left" if number < words else "right")
    return table


def print_table(table: "Table", *, width: int = 100) -> None:
    """Print a table without breaking numbers and names; in a narrow terminal, headings wrap.

    The first column has the names of the rows; `width` in characters is used if output is a file.
    """
    from rich.console import Console

    for number, column in enumerate(table.columns):
        longest = max((len(str(cell)) for cell in column.cells), default=0)
        column.no_wrap, column.overflow = False, "fold"
        column.min_width = min(longest, 24 if number else 28)
    Console(width=None if is_watched() else width).print(table)


def _cell(
    metric: MetricInfo, value: float | None, interval: Sequence[float | None] | None = None
) -> str:
    text = "-" if value is None else metric.text(value)
    return text if interval is None else f"{text}  " + "..".join(_cell(metric, x) for x in interval)
