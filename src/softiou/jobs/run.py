"""A trained model with its settings and metrics, and the jobs that work on it."""

from pathlib import Path
from typing import TYPE_CHECKING

from softiou.checkpoints import find_checkpoint
from softiou.errors import CheckpointError
from softiou.jobs import calibrating, comparing, exporting, predicting, reporting, scoring
from softiou.jobs.trained import Trained

if TYPE_CHECKING:
    from torch import nn

    from softiou.reports import ReportData


class Run(Trained):
    """A trained model on disk, and the jobs that work on it.

    The methods `evaluate`, `predict`, `calibrate`, `export`, `compare` and `report` are the
    functions of the same names in `softiou.jobs`, with this run as their first argument.
    """

    evaluate = scoring.evaluate
    predict = predicting.predict
    calibrate = calibrating.calibrate
    export = exporting.export
    compare = comparing.compare
    report = reporting.report

    def contents(self) -> "ReportData":
        """Read learning curves, the last evaluation and the table of models."""
        from softiou.reports import collect

        return collect(self.require_directory())

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def _repr_html_(self) -> str:
        return reporting.run_html(self)


def load(path: Path | str, *, model: "nn.Module | None" = None) -> Run:
    """Open a trained model: a run directory, a checkpoint, or an exported file for prediction.

    Args:
        path: Path of the run directory, checkpoint or exported file.
        model: For a run that trained your own module: an instance of it, which gets the weights.

    Raises:
        CheckpointError: The path is none of these.
    """
    from softiou.exporting import is_exported

    run = Run(path, model)
    if not is_exported(run.path):
        find_checkpoint(run.path)
    elif not run.path.is_file():
        raise CheckpointError(f"Expected {path} to be an exported file, but it does not exist.")
    return run
