"""Fit the calibration of a trained model to a data set."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.utils.data import Dataset

from softiou._moved import renamed_arguments
from softiou._processes import connect, is_first, joined
from softiou._screen import Progress, progress_of
from softiou.errors import CheckpointError, SoftiouError
from softiou.inference import Precision, best_device
from softiou.jobs.opening import default_data, loaded, open_for, val_split
from softiou.jobs.trained import RunLike, Trained, as_trained

if TYPE_CHECKING:
    from softiou.calibration import Calibration
    from softiou.checkpoints import TrainedModel, Weights
    from softiou.data import TargetKind
    from softiou.temperature import Kind


@renamed_arguments(weights="model")
def calibrate(
    run: RunLike,
    data: "str | Path | Dataset[Any] | None" = None,
    *,
    split: str | None = None,
    kind: "Kind" = "temperature",
    labels: "TargetKind" = "auto",
    precision: Precision = "fp32",
    model: "Weights" = "student",
    progress: bool | Progress | None = None,
) -> "Calibration":
    """Fit a scaling of the logits that calibrates the probabilities, and store it.

    The result is written beside the checkpoint and replaces an earlier fit. The arguments that are
    not listed here are those of `evaluate`.

    Args:
        run: Run, run directory or checkpoint.
        data: Data set, or a `Dataset` object, as in `evaluate`; None for the data of the run.
        split: Split to fit on. Do not report metrics on the same split. None for the split that
            chose the best checkpoint of the run.
        kind: "temperature", which does not change the masks; "class_temperature"; or "vector", a
            scale and a bias for each class.

    Returns:
        The fitted scaling, with the NLL and the ECE before and after.

    Raises:
        CheckpointError: No checkpoint was found, or the classes of the data set differ.
        DataError: The data set or split does not exist, or none of its pixels has a label.
    """
    from softiou import calibration

    shown, run = progress_of(progress), as_trained(run)
    trained = run.load_model(model)
    earlier = calibration.earlier_calibration(trained)
    found = _fitted(
        trained,
        *default_data(run, data, split or val_split(run)),
        kind=kind,
        labels=labels,
        precision=precision,
        progress=shown,
        own=data if isinstance(data, Dataset) else None,
    )
    path = calibration.save_calibration(found, trained) if is_first() else None
    joined([path])  # wait, so that no process reads it too early
    if path is None:
        return found
    doubt = _doubt(found)
    replaced = [f"replaced  {earlier}"] if earlier else []
    for line in (*_summary(found), *([doubt] if doubt else []), *replaced, f"wrote     {path}"):
        shown.say(line)
    return found


def calibrate_run(
    run: Trained,
    progress: Progress,
    *,
    data: "Dataset[Any] | None" = None,
    models: "Sequence[Weights]" = ("student",),
) -> None:
    """Fit the temperature of a run on its validation split, at the end of its training.

    A fit that fails or is doubtful is reported but not stored; it does not raise, because the
    training itself has succeeded. `data` is a validation data set that the user passed as object.
    """
    from softiou import calibration

    source, split = default_data(run, data, val_split(run))
    for weights in models:
        name = "temperature" if weights == "student" else f"temperature of the {weights}"
        try:
            trained = run.load_model(weights)
            found = _fitted(trained, source, split, progress=progress.without_notes(), own=data)
            if doubt := _doubt(found):
                raise CheckpointError(doubt)
            joined([calibration.save_calibration(found, trained)] if is_first() else [])
        except SoftiouError as error:
            progress.say(f"{name}: not stored; {error}")
            continue
        progress.say(
            f"{name} {1 / found.scaling.scale[0]:.3f}, fitted on {split}: ECE "
            f"{found.ece.before:.2f} -> {found.ece.after:.2f} per cent; `softiou predict` uses it"
        )


def _fitted(
    trained: "TrainedModel",
    source: str,
    split: str,
    *,
    kind: "Kind" = "temperature",
    labels: "TargetKind" = "auto",
    precision: Precision = "fp32",
    progress: Progress,
    own: "Dataset[Any] | None",
) -> "Calibration":
    """Fit a scaling on a split, or on a data set of the user, without writing a file."""
    from softiou import calibration

    dataset = open_for(trained, source, split, labels, own=own)
    connect()
    return calibration.calibrate(
        trained.model.to(best_device()),
        dataset,
        data=source,
        precision=precision,
        kind=kind,
        samples=loaded(dataset, progress, description=f"calibrating on {split}"),
    )


def _summary(found: "Calibration") -> list[str]:
    """Return the lines that describe a fit and its effect on NLL and ECE."""
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
    """Return why a fit should not be trusted, or None if it can be."""
    from softiou.temperature import LARGEST_SCALE

    scales = found.scaling.scale
    if min(scales) <= 0:
        return (
            "doubtful: a scale is not positive, so a larger logit means a lower probability. The "
            "split has too few pixels of a class, or the model has not learnt it; use --kind "
            "temperature."
        )
    if min(scales) < 1.001 / LARGEST_SCALE or max(scales) > 0.999 * LARGEST_SCALE:
        return (
            "doubtful: a temperature is at the limit of the allowed range. This happens when the "
            "model is always right on this split, or does not predict a class better than chance."
        )
    return None
