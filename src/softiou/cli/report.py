"""`softiou report`: write the HTML report of a run."""

from pathlib import Path
from typing import Annotated

import typer

from softiou.cli import _console


def report(
    run: Annotated[Path, typer.Argument(help="Run directory, as written by `softiou train`.")],
) -> None:
    """Write RUN/report.html: metrics, learning curves, classes, images, calibration.

    The page is one file that needs no network. If the run is still training or has no evaluation,
    the page shows what is available.
    """
    with _console.loading():
        from softiou.jobs import report as write_report
    print(write_report(run))
