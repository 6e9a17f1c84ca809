"""Arguments that several verbs take, and how a data set and settings are told apart."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer


class LabelsChoice(StrEnum):
    """The kinds of `softiou.data.TargetKind`, for the command line."""

    auto = "auto"
    hard = "hard"
    soft = "soft"
    votes = "votes"
    staple = "staple"


class WeightsChoice(StrEnum):
    """The kinds of `softiou.checkpoints.Weights`, for the command line."""

    student = "student"
    teacher = "teacher"


Truth = Annotated[
    LabelsChoice,
    typer.Option(
        help="What is true: hard (the majority), soft (probabilities that the data set knows), "
        "votes or staple (of several annotators); auto is soft for a model that was trained so, "
        "and otherwise votes or hard."
    ),
]
Weights = Annotated[
    WeightsChoice,
    typer.Option(help="Of a semi-supervised run: the student, or the teacher, its average."),
]
DataOrSetting = Annotated[
    str | None, typer.Argument(help="Data set folder, LAYOUT:/path, or digits.", show_default=False)
]


def _complete(incomplete: str) -> list[str]:
    """Return the keys that begin so, for the shell."""
    from softiou.configuration.sections import Config

    keys = [f"{name}.{key}" for name, one in Config.sections() for key in one.model_fields]
    return [f"{key}=" for key in keys if key.startswith(incomplete)]


Overrides = Annotated[
    list[str] | None,
    typer.Argument(
        metavar="[KEY=VALUE]...",
        help="Settings, such as optim.steps=2000; softiou config shows all of them.",
        show_default=False,
        autocompletion=_complete,
    ),
]
ConfigFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE|RECIPE",
        help="YAML file with settings, or a recipe of softiou recipes ls.",
        show_default=False,
    ),
]
NewRun = Annotated[
    Path | None,
    typer.Option(metavar="RUN", help="New run directory; default: the next free runs/NAME-001."),
]
TrainSplit = Annotated[
    str | None,
    typer.Option(
        metavar="NAME|FILE.txt",
        help="Images with masks: a split, a list in DATA/splits such as 1_8 (softiou split), "
        "or a list elsewhere; default: train.",
    ),
]
RunToResume = Annotated[
    Path | None,
    typer.Option(metavar="RUN", help="Run directory to continue, after Ctrl-C or a crash."),
]
ResumeIfExists = Annotated[
    bool, typer.Option("--resume-if-exists", help="Continue --out RUN where it is a run already.")
]
DryRun = Annotated[
    bool,
    typer.Option(
        "--dry-run", help="Print the settings as softiou config does, take one step, keep nothing."
    ),
]
Json = Annotated[bool, typer.Option("--json", help="Print the result as JSON and nothing else.")]


def data_and_settings(
    data: str | None, overrides: list[str] | None
) -> tuple[str | None, list[str]]:
    """Return the data set and the settings; what came first may be a setting already."""
    settings = list(overrides or [])
    if data and "=" in data and not Path(data).exists():  # no data set: it is in the file
        return None, [data, *settings]
    return data, settings
