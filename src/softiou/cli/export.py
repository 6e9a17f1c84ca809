"""softiou export: a trained model as one file, for use without softiou or without Lightning."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from softiou.cli import _console
from softiou.cli._arguments import Json, RunOrCheckpoint, Weights


def export(
    run: RunOrCheckpoint,
    to: Annotated[
        Literal["onnx", "torch-export", "safetensors"], typer.Option(help="What to write.")
    ],
    out: Annotated[
        Path | None,
        typer.Option(
            metavar="FILE",
            help="File to write; default: RUN/model.onnx, or beside the checkpoint.",
            show_default=False,
        ),
    ] = None,
    model: Weights = "student",
    calibrated: Annotated[
        bool | None,
        typer.Option(
            "--calibrated/--uncalibrated",
            help="Put what `softiou calibrate` has fitted inside; default: when there is one.",
            show_default=False,
        ),
    ] = None,
    input_dtype: Annotated[
        Literal["uint8", "float32"],
        typer.Option(
            "--input-dtype", help="Images of a program: uint8 in 0..255 or float32 in 0..1."
        ),
    ] = "uint8",
    overwrite: Annotated[bool, typer.Option(help="Replace a file that exists already.")] = False,
    json_output: Json = False,
) -> None:
    """Write a model into one file, from RGB to probabilities, and check it against the model.

    Normalisation, padding, interpolation to the image's size, calibration and softmax are inside;
    number and size of the images are free.
    """
    given = _console.for_job(locals())
    with _console.loading():
        from softiou.jobs import export as write
    written = write(**given)
    if json_output:
        _console.print_json(asdict(written))
