"""softiou compare: compare evaluated runs on the same images."""

from pathlib import Path
from string import ascii_uppercase
from typing import TYPE_CHECKING, Annotated

import typer

from softiou._screen import is_watched
from softiou.cli import _console
from softiou.metrics.registry import metric_info

if TYPE_CHECKING:
    from rich.table import Table

    from softiou.comparison import Comparison, Contrast, Difference, Estimate, Group

NOTE = (
    "With one seed, intervals describe the choice of test images, not of the seed. "
    "Runs that differ only in their seed are pooled."
)


def compare(
    runs: Annotated[
        list[Path],
        typer.Argument(
            metavar="RUN",
            help="Two or more run directories or evaluation.json files; the first is the baseline.",
        ),
    ],
    level: Annotated[float, typer.Option(help="Confidence level of the intervals, per cent.")] = 95,
    resamples: Annotated[int, typer.Option(min=50, help="Number of bootstrap resamples.")] = 10_000,
    seed: Annotated[int, typer.Option(min=0, max=2**63 - 1, help="Seed of the bootstrap.")] = 0,
    together: Annotated[
        str | None,
        typer.Option(
            metavar="REGEX|N",
            help="Resample groups of images: those whose names begin with the same match, such as "
            "a patient, or that many consecutive ones, such as the frames of a video.",
            show_default=False,
        ),
    ] = None,
    out: Annotated[
        Path | None, typer.Option(help="New file for the result as JSON.", show_default=False)
    ] = None,
    report: Annotated[
        Path | None,
        typer.Option(help="New HTML page with the images side by side.", show_default=False),
    ] = None,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print the result as JSON instead of tables.")
    ] = False,
) -> None:
    """Estimate whether a run is better than another, with confidence intervals.

    Uses a paired bootstrap over the images of both evaluations; P is the share of resamples in
    which the run is better than the baseline. Runs that differ only in their seed are pooled.
    """
    given = _console.for_job(locals())
    with _console.loading():
        from softiou.jobs import compare as compare_runs
    if together is not None and together.isdecimal():
        given["together"] = int(together)
    result = compare_runs(*given.pop("runs"), **given)
    if json_output:
        _console.print_json(result.as_dict())
        return
    show(result)
    for path in (out, report):
        if path is not None:
            _console.say(f"comparison  {path}")


def show(comparison: "Comparison") -> None:
    """Print the runs, and for each comparison a table of metrics and a table of classes."""
    from rich.console import Console

    console = Console(width=None if is_watched() else 100)
    number = len(comparison.groups)
    letters = [*ascii_uppercase, *map(str, range(27, number + 1))][:number]
    images = f"{comparison.num_images} images{comparison.drawn_together()}"
    _console.say(f"{comparison.data}, {comparison.split}: {images}")
    for letter, group in zip(letters, comparison.groups, strict=True):
        seeds = ", ".join(str(seed) for seed in group.seeds)
        _console.say(f"{letter}  {group.name}" + (f": {seeds}" if len(group.seeds) > 1 else ""))
    for note in comparison.notes(letters):
        console.print(note, highlight=False, markup=False)
    if not comparison.contrasts:
        for table in _group_tables(comparison, comparison.groups[0]):
            _console.print_table(table)
    for contrast in comparison.contrasts:
        a, b = letters[contrast.baseline], letters[contrast.group]
        for table in _contrast_tables(comparison, contrast, a=a, b=b):
            _console.print_table(table)
    if any(len(group.runs) == 1 for group in comparison.groups):
        console.print(NOTE, highlight=False)


def _group_tables(comparison: "Comparison", group: "Group") -> list["Table"]:
    headings = ("", "mean", "sd", f"{comparison.level:g} % interval")
    metrics = _console.table_of(headings, caption="per cent")
    for name, estimate in group.metrics.items():
        metric = metric_info(name)
        metrics.add_row(metric.heading, *_estimate_cells(estimate, metric.digits + 1))
    classes = _console.table_of(headings, title="IoU of the classes", caption="per cent")
    for name, estimate in zip(comparison.classes, group.iou, strict=True):
        classes.add_row(_console.escaped(name), *_estimate_cells(estimate))
    return [metrics, classes]


def _contrast_tables(
    comparison: "Comparison", contrast: "Contrast", *, a: str, b: str
) -> list["Table"]:
    baseline, group = comparison.groups[contrast.baseline], comparison.groups[contrast.group]
    headings = ("", a, b, f"{b} - {a}", f"{comparison.level:g} % interval", f"P({b} better)")
    metrics = _console.table_of(headings, caption="per cent; ↓ lower is better")
    for name, difference in contrast.metrics.items():
        pair = baseline.metrics[name], group.metrics[name]
        mark = " ↓" if difference.better == "lower" else ""
        metric = metric_info(name)
        cells = _difference_cells(pair, difference, metric.digits + 1)
        metrics.add_row(metric.heading + mark, *cells)
    classes = _console.table_of(headings, title="IoU of the classes", caption="per cent")
    rows = zip(comparison.classes, baseline.iou, group.iou, contrast.iou, strict=True)
    for name, one, other, difference in rows:
        classes.add_row(_console.escaped(name), *_difference_cells((one, other), difference))
    return [metrics, classes]


def _estimate_cells(estimate: "Estimate", digits: int = 2) -> list[str]:
    return [
        _cell(estimate.value, digits),
        _cell(estimate.spread, digits),
        _interval_cell(estimate.interval, digits),
    ]


def _difference_cells(
    pair: tuple["Estimate", "Estimate"], difference: "Difference", digits: int = 2
) -> list[str]:
    return [
        *(_with_spread(estimate, digits) for estimate in pair),
        _cell(difference.value, digits, sign=True),
        _interval_cell(difference.interval, digits, sign=True),
        difference.chance() or "-",
    ]


def _with_spread(estimate: "Estimate", digits: int) -> str:
    spread = "" if estimate.spread is None else f" ± {_cell(estimate.spread, digits)}"
    return _cell(estimate.value, digits) + spread


def _interval_cell(interval: tuple[float, float] | None, digits: int, *, sign: bool = False) -> str:
    if interval is None:
        return "-"
    return " to ".join(_cell(end, digits, sign=sign) for end in interval)


def _cell(value: float | None, digits: int = 2, *, sign: bool = False) -> str:
    if value is None:
        return "-"
    rounded = round(value, digits) + 0.0  # no -0.00
    return f"{rounded:+.{digits}f}" if sign and rounded else f"{rounded:.{digits}f}"
