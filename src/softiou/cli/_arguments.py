"""Arguments that several verbs take, and how a data set and settings are told apart."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from softiou.checkpoints import TrainedModel
    from softiou.configuration import Config
    from softiou.data import TargetKind


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
    typer.Option(help="Of a semi-supervised run: those of the student, or of their average."),
]
DataOrSetting = Annotated[
    str | None,
    typer.Argument(help="Data set folder, LAYOUT:/path, or digits.", show_default=False),
]


def _file_of_recipe(config: Path | None) -> Path | None:
    """Return a file, or that of a recipe that comes with the package; a file goes first."""
    from softiou.configuration.recipe_files import recipe_path
    from softiou.errors import ConfigError

    if config is None or config.exists() or config.name != str(config) or config.suffix:
        return config
    try:
        return recipe_path(config.name)
    except ConfigError as error:
        raise ConfigError(f"--config {config}: there is no such file. {error}") from error


ConfigFile = Annotated[
    Path | None,
    typer.Option(
        metavar="FILE|RECIPE",
        help="YAML file with settings, or a recipe of softiou recipes ls.",
        show_default=False,
        callback=_file_of_recipe,
    ),
]
NewRun = Annotated[
    Path | None,
    typer.Option(help="New run directory; default: the next free runs/NAME-001."),
]
RunToResume = Annotated[
    Path | None,
    typer.Option(help="Run directory to go on with, after Ctrl-C or a crash."),
]


def labels_for(trained: "TrainedModel", labels: "TargetKind") -> "TargetKind":
    """Return the kind of labels to judge a model by: auto is soft where it was trained so."""
    was_taught_softly = trained.config.get("labels", {}).get("kind") == "soft"
    return "soft" if labels == "auto" and was_taught_softly else labels


def data_and_settings(
    data: str | None, overrides: list[str] | None
) -> tuple[str | None, list[str]]:
    """Return the data set and the settings; what came first may be a setting already."""
    settings = list(overrides or [])
    if data and "=" in data and not Path(data).exists():  # no data set: it is in the file
        return None, [data, *settings]
    return data, settings


def check_verb(config: "Config", verb: str, *, resume: Path | None) -> None:
    """Raise when settings belong to another verb, which would evaluate and compare otherwise.

    Raises:
        ConfigError: Names the verb to use.
    """
    from softiou.errors import ConfigError

    if config.verb == verb:
        return
    if resume:
        raise ConfigError(
            f"{resume} was begun by another verb; use `softiou {config.verb} --resume {resume}`."
        )
    section = {"distill": "distillation", "semi": "semi_supervised"}[config.verb]
    raise ConfigError(f"The settings have a section {section}; use `softiou {config.verb}`.")
