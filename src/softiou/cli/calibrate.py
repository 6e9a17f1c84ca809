"""softiou calibrate: a scaling of a model's logits, fitted on the validation split."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from softiou.cli._arguments import Json, LabelsChoice, Truth, Weights, WeightsChoice
from softiou.cli._inference import Precision, PrecisionChoice


class KindChoice(StrEnum):
    """The kinds of `softiou.temperature.Kind`, for the command line."""

    temperature = "temperature"
    class_temperature = "class_temperature"
    vector = "vector"


def calibrate(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="RUN|CKPT", help="Run directory or checkpoint file.")
    ],
    data: Annotated[
        str | None,
        typer.Argument(
            help="Data set folder, LAYOUT:/path, or digits; default: that of the run.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(
            help="Which split to fit on, not one that is reported on; default: the run's "
            "data.val_split.",
            show_default=False,
        ),
    ] = None,
    kind: Annotated[
        KindChoice,
        typer.Option(
            help="One temperature, which changes no mask; one for each class; or a scale and a "
            "bias for each class."
        ),
    ] = KindChoice.temperature,
    labels: Truth = LabelsChoice.auto,
    precision: Precision = PrecisionChoice.fp32,
    model: Weights = WeightsChoice.student,
    json_output: Json = False,
) -> None:
    """Fit a temperature, so that probabilities are calibrated, and keep it by the checkpoint.

    A new fit of the same checkpoint replaces the one before.
    """
    from softiou.cli import _console

    with _console.loading():
        from softiou.jobs import calibrate as fit
    found = fit(
        checkpoint,
        data,
        split=split,
        kind=kind.value,
        labels=labels.value,
        precision=precision.value,
        model=model.value,
        progress=False if json_output else None,
    )
    if json_output:
        from dataclasses import asdict

        _console.print_json({"checkpoint": checkpoint, **asdict(found)})
