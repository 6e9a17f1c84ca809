"""softiou export: export a trained model to a file that runs without softiou or Lightning."""

from dataclasses import asdict
from pathlib import Path
from typing import Annotated, Literal

import typer

from softiou.cli import _console
from softiou.cli._arguments import Json, RunOrCheckpoint, Weights


def export(
    run: RunOrCheckpoint,
    to: Annotated[
        Literal["onnx", "torch-export", "safetensors"], typer.Option(help="Format of the file.")
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
            help="Include the calibration of the checkpoint; default: yes, if there is one.",
            show_default=False,
        ),
    ] = None,
    input_dtype: Annotated[
        Literal["uint8", "float32"],
        typer.Option(
            "--input-dtype", help="Input of the program: uint8 in 0..255 or float32 in 0..1."
        ),
    ] = "uint8",
    overwrite: Annotated[bool, typer.Option(help="Replace a file that exists already.")] = False,
    json_output: Json = False,
) -> None:
    """Export a model to one file, from images to probabilities, and check its output.

    The file includes normalisation, padding, interpolation to the size of the image, calibration
    and softmax; the number and size of the images are dynamic.
    """
    given = _console.for_job(locals())
    with _console.loading():
        from softiou.jobs import export as write
    written = write(**given)
    if json_output:
        _console.print_json(asdict(written))
