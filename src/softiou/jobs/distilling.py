"""Distillation: a student that learns from labels and a teacher, beside one without teacher."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softiou._screen import Progress, progress_of
from softiou.errors import ConfigError
from softiou.jobs.calibrating import calibrate_run
from softiou.jobs.learning import Configuration, Request, learn, split_setting
from softiou.jobs.model_tables import run_row, save_model_table
from softiou.jobs.run import Run
from softiou.jobs.scoring import evaluate, score

if TYPE_CHECKING:
    from softiou.configuration import Config
    from softiou.data import TargetKind
    from softiou.reports import ModelRow

PLAIN = "student without teacher"


def distill(
    data: str | Path | None = None,
    *,
    split: str | Path | None = None,
    config: Configuration = None,
    run: Path | str | None = None,
    resume: Path | str | None = None,
    overrides: Sequence[str] = (),
    command: str = "",
    progress: bool | Progress | None = None,
    **settings: Any,
) -> Run:
    """Train a student with a teacher, and the same student without, and compare all three.

    The student without teacher is trained with the same settings into RUN/baseline, unless
    `baseline` names a run of the same budget. The report of the run has all of them in one table.
    With `baseline="none"` the student alone is scored.

    Args:
        data: As in `train`.
        split: As in `train`; with `unlabeled`, the other images of train are learnt without masks.
        config: As in `train`.
        run: As in `train`.
        resume: As in `train`.
        overrides: As in `train`.
        command: As in `train`.
        progress: As in `train`.
        settings: As in `train`, and short names of the section distillation: one of `teacher` (run
            or checkpoint that runs at every step) and `soft_labels` (folder that `label` has
            written); `baseline` ("train", "none", or a run of the student without teacher).

    Returns:
        The run; its `contents().model_table` has all models.

    Raises:
        ConfigError, DataError, CheckpointError, RunExistsError: See `softiou.errors`.
        KeyboardInterrupt: After Ctrl-C, with a checkpoint to resume from.
    """
    shown = progress_of(progress)
    settings |= split_setting(split)
    request = Request("distill", data, config, run, resume, settings, overrides, command)
    done = learn(request, shown, check=_check_teacher_and_baseline)
    _add_baseline(done, shown)
    return done


def _check_teacher_and_baseline(config: "Config") -> None:
    from softiou.recipes import differences_to_baseline
    from softiou.training import resolve_config

    if config.distillation is None:
        raise ConfigError("Name a teacher: --teacher RUN|CKPT, or --soft-labels FOLDER.")
    if config.distillation.baseline not in ("train", "none"):  # before hours of training
        differences_to_baseline(resolve_config(config), Path(config.distillation.baseline))


def _add_baseline(run: Run, progress: Progress) -> None:
    """Train the baseline that a run wants, or take the one it names, and compare."""
    from softiou.training import is_first

    settings = run.config.distillation
    wanted = settings.baseline if settings else "none"
    own = _train_baseline(run, progress) if wanted == "train" else None
    if is_first():
        for one in (run, own) if own else (run,):
            calibrate_run(one, progress)
        named = None if wanted in ("train", "none") else Path(wanted)
        _compare(run, baseline=named, own_baseline=own, progress=progress.without_lines())


def _train_baseline(run: Run, progress: Progress) -> Run:
    """Train the student without teacher inside the run, or continue it."""
    from softiou.recipes import BASELINE, without_teacher
    from softiou.training import is_first, resume_training, start_training

    directory = run.path / BASELINE
    shown: Any = {"say": progress.say, "progress_bar": progress.bars}
    if is_first():
        progress.say("now the same student without teacher, the baseline")
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
    """Evaluate teacher, baseline and student on the same images, and write them into the report.

    Args:
        run: Of the student.
        baseline: Run that the user named; nothing is written into it.
        own_baseline: Run inside the student's.
        progress: What to show.
    """
    from softiou.recipes import differences_to_baseline

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
        metrics = evaluate(own_baseline, progress=progress).metrics
        rows.append(run_row(PLAIN, own_baseline.path, metrics))
    elif baseline:
        notes += differences_to_baseline(config, baseline)
        plain = Run(baseline).load_model()
        scored = score(plain, student["data"], split=split, labels=labels, progress=progress)
        rows.append(run_row(PLAIN, baseline, scored.metrics))
    else:
        notes.append(
            "No baseline was trained: what the teacher adds is not known. To score the "
            "teacher on the same images: softiou evaluate TEACHER."
        )
    rows.append(run_row("student", run.path, student["metrics"]))
    save_model_table(run, student, rows, notes)


def _teacher_row(
    config: "Config", split: str, labels: "TargetKind", progress: Progress
) -> "ModelRow | None":
    """Score the teacher, or return None when there are only its soft labels."""
    from softiou.checkpoints import file_sha256, find_checkpoint, run_directory
    from softiou.reports import ModelRow
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
    trained = Run(path).load_model()
    scored = score(trained, config.data.source, split=split, labels=labels, progress=progress)
    run = run_directory(path)
    if run is None:
        return ModelRow("teacher", str(path), scored.metrics, trained.step)
    return run_row("teacher", run, scored.metrics)
