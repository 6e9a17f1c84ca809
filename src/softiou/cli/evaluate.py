"""softiou evaluate: a trained model over a data set."""

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from softiou.cli._arguments import LabelsChoice, Truth, Weights, WeightsChoice, labels_for
from softiou.cli._inference import BatchSize, Flips, Overlap, Scales, Window, inference_settings

if TYPE_CHECKING:
    from softiou.calibration import Calibration
    from softiou.checkpoints import TrainedModel
    from softiou.checkpoints import Weights as ModelWeights
    from softiou.data import TargetKind
    from softiou.evaluation import Evaluation
    from softiou.inference import InferenceSettings


def evaluate(
    checkpoint: Annotated[
        Path, typer.Argument(metavar="RUN|CKPT", help="Run directory or checkpoint file.")
    ],
    data: Annotated[str, typer.Argument(help="Data set folder, LAYOUT:/path, or digits.")],
    split: Annotated[str, typer.Option(help="Which split to score.")] = "test",
    labels: Truth = LabelsChoice.auto,
    window: Window = None,
    overlap: Overlap = 0.5,
    flips: Flips = False,
    scales: Scales = "1",
    batch_size: BatchSize = 4,
    weights: Weights = WeightsChoice.student,
    out: Annotated[
        Path | None,
        typer.Option(help="Where to write evaluation.json and report.html; default: the run."),
    ] = None,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print evaluation.json instead of a table.")
    ] = False,
) -> None:
    """Score a model: mIoU over the data set, per image and per class, and calibration.

    A calibration that `softiou calibrate` has fitted is reported beside the plain figures.
    """
    from softiou.evaluation import to_json

    evaluation = evaluate_run(
        checkpoint,
        data,
        split=split,
        labels=labels.value,
        weights=weights.value,
        inference=inference_settings(
            window, overlap=overlap, flips=flips, scales=scales, batch_size=batch_size
        ),
        out=out,
        show=not json_output,
    )
    if json_output:
        print(to_json(evaluation.content), end="")


def evaluate_run(
    checkpoint: Path,
    data: str,
    *,
    split: str,
    labels: "TargetKind" = "auto",
    weights: "ModelWeights" = "student",
    inference: "InferenceSettings | None" = None,
    out: Path | None = None,
    show: bool = True,
) -> "Evaluation":
    """Evaluate a run or checkpoint, and write the result and the report beside it."""
    from softiou.checkpoints import load_trained, run_directory
    from softiou.cli import _console
    from softiou.evaluation import save_evaluation
    from softiou.reports import write_report

    trained = load_trained(checkpoint, weights=weights)
    say = _console.say if show else lambda line: None
    evaluation = score(trained, data, split=split, labels=labels, inference=inference, say=say)
    if show:
        rows = {trained.name: evaluation.metrics}
        if calibrated := evaluation.content["calibrated"]:
            rows[f"after {calibrated['kind']}"] = calibrated["metrics"]
        _console.score_table(
            rows, title=f"{data}, {split}", intervals=evaluation.content["intervals"]
        )
    home = out or run_directory(trained.path)
    if home is None:
        say("nothing was written: the checkpoint lies in no run directory; --out names a place")
        return evaluation
    kept = save_evaluation(evaluation, home)
    if kept:
        say(f"earlier evaluation  {kept}")
    say(f"report  {write_report(home)}")
    return evaluation


def score(
    trained: "TrainedModel",
    data: str,
    *,
    split: str,
    labels: "TargetKind" = "auto",
    inference: "InferenceSettings | None" = None,
    say: Callable[[str], None] = lambda line: None,
) -> "Evaluation":
    """Score a model on a split of a data set, and write nothing."""
    from torch.utils.data import DataLoader

    from softiou.checkpoints import check_classes, file_sha256
    from softiou.cli import _console
    from softiou.data import open_dataset
    from softiou.evaluation import evaluate
    from softiou.inference import WHOLE_IMAGE, best_device, best_precision
    from softiou.training.stopping import ignore_interrupts

    dataset = open_dataset(data, split, labels=labels_for(trained, labels))
    check_classes(trained, dataset.description, data=data)
    device = best_device()
    precision = best_precision(device)
    samples = DataLoader(dataset, batch_size=None, num_workers=1, worker_init_fn=ignore_interrupts)
    calibration, path = _calibration(trained, say)
    if calibration and (calibration.data, calibration.split) == (data, split):
        say("the calibration was fitted on this very split: what it promises here is too much")
    if calibration and calibration.labels != dataset.labels:
        say(
            f"the calibration was fitted to {calibration.labels} labels, and these are "
            f"{dataset.labels}: softiou calibrate --labels {dataset.labels} fits to the same kind"
        )
    return evaluate(
        trained.model.to(device),
        dataset,
        precision=precision,
        data=data,
        checkpoint=trained.name,
        inference=inference or WHOLE_IMAGE,
        checkpoint_sha256=file_sha256(trained.path),
        calibration=calibration,
        calibration_path=path,
        samples=_console.track(samples, total=len(dataset), description=f"evaluating {split}"),
    )


def _calibration(
    trained: "TrainedModel", say: Callable[[str], None]
) -> "tuple[Calibration | None, str]":
    """Return the calibration beside a checkpoint; one that does not fit it must not stop us."""
    from softiou.calibration import calibration_path, load_calibration
    from softiou.errors import CheckpointError

    try:
        return load_calibration(trained), calibration_path(trained).name
    except CheckpointError as error:
        say(f"not calibrated: {error}")
        return None, ""
