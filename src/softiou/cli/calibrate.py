"""softiou calibrate: a scaling of a model's logits, fitted on the validation split."""

from dataclasses import asdict
from typing import Annotated, Literal

import typer

from softiou.cli import _arguments as arguments
from softiou.cli import _console


def calibrate(
    run: arguments.RunOrCheckpoint,
    data: arguments.DataOfRun = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Which split to fit on, not one that is reported on; default: the run's "
            "data.val_split.",
            show_default=False,
        ),
    ] = None,
    kind: Annotated[
        Literal["temperature", "class_temperature", "vector"],
        typer.Option(
            help="One temperature, which changes no mask; one for each class; or a scale and a "
            "bias for each class."
        ),
    ] = "temperature",
    labels: arguments.Truth = "auto",
    precision: arguments.Precision = "fp32",
    model: arguments.Weights = "student",
    json_output: arguments.Json = False,
) -> None:
    """Fit a temperature, so that probabilities are calibrated, and keep it by the checkpoint.

    A new fit of the same checkpoint replaces the one before.
    """
    given = _console.for_job(locals())
    with _console.loading():
        from softiou.jobs import calibrate as fit
    found = fit(**given)
    if json_output:
        _console.print_json({"checkpoint": run, **asdict(found)})
