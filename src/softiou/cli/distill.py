"""softiou distill: a student that learns from labels and a teacher, beside one without teacher."""

from pathlib import Path
from typing import Annotated

import typer

from softiou.cli._arguments import (
    ConfigFile,
    DataOrSetting,
    NewRun,
    RunToResume,
    TrainSplit,
    data_and_settings,
)


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
        typer.Option(metavar="RUN|CKPT", help="Teacher that is run at every step."),
    ] = None,
    soft_labels: Annotated[
        Path | None,
        typer.Option(help="Folder of softiou label: a teacher's labels, faster than running it."),
    ] = None,
    split: TrainSplit = None,
    config: ConfigFile = None,
    run: NewRun = None,
    baseline: Annotated[
        Path | None,
        typer.Option(help="Run of the student without teacher, of the same budget."),
    ] = None,
    no_baseline: Annotated[
        bool, typer.Option("--no-baseline", help="Score the student alone.")
    ] = False,
    resume: RunToResume = None,
) -> None:
    """Train a student with a teacher, and the same student without, and compare all three.

    The student without teacher is trained with the same settings into RUN/baseline, unless
    --baseline names a run of the same budget. The report of the run has all of them in one table.
    """
    from softiou import jobs
    from softiou.cli import _console
    from softiou.errors import ConfigError
    from softiou.jobs.settings import as_overrides

    data, settings = data_and_settings(data, overrides)
    if baseline and no_baseline:
        raise ConfigError("--baseline and --no-baseline exclude each other.")
    values = {
        "distillation.teacher": teacher,
        "distillation.soft_labels": soft_labels,
        "distillation.baseline": "none" if no_baseline else baseline and baseline.resolve(),
    }
    given = {key: value for key, value in values.items() if value is not None}
    done = jobs.distill(
        data,
        split=split,
        config=config,
        run=run,
        resume=resume,
        overrides=[*settings, *as_overrides(given)],
        command=_console.command_line(),
    )
    if done.evaluation:  # of several processes the first one has it
        _console.show_models(done)
