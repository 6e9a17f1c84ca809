"""`softiou check`: find the problems of a data set, and correct a copy."""

from __future__ import annotations

import json
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from softiou._screen import progress_of
from softiou.cli import _console

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from rich.console import RenderableType

    from softiou.checking import CheckReport, FixReport
    from softiou.jobs import SuspectLabel

BandsOfImages = Annotated[
    str | None, typer.Option(help="Bands of the images, counted from 1, as data.bands: 4,3,2.")
]


def check(
    data: Annotated[
        str,
        typer.Argument(
            help="Folder with dataset.yaml, LAYOUT:/path, or 'digits' for the embedded data."
        ),
    ],
    unlabeled: Annotated[
        Path | None, typer.Option(help="Folder of images without masks, to be checked as well.")
    ] = None,
    bands: BandsOfImages = None,
    fix: Annotated[
        Path | None,
        typer.Option(
            metavar="OUT",
            help="Write a corrected copy of the masks into this new folder, with links to the "
            "images; DATA is never touched.",
        ),
    ] = None,
    shards: Annotated[
        int | None,
        typer.Option(
            metavar="MB", min=1, help="With --fix: write tar archives of this size, no files."
        ),
    ] = None,
    run: Annotated[
        Path | None,
        typer.Option(
            "--with",
            metavar="RUN",
            help="Also list labels where this model confidently predicts another class.",
        ),
    ] = None,
    strict: Annotated[
        bool,
        typer.Option("--strict", help="Exit status 1 also for warnings or a missing split val."),
    ] = False,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print all problems as JSON instead of a summary.")
    ] = False,
) -> None:
    """Find the problems of a data set before training, and how to fix them.

    Reads every file. The exit status is 1 if there are errors; with --fix, if the copy does not
    repair all of them.
    """
    with _console.loading():
        from softiou import jobs
        from softiou.checking import fix_dataset, fix_folder
        from softiou.cli._check_text import fix_summary, summary, suspect_table
        from softiou.configuration import load_config
        from softiou.data import Bands

    if fix is not None:
        fix_folder(data, fix)  # fail before the long check
    progress = progress_of(False if json_output else None)
    asked = [] if bands is None else [f"data.bands={bands}"]
    numbers = load_config(source=data, overrides=asked).data.bands
    report = jobs.check(data, unlabeled=unlabeled, bands=numbers, progress=progress)
    if not json_output:
        _print(summary(report))  # before the repair, which may raise
    watch = partial(progress.track, description="checking files")
    seen = Bands(tuple(numbers)) if numbers else None
    how: dict[str, Any] = {"bands": seen, "shard_bytes": shards and shards * 10**6, "watch": watch}
    fixed = None if fix is None else fix_dataset(data, fix, report=report, **how)
    suspects = () if run is None else jobs.suspect_labels(run, data, progress=progress)
    if json_output:
        _print_json(report, fixed, suspects)
    elif fixed is not None:
        _print(fix_summary(fixed))
    if run is not None and not json_output:
        _print(suspect_table(suspects))
    failed = bool(report.errors) if fixed is None else not fixed.complete
    if failed or (strict and (report.warnings or report.lacks_validation)):
        raise typer.Exit(1)


def convert(
    data: Annotated[
        str, typer.Argument(help="Data set folder or LAYOUT:/path, such as coco:/data/coco.")
    ],
    out: Annotated[Path, typer.Argument(help="New folder.")],
    bands: BandsOfImages = None,
    shards: Annotated[
        int | None, typer.Option(metavar="MB", min=1, help="Write tar archives of this size.")
    ] = None,
) -> None:
    """Write a data set of any layout or annotation format as a folder of images and masks.

    The masks are PNG files of class indices; the images are links to those of DATA. Training
    reads DATA directly and does not need this. Like check DATA --fix OUT, it corrects errors.
    """
    check(data, bands=bands, fix=out, shards=shards)


def _print_json(
    report: CheckReport, fixed: FixReport | None, suspects: Sequence[SuspectLabel]
) -> None:
    content = {**report.as_dict(), "fix": asdict(fixed) if fixed else None}
    content["suspects"] = [asdict(suspect) for suspect in suspects]
    print(json.dumps(content, indent=2))


def _print(parts: Iterable[RenderableType]) -> None:
    from rich.console import Console
    from rich.text import Text

    console = Console()
    for part in parts:
        console.print(part, soft_wrap=isinstance(part, Text))  # do not break paths
