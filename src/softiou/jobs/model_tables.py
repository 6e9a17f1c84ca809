"""Compare the models of a run (student, teacher, baseline) in its report."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from softiou import reports
from softiou._processes import is_first
from softiou._screen import Progress
from softiou.checkpoints import file_sha256, find_checkpoint, run_directory
from softiou.configuration import Config
from softiou.data import TargetKind
from softiou.jobs.calibrating import calibrate_run
from softiou.jobs.run import Run
from softiou.jobs.scoring import evaluate, score
from softiou.recipes import BASELINE, differences_to_baseline, without_teacher
from softiou.reports import ModelRow, ModelTable
from softiou.soft_labels import SoftLabelStore
from softiou.training import resume_training, start_training

PLAIN = "student without teacher"


def _row(name: str, run: Path, content: Mapping[str, Any]) -> ModelRow:
    """Return the table row of a run: its metrics, and the steps and seconds of its training."""
    history = reports.collect(run).history
    figures = (content["metrics"], history.last_step, history.seconds)
    return ModelRow(name, str(run), *figures, content["intervals"])


def _save(
    run: Run, evaluation: Mapping[str, Any], rows: Sequence[ModelRow], notes: Sequence[str] = ()
) -> None:
    """Write models evaluated on the same images into the report of a run."""
    if not is_first():
        return
    home = run.require_directory()
    table = ModelTable(evaluation["data"], evaluation["split"], tuple(rows), tuple(notes))
    reports.save_model_table(table, home)
    reports.write_report(home)


def compare_with_teacher(run: Run, progress: Progress) -> None:
    """Evaluate student and teacher on the same images, and write both into the report."""
    student = evaluate(run, progress=progress).content
    teacher = score(
        run.load_model("teacher"),
        student["data"],
        split=student["split"],
        labels=student["labels"],
        progress=progress,
    )
    rows = {"student": student, "teacher, its average": teacher.content}
    _save(run, student, [_row(name, run.path, content) for name, content in rows.items()])


def add_baseline(run: Run, progress: Progress) -> None:
    """Train the baseline of a run, or use the one that its settings name, and compare."""
    settings = run.config.distillation
    wanted = settings.baseline if settings else "none"
    own = _train_baseline(run, progress) if wanted == "train" else None
    for one in (run, own) if own else (run,):
        calibrate_run(one, progress)
    named = None if wanted in ("train", "none") else Path(wanted)
    _compare(run, baseline=named, own_baseline=own, progress=progress.without_notes())


def _train_baseline(run: Run, progress: Progress) -> Run:
    """Train the student without teacher inside the run, or continue it."""
    directory = run.path / BASELINE
    shown: Any = {"say": progress.say, "progress_bar": progress.bars}
    progress.say("training the baseline: the same student without teacher")
    if (directory / "config.yaml").exists():
        return Run(resume_training(directory, **shown))
    started = start_training(
        without_teacher(run.config),
        directory=directory,
        command=f"softiou distill --resume {run.path}",
        **shown,
    )
    return Run(started)


def _compare(
    run: Run, *, baseline: Path | None, own_baseline: Run | None, progress: Progress
) -> None:
    """Evaluate teacher, baseline and student on the same images, and write the report.

    `baseline` is a run of the user, which is not changed; `own_baseline` was trained by this run.
    """
    config = run.config
    student = evaluate(run, progress=progress).content
    split, labels = student["split"], student["labels"]
    rows, notes = [], []
    alone = own_baseline is None and baseline is None
    teacher = None if alone else _teacher_row(config, split, labels, progress)
    if teacher is not None:
        rows.append(teacher)
    elif not alone:
        notes.append("The teacher's checkpoint was not found, so it was not scored.")
    if own_baseline:
        scored = evaluate(own_baseline, progress=progress)
        rows.append(_row(PLAIN, own_baseline.path, scored.content))
    elif baseline:
        notes += differences_to_baseline(config, baseline)
        plain = Run(baseline).load_model()
        scored = score(plain, student["data"], split=split, labels=labels, progress=progress)
        rows.append(_row(PLAIN, baseline, scored.content))
    else:
        notes.append(
            "No baseline was trained, so the effect of the teacher is unknown. To evaluate the "
            "teacher on the same images: softiou evaluate TEACHER."
        )
    rows.append(_row("student", run.path, student))
    _save(run, student, rows, notes)


def _teacher_row(
    config: Config, split: str, labels: TargetKind, progress: Progress
) -> ModelRow | None:
    """Evaluate the teacher; return None if only its soft labels are available."""
    settings = config.distillation
    if settings is None:
        return None
    if settings.teacher is not None:
        path = find_checkpoint(Path(settings.teacher).expanduser())
    else:
        manifest = SoftLabelStore.open(Path(str(settings.soft_labels)).expanduser()).manifest
        path = Path(manifest.teacher.name)
        if not path.is_file() or file_sha256(path) != manifest.teacher.sha256:
            return None
    trained = Run(path).load_model()
    scored = score(trained, config.data.source, split=split, labels=labels, progress=progress)
    run = run_directory(path)
    if run is None:
        intervals = scored.content["intervals"]
        return ModelRow("teacher", str(path), scored.metrics, trained.step, intervals=intervals)
    return _row("teacher", run, scored.content)
