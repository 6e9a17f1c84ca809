"""`softiou check`: what is wrong with a data set, and how to mend it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from rich.console import RenderableType
    from rich.table import Table

    from softiou.data import CheckReport
    from softiou.data.contents import SizeSummary, SplitSummary

_SHOWN = 20


def check(
    data: Annotated[
        str, typer.Argument(help="Folder with dataset.yaml, or 'digits' for the embedded data.")
    ],
    json_output: Annotated[
        bool, typer.Option("--json", help="Print all findings as JSON instead of a summary.")
    ] = False,
) -> None:
    """Tell what is wrong with a data set, and how to mend it, before training.

    Looks at every file and ends with status 1 when there are errors.
    """
    import json
    from dataclasses import asdict

    from rich.console import Console

    from softiou.data import check_dataset

    report = check_dataset(data)
    if json_output:
        print(json.dumps(asdict(report), indent=2))
    else:
        console = Console()
        for part in _summary(report):
            console.print(part)
    if report.errors:
        raise typer.Exit(1)


def _summary(report: CheckReport) -> Iterator[RenderableType]:
    """Render the splits, the first problems of each severity, and a closing line."""
    from rich.text import Text

    yield from map(Text, _contents(report))
    if report.splits:
        yield _class_table(report)
    for colour, problems in (("yellow", report.warnings), ("red", report.errors)):
        for problem in problems[:_SHOWN]:
            yield Text.assemble(
                (f"{problem.severity}: ", f"bold {colour}"),
                f"{problem.file}\n  {problem.message}\n  -> {problem.remedy}",
            )
        if len(problems) > _SHOWN:
            yield Text(f"... and {len(problems) - _SHOWN} more; --json prints them all.")
    counts = f"errors: {len(report.errors)}, warnings: {len(report.warnings)}, in {report.source}"
    yield Text(counts, style="bold red" if report.errors else "bold green")


def _contents(report: CheckReport) -> Iterator[str]:
    """Say what is there, split by split, and what of it is for learning without masks."""
    for name, split in report.splits.items():
        yield f"{name}: {_in_words(split)}"
    for name, listed in report.lists.items():
        counts = f"{listed.images} images of train with masks, {listed.left_out} without"
        yield f"softiou semi --split {name}: {counts}"
    if report.unlabeled:
        images = f"{report.unlabeled.images} images without masks"
        yield "; ".join([f"unlabeled: {images}", *_sizes(report.unlabeled.sizes)])


def _in_words(split: SplitSummary) -> str:
    """Say how many images, of which sizes, labelled by how many."""
    parts = [f"{split.images} images", *_sizes(split.sizes)]
    if split.annotators > 1:
        parts.append(f"{split.annotators} annotators")
    if split.ignored_share:
        parts.append(f"{split.ignored_share:.1%} of the pixels ignored")
    return "; ".join(parts)


def _sizes(sizes: Sequence[SizeSummary]) -> list[str]:
    """Name the most frequent sizes, if there are any."""
    from softiou.data.problems import some_of

    named = [f"{size.images} of {size.width_px}x{size.height_px}" for size in sizes]
    return [some_of(named)] if named else []


def _class_table(report: CheckReport) -> Table:
    """Render the share of the pixels and the number of images of each class, by split."""
    from rich.markup import escape
    from rich.table import Table

    table = Table("class", *(escape(f"{name}: pixels (images)") for name in report.splits))
    for column in table.columns[1:]:
        column.justify = "right"
    for rows in zip(*(split.classes for split in report.splits.values()), strict=True):
        cells = (f"{row.pixel_share:.2%} ({row.images})" for row in rows)
        table.add_row(escape(rows[0].name), *cells)
    return table
