"""Arguments that several verbs take, and how a data set and settings are told apart."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Optional

import typer

if TYPE_CHECKING:
    from softiou.recipes import Config


class WeightsChoice(StrEnum):
    """The kinds of `softiou.checkpoints.Weights`, for the command line."""

    student = "student"
    teacher = "teacher"


Weights = Annotated[
    WeightsChoice,
    typer.Option(help="Of a semi-supervised run: those of the student, or of their average."),
]
DataOrSetting = Annotated[
    Optional[str],  # noqa: UP045 - typer reads it at run time
    typer.Argument(help="Data set folder, or digits for the embedded one.", show_default=False),
]
ConfigFile = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(help="YAML file with settings.", show_default=False),
]
NewRun = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(help="New run directory; default: the next free runs/NAME-001."),
]
RunToResume = Annotated[
    Optional[Path],  # noqa: UP045
    typer.Option(help="Run directory to go on with, after Ctrl-C or a crash."),
]


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
