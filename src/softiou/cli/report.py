"""`softiou report`: the page of a run."""

from pathlib import Path
from typing import Annotated

import typer

from softiou.cli import _console


def report(
    run: Annotated[Path, typer.Argument(help="Directory of a run, as `softiou train` writes it.")],
) -> None:
    """Write RUN/report.html: metrics, curves, classes, best and worst images, calibration.

    The page is one file that needs no network. A run that is not evaluated yet, or still
    trains, gets a page with what there is.
    """
    with _console.loading():
        from softiou.jobs import report as write_report
    print(write_report(run))
