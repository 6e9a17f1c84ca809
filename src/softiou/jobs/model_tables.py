"""The table of models in the report of a run that was trained beside others."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from softiou.jobs.trained import Trained
from softiou.reports import Comparison, ComparisonRow, collect, save_comparison, write_report


def run_row(name: str, run: Path, metrics: Mapping[str, float | None]) -> ComparisonRow:
    """Return a model of a run directory: its metrics, and what its training cost."""
    history = collect(run).history
    return ComparisonRow(name, str(run), metrics, history.last_step, history.seconds)


def save_model_table(
    run: Trained,
    evaluation: Mapping[str, Any],
    rows: Sequence[ComparisonRow],
    notes: Sequence[str] = (),
) -> None:
    """Write models that were scored on the same images into the report of a run."""
    home = run.require_directory()
    save_comparison(
        Comparison(evaluation["data"], evaluation["split"], tuple(rows), tuple(notes)), home
    )
    write_report(home)
