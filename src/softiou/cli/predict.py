"""softiou predict: predict masks for images."""

from pathlib import Path
from typing import Annotated

import typer

from softiou.cli import _arguments as arguments
from softiou.cli import _console


def predict(
    run: arguments.RunOrFile,
    images: Annotated[list[Path], typer.Argument(help="Images, or folders of images.")],
    out: Annotated[Path, typer.Option(help="New folder for the results.")] = Path("predictions"),
    probabilities: Annotated[
        bool, typer.Option(help="Also write class probabilities (STEM.probs.npy, float16).")
    ] = False,
    overlays: Annotated[
        bool, typer.Option(help="Also write the image with its classes in colour.")
    ] = False,
    polygons: Annotated[
        bool, typer.Option(help="Also write the outlines of the classes (STEM.geojson).")
    ] = False,
    calibrated: Annotated[
        bool | None,
        typer.Option(
            "--calibrated/--uncalibrated",
            help="Apply the calibration fitted by the training or `softiou calibrate`; default: "
            "yes, if there is one.",
            show_default=False,
        ),
    ] = None,
    window: arguments.Window = None,
    overlap: arguments.Overlap = 0.5,
    flips: arguments.Flips = False,
    scales: arguments.Scales = "1",
    batch_size: arguments.BatchSize = 4,
    precision: arguments.Precision = "fp32",
    model: arguments.Weights = "student",
    trust: arguments.Trust = False,
    overwrite: Annotated[bool, typer.Option(help="Replace results that exist already.")] = False,
    json_output: arguments.Json = False,
) -> None:
    """Predict masks as STEM.png, in the size of the image: class indices with a palette."""
    given = _console.for_job(locals(), window=arguments.window_px, scales=arguments.factors)
    options = {
        name: given.pop(name)
        for name in ("out", "probabilities", "overlays", "polygons", "overwrite")
    }
    with _console.loading():
        from softiou.jobs import predict as predict_images
    predictions = predict_images(**given)
    saved = predictions.save(**options)
    if json_output:
        counts = {"images": len(predictions), "written": saved.written, "failed": saved.failed}
        _console.print_json({"out": out, **counts, "interrupted": saved.interrupted})
    else:
        _console.say(f"{saved.written} of {len(predictions)} masks written to {out}")
        for line in saved.failed:
            _console.say(f"failed  {line}")
    if saved.interrupted or saved.failed:
        raise typer.Exit(130 if saved.interrupted else 1)
