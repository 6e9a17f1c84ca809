"""softiou predict: masks for images without any."""

from pathlib import Path
from typing import Annotated

import typer

from softiou.cli._arguments import Weights, WeightsChoice


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
    weights: Weights = WeightsChoice.student,
    overwrite: Annotated[bool, typer.Option(help="Replace results that exist already.")] = False,
) -> None:
    """Predict masks in the images' own size: STEM.png, class indices with the class palette."""
    from softiou.checkpoints import load_trained
    from softiou.cli import _console
    from softiou.errors import DataError
    from softiou.inference import MaskWriter, best_device, best_precision, find_images

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
    )
    writer.prepare(files, overwrite=overwrite)
    failed = []
    for file in _console.track(files, total=len(files), description="predicting"):
        try:
            writer.write(file)
        except DataError as error:  # one bad file must not cost the others
            failed.append(str(error))
    _console.say(f"{len(files) - len(failed)} of {len(files)} masks written to {out}")
    for line in failed:
        _console.say(f"failed  {line}")
    if failed:
        raise typer.Exit(1)
