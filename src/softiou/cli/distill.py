"""softiou distill: a student that learns from labels and a teacher, beside one without teacher."""

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


def distill(
    data: DataOrSetting = None,
    overrides: Overrides = None,
    teacher: Annotated[
        Path | None, typer.Option(metavar="RUN|CKPT", help="Teacher that is run at every step.")
    ] = None,
    soft_labels: Annotated[
        Path | None,
        typer.Option(help="Folder of softiou label: a teacher's labels, faster than running it."),
    ] = None,
    split: TrainSplit = None,
    config: ConfigFile = None,
    out: NewRun = None,
    baseline: Annotated[
        Path | None, typer.Option(help="Run of the student without teacher, of the same budget.")
    ] = None,
    no_baseline: Annotated[
        bool, typer.Option("--no-baseline", help="Score the student alone.")
    ] = False,
    resume: RunToResume = None,
    resume_if_exists: ResumeIfExists = False,
    dry_run: DryRun = False,
    json_output: Json = False,
) -> None:
    """Train a student with a teacher, and the same student without, and compare all three.

    The student without teacher is trained with the same settings into RUN/baseline, unless
    --baseline names a run of the same budget. The report of the run has all of them in one table.
    """
    given = locals()
    from softiou.cli._learning import learn
    from softiou.errors import ConfigError

    if baseline and no_baseline:
        raise ConfigError("--baseline and --no-baseline exclude each other.")
    given["baseline"] = "none" if given.pop("no_baseline") else baseline and baseline.resolve()
    learn("distill", **given)
