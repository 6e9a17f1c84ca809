"""softiou config: print the complete settings of a training."""

import json
from typing import Annotated

import typer

from softiou.cli._arguments import ConfigFile, Json, Overrides, data_and_settings


def config(
    data: Annotated[
        str | None,
        typer.Argument(
            help="Data set, to resolve auto and estimate memory and time; else settings only.",
            show_default=False,
        ),
    ] = None,
    overrides: Overrides = None,
    config: ConfigFile = None,
    json_output: Json = False,
) -> None:
    """Print all settings with comments, the values of auto with their reasons, memory and time.

    The output can be saved and passed to --config.
    """
    from softiou import jobs

    data, settings = data_and_settings(data, overrides)
    plan = jobs.plan(data, config=config, overrides=settings)
    print(json.dumps(plan.as_dict(), indent=1) if json_output else plan.text(), end="")
