"""softiou distill: a student that learns from labels and a teacher, beside one without teacher."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from softiou.cli._arguments import (
    ConfigFile,
    DataOrSetting,
    NewRun,
    RunToResume,
    check_verb,
    data_and_settings,
)

if TYPE_CHECKING:
    from softiou.configuration import Config
    from softiou.data import TargetKind
    from softiou.reports import ComparisonRow

PLAIN = "student without teacher"


def distill(
    data: DataOrSetting = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="Settings of the student, for instance model.encoder=resnet18 "
            "distillation.temperature=2.",
            show_default=False,
        ),
    ] = None,
    teacher: Annotated[
        Path | None,
        typer.Option(metavar="RUN|CKPT", help="Teacher that is asked at every step."),
    ] = None,
    soft_labels: Annotated[
        Path | None,
        typer.Option(help="Folder of softiou label: what a teacher said, faster than asking it."),
    ] = None,
    config: ConfigFile = None,
    run: NewRun = None,
    baseline: Annotated[
        Path | None,
        typer.Option(help="Run of the student without teacher, of the same budget."),
    ] = None,
    no_baseline: Annotated[
        bool, typer.Option("--no-baseline", help="Do not train a student without teacher.")
    ] = False,
    resume: RunToResume = None,
) -> None:
    """Train a student with a teacher, and the same student without, and compare all three.

    The student without teacher is trained with the same settings into RUN/baseline, unless
    --baseline names a run of the same budget. The report of the run has all of them in one table.
    """
    from softiou.cli import _console
    from softiou.configuration import load_config
    from softiou.errors import ConfigError
    from softiou.recipes import differences_to_baseline
    from softiou.training import config_of, resolve_config, resume_training, start_training

    data, settings = data_and_settings(data, overrides)
    if baseline and no_baseline:
        raise ConfigError("--baseline and --no-baseline exclude each other.")
    if resume:
        if data or settings or config or run or teacher or soft_labels or baseline or no_baseline:
            raise ConfigError("--resume goes on with the run's own settings; leave the others out.")
        check_verb(config_of(resume), "distill", resume=resume)
        done = resume_training(resume, say=_console.say, progress_bar=_console.interactive())
    else:
        settings += _as_settings(teacher, soft_labels, baseline, no_baseline=no_baseline)
        chosen = load_config(source=data, file=config, overrides=settings)
        if chosen.distillation is None:
            raise ConfigError("Name a teacher: --teacher RUN|CKPT, or --soft-labels FOLDER.")
        if chosen.distillation.baseline not in ("train", "none"):  # before hours of training
            differences_to_baseline(resolve_config(chosen), Path(chosen.distillation.baseline))
        done = start_training(
            chosen,
            directory=run,
            command=_console.command_line(),
            say=_console.say,
            progress_bar=_console.interactive(),
        )
    _add_baseline(done)


def _as_settings(
    teacher: Path | None, soft_labels: Path | None, baseline: Path | None, *, no_baseline: bool
) -> list[str]:
    """Return what options say as settings, so that the run remembers it."""
    values = {
        "teacher": str(teacher) if teacher else None,
        "soft_labels": str(soft_labels) if soft_labels else None,
        "baseline": str(baseline.resolve()) if baseline else "none" if no_baseline else None,
    }
    given = {key: value for key, value in values.items() if value is not None}
    return [f"distillation.{key}={json.dumps(value)}" for key, value in given.items()]


def _add_baseline(run: Path) -> None:
    """Train the baseline that a run wants, or take the one it names, and compare."""
    from softiou.configuration import load_config
    from softiou.training import is_first

    settings = load_config(file=run / "config.yaml").distillation
    wanted = settings.baseline if settings else "none"
    own = _train_baseline(run) if wanted == "train" else None
    if is_first():
        named = None if wanted in ("train", "none") else Path(wanted)
        compare(run, baseline=named, own_baseline=own)


def _train_baseline(run: Path) -> Path:
    """Train the student without teacher inside the run, or go on with it."""
    from softiou.cli import _console
    from softiou.configuration import load_config
    from softiou.recipes import BASELINE, without_teacher
    from softiou.training import is_first, resume_training, start_training

    directory = run / BASELINE
    if is_first():
        _console.say("now the same student without teacher, the baseline")
    if (directory / "config.yaml").exists():
        return resume_training(directory, say=_console.say, progress_bar=_console.interactive())
    return start_training(
        without_teacher(load_config(file=run / "config.yaml")),
        directory=directory,
        command=f"softiou distill --resume {run}",
        say=_console.say,
        progress_bar=_console.interactive(),
    )


def compare(run: Path, *, baseline: Path | None, own_baseline: Path | None) -> None:
    """Evaluate teacher, baseline and student on the same images, and write them into the report.

    Args:
        run: Of the student.
        baseline: Run that the user named; nothing is written into it.
        own_baseline: Run inside the student's.
    """
    from softiou.checkpoints import load_trained
    from softiou.cli import _console
    from softiou.cli.evaluate import score
    from softiou.cli.train import finish
    from softiou.configuration import load_config
    from softiou.recipes import differences_to_baseline
    from softiou.reports import Comparison, save_comparison, write_report

    config = load_config(file=run / "config.yaml")
    student = finish(run, show=False)
    split, data = student.content["split"], config.data.source
    labels: TargetKind = student.content["labels"]
    rows, notes = [], []
    teacher = _teacher_row(config, split, labels)
    if teacher is None:
        notes.append("The teacher is not at hand, so it was not scored.")
    else:
        rows.append(teacher)
    if own_baseline:
        rows.append(_run_row(PLAIN, own_baseline, finish(own_baseline, show=False).metrics))
    elif baseline:
        notes += differences_to_baseline(config, baseline)
        metrics = score(load_trained(baseline), data, split=split, labels=labels).metrics
        rows.append(_run_row(PLAIN, baseline, metrics))
    else:
        notes.append("No baseline was trained: what the teacher adds is not known.")
    rows.append(_run_row("student", run, student.metrics))
    save_comparison(Comparison(data, split, tuple(rows), tuple(notes)), run)
    _console.score_table({row.name: row.metrics for row in rows}, title=f"{data}, {split}")
    for note in notes:
        _console.say(note)
    _console.say(f"report  {write_report(run)}")


def _run_row(name: str, run: Path, metrics: dict[str, float | None]) -> "ComparisonRow":
    """Describe a run by its scores and by what it cost."""
    from softiou.reports import ComparisonRow, collect

    history = collect(run).history
    return ComparisonRow(name, str(run), metrics, history.last_step, history.seconds)


def _teacher_row(config: "Config", split: str, labels: "TargetKind") -> "ComparisonRow | None":
    """Score the teacher, or return None when there are only its soft labels."""
    from softiou.checkpoints import file_sha256, find_checkpoint, load_trained, run_directory
    from softiou.cli.evaluate import score
    from softiou.reports import ComparisonRow
    from softiou.soft_labels import SoftLabelStore

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
    trained = load_trained(path)
    metrics = score(trained, config.data.source, split=split, labels=labels).metrics
    run = run_directory(path)
    return (
        ComparisonRow("teacher", str(path), metrics, trained.step)
        if run is None
        else _run_row("teacher", run, metrics)
    )
