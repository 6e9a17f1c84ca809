"""softiou evaluate: a trained model over a data set."""

from pathlib import Path
from typing import Annotated

import typer

from softiou.cli._arguments import LabelsChoice, Truth, Weights, WeightsChoice
from softiou.cli._inference import (
    BatchSize,
    Flips,
    Overlap,
    Precision,
    PrecisionChoice,
    Scales,
    Trust,
    Window,
    factors,
    window_px,
)


def evaluate(
    checkpoint: Annotated[
        Path,
        typer.Argument(
            metavar="RUN|CKPT|FILE",
            help="Run directory, checkpoint file, or what `softiou export` has written.",
        ),
    ],
    data: Annotated[
        str | None,
        typer.Argument(
            help="Data set folder, LAYOUT:/path, or digits; default: that of the run.",
            show_default=False,
        ),
    ] = None,
    split: Annotated[
        str | None,
        typer.Option(help="Which split to score; default: test, or val where there is no test."),
    ] = None,
    labels: Truth = LabelsChoice.auto,
    window: Window = None,
    overlap: Overlap = 0.5,
    flips: Flips = False,
    scales: Scales = "1",
    batch_size: BatchSize = 4,
    precision: Precision = PrecisionChoice.fp32,
    model: Weights = WeightsChoice.student,
    trust: Trust = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Where to write evaluation.json and report.html; default: the run."),
    ] = None,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print evaluation.json instead of a table.")
    ] = False,
) -> None:
    """Score a model: mIoU over the data set, per image and per class, and calibration.

    A calibration that `softiou calibrate` has fitted is reported beside the plain metrics.
    """
    from softiou._processes import is_first
    from softiou.cli import _console

    with _console.loading():
        from softiou.evaluation import to_json
        from softiou.jobs import load
    run = load(checkpoint)
    evaluation = run.evaluate(
        data,
        split=split,
        labels=labels.value,
        window=window_px(window),
        overlap=overlap,
        flips=flips,
        scales=factors(scales),
        batch_size=batch_size,
        precision=precision.value,
        model=model.value,
        trust=trust,
        out=out,
        progress=False if json_output else None,
    )
    if not is_first():
        return
    if json_output:
        print(to_json(evaluation.content), end="")
    else:
        _console.show_evaluation(
            evaluation, home=out or (run.path if run.path.is_dir() else run.directory)
        )
