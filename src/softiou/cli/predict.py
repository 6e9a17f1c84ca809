"""softiou predict: masks for images without any."""

from pathlib import Path
from typing import Annotated

import typer

from softiou.cli._arguments import Weights, WeightsChoice
from softiou.cli._inference import BatchSize, Flips, Overlap, Scales, Window, inference_settings


def predict(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="RUN|CKPT", help="Run directory or checkpoint file.")
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
    from softiou.calibration import require_scaling
    from softiou.checkpoints import load_trained
    from softiou.cli import _console
    from softiou.errors import DataError
    from softiou.inference import MaskWriter, best_device, best_precision, find_images

    settings = inference_settings(
        window, overlap=overlap, flips=flips, scales=scales, batch_size=batch_size
    )
    files = find_images(images)
    trained = load_trained(checkpoint, weights=weights.value)
    device = best_device()
    writer = MaskWriter(
        trained.model.to(device),
        trained.description,
        out=out,
        precision=best_precision(device),
        probabilities=probabilities,
        overlays=overlays,
        settings=settings,
        scaling=require_scaling(trained) if calibrated else None,
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
