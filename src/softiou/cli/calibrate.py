"""softiou calibrate: fit a scaling of the logits on the validation split."""

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
            help="Split to fit on, not one used for reporting; default: the run's data.val_split.",
            show_default=False,
        ),
    ] = None,
    kind: Annotated[
        Literal["temperature", "class_temperature", "vector"],
        typer.Option(
            help="One temperature (does not change the masks), one per class, or a scale and "
            "a bias per class."
        ),
    ] = "temperature",
    labels: arguments.Truth = "auto",
    precision: arguments.Precision = "fp32",
    model: arguments.Weights = "student",
    json_output: arguments.Json = False,
) -> None:
    """Fit a temperature to calibrate the probabilities, and store it beside the checkpoint.

    A new fit replaces the previous one, such as the temperature that training fits.
    """
    given = _console.for_job(locals())
    with _console.loading():
        from softiou.jobs import calibrate as fit
    found = fit(**given)
    if json_output:
        _console.print_json({"checkpoint": run, **asdict(found)})
