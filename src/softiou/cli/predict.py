"""softiou predict: masks for images without any."""

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from softiou.cli._arguments import Weights, WeightsChoice
from softiou.cli._inference import BatchSize, Flips, Overlap, Scales, Window, inference_settings

if TYPE_CHECKING:
    from softiou.data import DatasetDescription
    from softiou.inference import Predictor


def predict(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|CKPT|FILE",
            help="Run directory, checkpoint file, or what `softiou export` has written.",
        ),
    ],
    images: Annotated[Path, typer.Argument(help="An image, or a folder of images.")],
    out: Annotated[Path, typer.Option(help="New folder for the results.")] = Path("predictions"),
    probabilities: Annotated[
        bool, typer.Option(help="Write class probabilities, too (STEM.probs.npy, float16).")
    ] = False,
    overlays: Annotated[
        bool, typer.Option(help="Write the image with its classes in colour, too.")
    ] = False,
    calibrated: Annotated[
        bool, typer.Option(help="Scale the logits as `softiou calibrate` has fitted it.")
    ] = False,
    window: Window = None,
    overlap: Overlap = 0.5,
    flips: Flips = False,
    scales: Scales = "1",
    batch_size: BatchSize = 4,
    weights: Weights = WeightsChoice.student,
    overwrite: Annotated[bool, typer.Option(help="Replace results that exist already.")] = False,
) -> None:
    """Predict masks in the images' own size: STEM.png, class indices with the class palette."""
    from softiou.cli import _console
    from softiou.errors import DataError
    from softiou.exporting import is_exported
    from softiou.inference import MaskWriter, find_images

    settings = inference_settings(
        window, overlap=overlap, flips=flips, scales=scales, batch_size=batch_size
    )
    files = find_images(images)
    load = _from_file if is_exported(checkpoint) else _from_checkpoint
    predictor, description = load(checkpoint, weights=weights, calibrated=calibrated)
    writer = MaskWriter(
        predictor,
        description,
        out=out,
        probabilities=probabilities,
        overlays=overlays,
        settings=settings,
    )
    writer.prepare(files, overwrite=overwrite)
    written, failed, interrupted = 0, [], False
    try:
        for file in _console.track(files, total=len(files), description="predicting"):
            try:
                writer.write(file)
                written += 1
            except DataError as error:  # one bad file must not cost the others
                failed.append(str(error))
    except KeyboardInterrupt:
        interrupted = True
    _console.say(f"{written} of {len(files)} masks written to {out}")
    for line in failed:
        _console.say(f"failed  {line}")
    if interrupted or failed:
        raise typer.Exit(130 if interrupted else 1)


def _from_checkpoint(
    path: Path, *, weights: WeightsChoice, calibrated: bool
) -> "tuple[Predictor, DatasetDescription]":
    from softiou.calibration import require_scaling
    from softiou.checkpoints import load_trained
    from softiou.inference import ModelPredictor, best_device, best_precision

    trained = load_trained(path, weights=weights.value)
    scaling = require_scaling(trained) if calibrated else None
    device = best_device()
    model = trained.model.to(device)
    return ModelPredictor(model, best_precision(device), scaling), trained.description


def _from_file(
    path: Path, *, weights: WeightsChoice, calibrated: bool
) -> "tuple[Predictor, DatasetDescription]":
    """Open an exported file, which settles weights and calibration once and for all."""
    from softiou.cli import _console
    from softiou.errors import ConfigError
    from softiou.exporting import open_exported
    from softiou.inference import best_device

    exported = open_exported(path, device=best_device())
    info = exported.info
    if weights.value == "teacher" and info.weights != "teacher":
        raise ConfigError(
            f"--weights teacher: {path} holds the weights of the {info.weights}. Export the "
            "teacher's: softiou export RUN --weights teacher."
        )
    if calibrated and info.scaling is None:
        raise ConfigError(
            f"--calibrated: {path} was exported without a calibration. Fit one with softiou "
            "calibrate, and export again."
        )
    if info.scaling is not None:
        _console.say(f"calibrated: {info.scaling.kind}, inside {path.name}")
    return exported.predictor, info.description
