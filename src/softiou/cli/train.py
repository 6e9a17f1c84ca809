"""softiou train: a data set in, a run directory with a model and a report out."""

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
    from softiou.evaluation import Evaluation


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
    config: ConfigFile = None,
    run: NewRun = None,
    resume: RunToResume = None,
) -> None:
    """Train a model, evaluate it and write its report.

    The result is evaluated on the split `test`, or on the validation split when there is none.
    """
    from softiou.cli import _console
    from softiou.configuration import load_config
    from softiou.errors import ConfigError
    from softiou.training import config_of, is_first, resume_training, start_training

    data, settings = data_and_settings(data, overrides)
    if resume:
        if data or settings or config or run:
            raise ConfigError("--resume goes on with the run's own settings; leave the others out.")
        check_verb(config_of(resume), "train", resume=resume)
        done = resume_training(resume, say=_console.say, progress_bar=_console.interactive())
    else:
        if not data and not config:
            raise ConfigError("Name a data set: softiou train DATA, or --config FILE.")
        chosen = load_config(source=data, file=config, overrides=settings)
        check_verb(chosen, "train", resume=None)
        done = start_training(
            chosen,
            directory=run,
            command=_console.command_line(),
            say=_console.say,
            progress_bar=_console.interactive(),
        )
    if is_first():
        finish(done)


def finish(run: Path, *, show: bool = True) -> "Evaluation":
    """Evaluate a trained run on its test split, or validation split, and write its report."""
    from softiou.cli.evaluate import evaluate_run
    from softiou.configuration import load_config
    from softiou.data import available_splits

    data = load_config(file=run / "config.yaml").data
    split = "test" if "test" in available_splits(data.source) else data.val_split
    return evaluate_run(run, data.source, split=split, show=show)
