"""softiou semi: a few images with masks, and many without."""

from pathlib import Path
from typing import Annotated

import typer

from softiou.cli._arguments import (
    ConfigFile,
    DataOrSetting,
    DryRun,
    Json,
    NewRun,
    Overrides,
    ResumeIfExists,
    RunToResume,
    TrainSplit,
)


def semi(
    data: DataOrSetting = None,
    overrides: Overrides = None,
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
    out: NewRun = None,
    resume: RunToResume = None,
    resume_if_exists: ResumeIfExists = False,
    dry_run: DryRun = False,
    json_output: Json = False,
) -> None:
    """Train on images with masks and on images without, and compare student and teacher.

    The teacher is the moving average of the student; its pseudo-labels take the place of the masks
    that are missing. Masks of unlabelled images are never opened, even where there are some.
    """
    given = locals()
    from softiou.cli._learning import learn

    learn("semi", **given)
