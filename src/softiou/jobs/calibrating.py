"""Fitting the calibration of a trained model to a data set."""

from pathlib import Path
from typing import TYPE_CHECKING

from softiou._screen import Progress, progress_of
from softiou.inference import Precision, best_device
from softiou.jobs.opening import default_data, loaded, open_for
from softiou.jobs.trained import RunLike, as_trained

if TYPE_CHECKING:
    from softiou.calibration import Calibration
    from softiou.checkpoints import Weights
    from softiou.data import TargetKind
    from softiou.temperature import Kind


def calibrate(
    run: RunLike,
    data: str | Path | None = None,
    *,
    split: str = "val",
    kind: "Kind" = "temperature",
    labels: "TargetKind" = "auto",
    precision: Precision = "fp32",
    weights: "Weights" = "student",
    progress: bool | Progress | None = None,
) -> "Calibration":
    """Fit a scaling of the logits, so that probabilities are calibrated; keep it by the checkpoint.

    A new fit of the same checkpoint replaces the one before.

    Args:
        run: Run, run directory or checkpoint.
        data: Data set; None for the one that the run was trained on.
        split: Which split to fit on; not one that is reported on.
        kind: "temperature", which changes no mask; "class_temperature"; or "vector", a scale and a
            bias for each class.
        labels: As in `evaluate`.
        precision: As in `evaluate`.
        weights: As in `evaluate`.
        progress: As in `evaluate`.

    Returns:
        What was fitted, and what it changes.

    Raises:
        CheckpointError: There is no checkpoint, or the data set has other classes.
        DataError: There is no such data set or split, or no pixel of it has a label.
    """
    from softiou import calibration

    shown, trained = progress_of(progress), as_trained(run).load_model(weights)
    earlier = calibration.earlier_calibration(trained)
    source, split = default_data(run, data, split)
    dataset = open_for(trained, source, split, labels)
    found = calibration.calibrate(
        trained.model.to(best_device()),
        dataset,
        data=source,
        precision=precision,
        kind=kind,
        samples=loaded(dataset, shown, description=f"calibrating on {split}"),
    )
    path = calibration.save_calibration(found, trained)
    doubt = _doubt(found)
    replaced = [f"replaced  {earlier}"] if earlier else []
    for line in (*_summary(found), *([doubt] if doubt else []), *replaced, f"wrote     {path}"):
        shown.say(line)
    return found


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
