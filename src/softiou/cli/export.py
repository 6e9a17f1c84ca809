"""softiou export: a trained model as one file, for use without softiou or without Lightning."""

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from softiou.cli._arguments import Json, Weights, WeightsChoice


class FormatChoice(StrEnum):
    """The kinds of `softiou.exporting.Format`, for the command line."""

    onnx = "onnx"
    torch_export = "torch-export"
    safetensors = "safetensors"


class InputChoice(StrEnum):
    """The kinds of `softiou.exporting.InputDtype`, for the command line."""

    uint8 = "uint8"
    float32 = "float32"


def export(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="RUN|CKPT", help="Run directory or checkpoint file.")
    ],
    to: Annotated[FormatChoice, typer.Option(help="What to write.")],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File to write; default: RUN/model.onnx, or beside the checkpoint.",
            show_default=False,
        ),
    ] = None,
    model: Weights = WeightsChoice.student,
    calibrated: Annotated[
        bool | None,
        typer.Option(
            "--calibrated/--uncalibrated",
            help="Put what `softiou calibrate` has fitted inside; default: when there is one.",
            show_default=False,
        ),
    ] = None,
    input_dtype: Annotated[
        InputChoice,
        typer.Option(
            "--input-dtype", help="Images of a program: uint8 in 0..255 or float32 in 0..1."
        ),
    ] = InputChoice.uint8,
    overwrite: Annotated[bool, typer.Option(help="Replace a file that exists already.")] = False,
    json_output: Json = False,
) -> None:
    """Write a model into one file, from RGB to probabilities, and check it against the model.

    Normalisation, padding, interpolation to the image's size, calibration and softmax are inside;
    number and size of the images are free.
    """
    from softiou.cli import _console

    with _console.loading():
        from softiou.jobs import export as write
    written = write(
        checkpoint,
        to.value,
        out=out,
        model=model.value,
        calibrated=calibrated,
        input_dtype=input_dtype.value,
        overwrite=overwrite,
        progress=False if json_output else None,
    )
    if json_output:
        from dataclasses import asdict

        _console.print_json(asdict(written))
