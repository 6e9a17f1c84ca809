"""Read a run directory into frozen data classes: the content of a report, without HTML."""

from dataclasses import dataclass
from pathlib import Path

from softiou.errors import DataError
from softiou.evaluation.schema import FILE, Evaluation, read_evaluation
from softiou.reports.description import describe, read_environment
from softiou.reports.history import History, read_history
from softiou.reports.model_table import ModelTable, read_model_table
from softiou.reports.pseudo_labels import PseudoLabels, read_pseudo_labels


@dataclass(frozen=True)
class ReportData:
    """The content of the page; `evaluation` is None for a run that is not finished."""

    run: str
    directory: Path  # from which pictures are read when the page is written
    config: str
    history: History
    evaluation: Evaluation | None
    model_table: ModelTable | None = None
    pseudo_labels: PseudoLabels | None = None
    facts: tuple[tuple[str, str], ...] = ()  # names and values that describe the run


def collect(run_dir: Path) -> ReportData:
    """Read a run directory: configuration, curves, evaluation, pseudo-labels.

    Missing parts are empty or None; at least one of config.yaml, metrics.jsonl and evaluation.json
    must exist.
    """
    config, metrics, evaluation = (
        run_dir / name for name in ("config.yaml", "metrics.jsonl", FILE)
    )
    if not any(path.is_file() for path in (config, metrics, evaluation)):
        raise DataError(
            "Expected `run` to be a run directory (config.yaml, metrics.jsonl or evaluation.json "
            f"in it), but found none of these in {run_dir}. Pass the directory that "
            "`softiou train` has written."
        )
    history = read_history(_read_text(metrics))
    evaluated = read_evaluation(evaluation) if evaluation.is_file() else None
    text = _read_text(config)
    facts = describe(text, read_environment(run_dir), history, evaluated)
    return ReportData(
        facts=tuple(facts),
        run=run_dir.resolve().name,
        directory=run_dir,
        config=text,
        history=history,
        evaluation=evaluated,
        model_table=read_model_table(run_dir),
        pseudo_labels=read_pseudo_labels(
            run_dir,
            history,
            colours=dict(zip(evaluated.classes, evaluated.palette, strict=True))
            if evaluated
            else {},
        ),
    )


def _read_text(path: Path) -> str:
    """Return the text of a file, "" if missing; incomplete characters are replaced."""
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""
