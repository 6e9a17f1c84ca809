"""softiou train: a data set in, a run directory with a model and a report out."""

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


def train(
    data: DataOrSetting = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="Settings, for instance optim.steps=2000 loss.cross_entropy=0.5; "
            "config.yaml of any run lists them all.",
            show_default=False,
        ),
    ] = None,
    split: TrainSplit = None,
    config: ConfigFile = None,
    run: NewRun = None,
    resume: RunToResume = None,
) -> None:
    """Train a model, evaluate it and write its report.

    The result is evaluated on the split `test`, or on the validation split when there is none.
    """
    from softiou import jobs
    from softiou.cli import _console

    data, settings = data_and_settings(data, overrides)
    done = jobs.train(
        data,
        split=split,
        config=config,
        run=run,
        resume=resume,
        overrides=settings,
        command=_console.command_line(),
    )
    if done.evaluation:  # of several processes the first one has it
        _console.show_evaluation(done.evaluation, home=done.directory)
