"""softiou semi: a few images with masks, and many without."""

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


def semi(
    data: DataOrSetting = None,
    overrides: Annotated[
        list[str] | None,
        typer.Argument(
            metavar="[KEY=VALUE]...",
            help="Settings, for instance semi_supervised.pseudo_labels=hard "
            "semi_supervised.weight=0.5.",
            show_default=False,
        ),
    ] = None,
    unlabeled: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Images without masks; default: DATA/unlabeled/images, and those of train that "
            "--split leaves out.",
        ),
    ] = None,
    split: TrainSplit = None,
    config: ConfigFile = None,
    run: NewRun = None,
    resume: RunToResume = None,
) -> None:
    """Train on images with masks and on images without, and compare student and teacher.

    The teacher is the moving average of the student; its pseudo-labels take the place of the masks
    that are missing. Masks of unlabelled images are never opened, even where there are some.
    """
    from softiou import jobs
    from softiou.cli import _console

    data, settings = data_and_settings(data, overrides)
    done = jobs.semi(
        data,
        unlabeled=unlabeled,
        split=split,
        config=config,
        run=run,
        resume=resume,
        overrides=settings,
        command=_console.command_line(),
    )
    if done.evaluation:  # of several processes the first one has it
        _console.show_models(done)
