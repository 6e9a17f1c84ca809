"""A run: a trained model with its settings and metrics, and what can be done with it."""

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

    `evaluate`, `predict`, `calibrate`, `export`, `compare` and `report` are the functions of these
    names in `softiou.jobs`, for this run.
    """

    evaluate = scoring.evaluate
    predict = predicting.predict
    calibrate = calibrating.calibrate
    export = exporting.export
    compare = comparing.compare
    report = reporting.report

    def contents(self) -> "ReportData":
        """Read the run directory: learning curves, the last evaluation, the table of models."""
        from softiou.reports import collect

        return collect(self.require_directory())

    def __repr__(self) -> str:
        return f"Run({str(self.path)!r})"

    def _repr_html_(self) -> str:
        return reporting.run_html(self)


def load(path: Path | str, *, model: "nn.Module | None" = None) -> Run:
    """Open a trained model: a run directory, a checkpoint, or an exported file for prediction.

    Args:
        path: Where it is.
        model: For a run that trained a module of your own: such a module, which gets the weights.

    Raises:
        CheckpointError: There is nothing of the kind.
    """
    from softiou.exporting import is_exported

    run = Run(path, model)
    if not is_exported(run.path):
        find_checkpoint(run.path)
    elif not run.path.is_file():
        raise CheckpointError(f"{path} does not exist: expected an exported file.")
    return run
