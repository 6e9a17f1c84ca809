"""softiou export: a trained model as one file, for use without softiou or without Lightning."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from softiou.cli._arguments import Weights, WeightsChoice

if TYPE_CHECKING:
    from softiou.checkpoints import TrainedModel
    from softiou.exporting import Report
    from softiou.temperature import LogitScaling


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
            help="File to write; default: beside the checkpoint.",
            show_default=False,
        ),
    ] = None,
    weights: Weights = WeightsChoice.student,
    calibrated: Annotated[
        bool | None,
        typer.Option(
            "--calibrated/--not-calibrated",
            help="Put what `softiou calibrate` has fitted inside; default: when there is one.",
            show_default=False,
        ),
    ] = None,
    input_dtype: Annotated[
        InputChoice,
        typer.Option("--input", help="Images of a program: uint8 in 0..255 or float32 in 0..1."),
    ] = InputChoice.uint8,
    overwrite: Annotated[bool, typer.Option(help="Replace a file that exists already.")] = False,
) -> None:
    """Write a model into one file, from RGB to probabilities, and check it against the model.

    Normalisation, padding, interpolation to the image's size, calibration and softmax are inside;
    number and size of the images are free.
    """
    from softiou.checkpoints import load_trained
    from softiou.cli import _console
    from softiou.errors import ConfigError
    from softiou.exporting import SUFFIXES, export_model

    suffix = SUFFIXES[to.value]
    if out is not None and out.suffix.lower() != suffix:
        raise ConfigError(f"--out {out}: a file for --to {to.value} is named *{suffix}.")
    trained = load_trained(checkpoint, weights=weights.value)
    which = "" if weights.value == "student" else f".{weights.value}"
    path = out or trained.path.with_name(f"{trained.path.stem}{which}{suffix}")
    scaling = _scaling(trained, calibrated=calibrated)
    report = export_model(
        trained,
        path,
        to=to.value,
        scaling=scaling,
        input_dtype=input_dtype.value,
        overwrite=overwrite,
    )
    for line in _summary(report):
        _console.say(line)


def _scaling(trained: "TrainedModel", *, calibrated: bool | None) -> "LogitScaling | None":
    """Return what goes inside: what there is, unless it is asked for or refused."""
    from softiou.calibration import load_scaling, require_scaling

    if calibrated is None:
        return load_scaling(trained)
    return require_scaling(trained) if calibrated else None


def _summary(report: "Report") -> list[str]:
    """Say what the file takes, what is inside, and how near it is to the model."""
    info = report.info
    if info.scaling is None:
        calibration = "none inside (`softiou calibrate` fits one)"
    elif info.scaling.kind == "temperature":
        calibration = f"temperature {1 / info.scaling.scale[0]:.3f} inside"
    else:
        calibration = f"{info.scaling.kind} inside"
    lines = [f"calibration  {calibration}"]
    if report.path.suffix != ".safetensors":
        largest = 255 if info.input_dtype == "uint8" else 1
        least = f", {info.smallest_px} pixels a side at least" if info.smallest_px > 1 else ""
        lines.append(f"images       {info.input_dtype} RGB (N, 3, H, W) in 0..{largest}{least}")
        lines.append(f"probs        float32 (N, {info.description.num_classes}, H, W)")
    return [
        *lines,
        f"checked      largest difference of a probability {report.difference:.1e}",
        f"wrote        {report.path} ({report.size_bytes / 2**20:.1f} MiB)",
    ]
