"""Write the report of a run, and show runs as HTML in notebooks."""

from dataclasses import dataclass
from pathlib import Path

from softiou._html import html_page, html_table
from softiou.jobs.trained import RunLike, Trained, as_trained


@dataclass(frozen=True)
class ReportPage:
    """A report that a notebook shows inline.

    Attributes:
        path: The HTML file; it needs no network.
    """

    path: Path

    def __str__(self) -> str:
        return str(self.path)

    def _repr_html_(self) -> str:
        return html_page(self.path.read_text(encoding="utf-8"))


def report(run: RunLike) -> ReportPage:
    """Write report.html of a run: metrics, learning curves, classes, images, calibration.

    If the run is still training or has no evaluation, the page shows what is available.

    Args:
        run: Run or run directory.

    Raises:
        CheckpointError: The model is not in a run directory.
        DataError: The run does not exist, or one of its files cannot be read.
    """
    from softiou.reports import write_report

    trained = as_trained(run)
    return ReportPage(write_report(trained.directory or trained.path))


def run_html(run: Trained) -> str:
    """Return the settings and the metrics of a run as a table."""
    from softiou.reports import collect

    if run.directory is None:
        return html_table(["model", ""], [["file", str(run.path)]])
    config, read = run.config, collect(run.directory)
    rows: list[tuple[str, object]] = [
        ("run", str(run.directory)),
        ("data set", config.data.source),
        ("model", f"{config.model.architecture}, {config.model.encoder}"),
        ("steps", f"{read.history.last_step} of {config.optim.steps}"),
    ]
    if read.evaluation is not None:
        rows += read.evaluation.metrics.items()
    return html_table(["", ""], rows)
