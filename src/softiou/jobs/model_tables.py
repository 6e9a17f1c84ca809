"""The table of models in the report of a run that was trained beside others."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from softiou import reports
from softiou.jobs.trained import Trained
from softiou.reports import ModelRow, ModelTable


def run_row(name: str, run: Path, metrics: Mapping[str, float | None]) -> ModelRow:
    """Return a model of a run directory: its metrics, and what its training cost."""
    history = reports.collect(run).history
    return ModelRow(name, str(run), metrics, history.last_step, history.seconds)


def save_model_table(
    run: Trained,
    evaluation: Mapping[str, Any],
    rows: Sequence[ModelRow],
    notes: Sequence[str] = (),
) -> None:
    """Write models that were scored on the same images into the report of a run."""
    home = run.require_directory()
    table = ModelTable(evaluation["data"], evaluation["split"], tuple(rows), tuple(notes))
    reports.save_model_table(table, home)
    reports.write_report(home)
