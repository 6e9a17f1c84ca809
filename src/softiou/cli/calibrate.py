"""softiou calibrate: a scaling of a model's logits, fitted on the validation split."""

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from softiou.cli._arguments import LabelsChoice, Truth, Weights, WeightsChoice, labels_for

if TYPE_CHECKING:
    from softiou.calibration import Calibration


class KindChoice(StrEnum):
    """The kinds of `softiou.temperature.Kind`, for the command line."""

    temperature = "temperature"
    class_temperature = "class_temperature"
    vector = "vector"


def calibrate(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="RUN|CKPT", help="Run directory or checkpoint file.")
    ],
    data: Annotated[str, typer.Argument(help="Data set folder, LAYOUT:/path, or digits.")],
    split: Annotated[
        str, typer.Option(help="Which split to fit on; not one that is reported on.")
    ] = "val",
    kind: Annotated[
        KindChoice,
        typer.Option(
            help="One temperature, which changes no mask; one for each class; or a scale and a "
            "bias for each class."
        ),
    ] = KindChoice.temperature,
    labels: Truth = LabelsChoice.auto,
    weights: Weights = WeightsChoice.student,
) -> None:
    """Fit a temperature, so that probabilities mean what they say, and keep it by the checkpoint.

    A new fit of the same checkpoint replaces the one before.
    """
    from torch.utils.data import DataLoader

    from softiou import calibration
    from softiou.checkpoints import check_classes, load_trained
    from softiou.cli import _console
    from softiou.data import open_dataset
    from softiou.inference import best_device, best_precision
    from softiou.training.stopping import ignore_interrupts

    trained = load_trained(checkpoint, weights=weights.value)
    earlier = calibration.earlier_calibration(trained)
    dataset = open_dataset(data, split, labels=labels_for(trained, labels.value))
    check_classes(trained, dataset.description, data=data)
    device = best_device()
    samples = DataLoader(dataset, batch_size=None, num_workers=1, worker_init_fn=ignore_interrupts)
    found = calibration.calibrate(
        trained.model.to(device),
        dataset,
        data=data,
        precision=best_precision(device),
        kind=kind.value,
        samples=_console.track(samples, total=len(dataset), description=f"calibrating on {split}"),
    )
    path = calibration.save_calibration(found, trained)
    for line in _summary(found):
        _console.say(line)
    if doubt := _doubt(found):
        _console.say(doubt)
    if earlier:
        _console.say(f"replaced  {earlier}")
    _console.say(f"wrote     {path}")


def _summary(found: "Calibration") -> list[str]:
    """Return what was fitted and what it changes, line by line."""
    scaling = found.scaling
    if scaling.kind == "temperature":
        what = f"temperature {1 / scaling.scale[0]:.3f}"
    elif scaling.kind == "class_temperature":
        hottest, coldest = 1 / min(scaling.scale), 1 / max(scaling.scale)
        what = f"temperatures {coldest:.3f} to {hottest:.3f}"
    else:
        what = f"scales {min(scaling.scale):.3f} to {max(scaling.scale):.3f}, and biases"
    return [
        f"{what}: {found.pixels} pixels of {found.images} images of {found.data}, {found.split}",
        f"NLL       {found.nll.before:.4f} -> {found.nll.after:.4f}",
        f"ECE       {found.ece.before:.2f} -> {found.ece.after:.2f} per cent, on these pixels",
    ]


def _doubt(found: "Calibration") -> str | None:
    """Say what is wrong with a fit that nobody should trust; None for nothing."""
    from softiou.temperature import LARGEST_SCALE

    scales = found.scaling.scale
    if min(scales) <= 0:
        return (
            "doubtful: a scale is not positive, so that more of a logit means less of its class. "
            "The split has too little of some class, or the model has not learnt it; use --kind "
            "temperature."
        )
    if min(scales) < 1.001 / LARGEST_SCALE or max(scales) > 0.999 * LARGEST_SCALE:
        return (
            "doubtful: a temperature is at the end of its range, as for a model that is always "
            "right on this split, or knows nothing of a class."
        )
    return None
