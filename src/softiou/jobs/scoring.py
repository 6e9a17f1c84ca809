"""Evaluate a trained model on a data set."""

from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from torch.utils.data import Dataset

from softiou import checkpoints
from softiou._moved import renamed_arguments
from softiou._processes import connect, is_first
from softiou._screen import Progress, progress_of
from softiou.inference import WHOLE_IMAGE, InferenceSettings, Predictor
from softiou.inference.devices import Precision, best_device, emulation
from softiou.jobs import opening
from softiou.jobs.trained import RunLike, as_trained

if TYPE_CHECKING:
    from softiou.calibration import Calibration
    from softiou.checkpoints import TrainedModel, Weights
    from softiou.data import SegmentationDataset, TargetKind
    from softiou.evaluation import EvaluationResult
    from softiou.exporting import Exported
    from softiou.models import SegmentationModel


@renamed_arguments(weights="model")
def evaluate(
    run: RunLike,
    data: "str | Path | Dataset[Any] | None" = None,
    *,
    split: str | None = None,
    labels: "TargetKind" = "auto",
    window: int | tuple[int, int] | None = None,
    overlap: float = 0.5,
    flips: bool = False,
    scales: float | Sequence[float] = 1.0,
    batch_size: int = 4,
    precision: Precision = "fp32",
    model: "Weights" = "student",
    trust: bool = False,
    out: Path | str | None = None,
    progress: bool | Progress | None = None,
) -> "EvaluationResult":
    """Evaluate a model, and write evaluation.json and report.html into its run directory.

    If the checkpoint has a calibration, the metrics after calibration are reported as well.
    Processes started by torchrun or srun share the images: every process must call this function.

    Args:
        run: Run, run directory, checkpoint, or a file written by `export`.
        data: Data set, or a `Dataset` object with the classes of the model, as in `train`; None
            for the data that the run was trained on.
        split: Split to evaluate; None for test, or for the validation split if there is no test.
        labels: Labels to compare with: "hard" (the majority), "soft" (probabilities of the data
            set), "votes" or "staple" (of several annotators); "auto" is soft for a model that was
            trained on soft labels, and otherwise votes or hard.
        window: Size of the sliding window in pixels: a side, or height and width. None processes
            images of up to 2^24 pixels whole, and larger ones in windows of 1024.
        overlap: Fraction of a window that overlaps with the next one.
        flips: Whether to average over the image and its mirror image.
        scales: Factors to resize the image by; the probabilities of all scales are averaged.
        batch_size: Number of windows per forward pass.
        precision: Precision of the network: "fp32", as in exported files; "bf16" and "fp16" are
            faster on some hardware.
        model: "student", or the "teacher" of a semi-supervised run.
        trust: As in `predict`.
        out: Folder to write to; None for the run directory, if the checkpoint is in one.
        progress: Whether to show lines and progress bars; None: in terminals and notebooks only.

    Returns:
        The metrics over the data set, per class and per image.

    Raises:
        CheckpointError: No checkpoint was found, or the classes of the data set differ.
        DataError: The data set or the split does not exist.
    """
    from softiou.data.source_names import overlooked
    from softiou.evaluation import save_evaluation
    from softiou.exporting import is_exported
    from softiou.reports import write_report

    shown, run = progress_of(progress), as_trained(run)
    settings = opening.inference_settings(
        window, overlap=overlap, flips=flips, scales=scales, batch_size=batch_size
    )
    source, split = opening.default_data(run, data, split)
    for line in overlooked(source):
        shown.say(line)
    is_file = is_exported(run.path)
    trained: TrainedModel | Exported
    if is_file:
        trained = opening.open_file(run.path, precision, shown, weights=model, trust=trust)
    else:
        with shown.doing(f"reading {run.path}"):
            trained = run.load_model(model)
    evaluation = score(
        trained,
        source,
        split=split,
        labels=labels,
        inference=settings,
        precision=precision,
        progress=shown,
        own=data if isinstance(data, Dataset) else None,
    )
    run.evaluation = evaluation
    if not is_first():
        return evaluation
    if home := Path(out) if out else None if is_file else run.directory:
        if kept := save_evaluation(evaluation, home):
            shown.say(f"earlier evaluation  {kept}")
        write_report(home)
    else:
        what = "this is an exported file" if is_file else "the checkpoint is not in a run directory"
        shown.say(f"nothing was written: {what}; choose a folder with --out")
    return evaluation


def score(
    trained: "TrainedModel | Exported",
    data: str | Path,
    *,
    split: str,
    labels: "TargetKind" = "auto",
    inference: InferenceSettings = WHOLE_IMAGE,
    precision: Precision = "fp32",
    progress: Progress,
    own: "Dataset[Any] | None" = None,
) -> "EvaluationResult":
    """Evaluate a model on a split, or on the user's own data set, without writing files.

    Several processes share the images; each returns the result for all images.
    """
    from softiou.calibration import calibration_path
    from softiou.checkpoints import TrainedModel
    from softiou.data.base import tie_note
    from softiou.evaluation import evaluate as evaluate_model

    connect()
    model: SegmentationModel | Predictor
    if isinstance(trained, TrainedModel):
        model = trained.model.to(best_device())
        calibration = opening.usable_calibration(trained, progress.say)
        path = calibration_path(trained).name if calibration else ""
    else:
        model, calibration, path = trained.predictor, None, ""
    for line in emulation(best_device(), precision):
        progress.say(line)
    with progress.doing(f"opening {data}, {split}"):
        dataset = opening.open_for(trained, data, split, labels, own=own)
    if dataset.labels in ("hard", "votes") and dataset.annotators == 2:
        progress.say(
            tie_note("mIoU counts as true", "soft IoU and soft Dice (labels votes) use both")
        )
    if calibration:
        _warn(calibration, str(data), dataset, progress.say)
    return evaluate_model(
        model,
        dataset,
        precision=precision,
        data=str(data),
        checkpoint=trained.name,
        inference=inference,
        checkpoint_sha256=checkpoints.file_sha256(trained.path),
        calibration=calibration,
        calibration_path=path,
        used_for=_used_for(getattr(trained, "config", {}).get("data", {}), str(data), split),
        samples=opening.loaded(dataset, progress, description=f"evaluating {split}"),
    )


def _used_for(trained_on: Mapping[str, Any], source: str, split: str) -> str | None:
    """Return whether a training used images of a split for "training" or "selection"."""
    from softiou.data import absolute_source, open_source

    train, val = trained_on.get("train_split"), trained_on.get("val_split")
    if trained_on.get("source") != absolute_source(source):
        return None
    if split in (train, val):
        return "training" if split == train else "selection"
    if source == "digits":
        return None
    opened = open_source(source)
    images = opened.images_of([split])
    if images & opened.images_of([str(val)]):
        return "selection"
    learnt = opened.images_of([str(train)]) - opened.images_of(["test"])  # never learnt from
    return "training" if images & learnt else None


def _warn(
    calibration: "Calibration",
    data: str,
    dataset: "SegmentationDataset",
    say: Callable[[str], None],
) -> None:
    """Warn if the data make the calibration look better or worse than it is."""
    if (calibration.data, calibration.split) == (data, dataset.split):
        say("the calibration was fitted on this split: its metrics here are too optimistic")
    if calibration.labels != dataset.labels:
        say(
            f"the calibration was fitted to {calibration.labels} labels, but these labels are "
            f"{dataset.labels}: fit it again with softiou calibrate --labels {dataset.labels}"
        )
