"""softiou evaluate: evaluate a trained model on a data set."""

from pathlib import Path
from typing import Annotated

import typer

from softiou._processes import is_first
from softiou.cli import _arguments as arguments
from softiou.cli import _console


def evaluate(
    run: arguments.RunOrFile,
    data: arguments.DataOfRun = None,
    split: Annotated[
        str | None,
        typer.Option(help="Split to evaluate; default: test, or val if there is no test split."),
    ] = None,
    labels: arguments.Truth = "auto",
    window: arguments.Window = None,
    overlap: arguments.Overlap = 0.5,
    flips: arguments.Flips = False,
    scales: arguments.Scales = "1",
    batch_size: arguments.BatchSize = 4,
    precision: arguments.Precision = "fp32",
    model: arguments.Weights = "student",
    trust: arguments.Trust = False,
    out: Annotated[
        Path | None,
        typer.Option(help="Where to write evaluation.json and report.html; default: the run."),
    ] = None,
    json_output: Annotated[
        bool, typer.Option("--json", help="Print evaluation.json instead of a table.")
    ] = False,
) -> None:
    """Evaluate a model: mIoU over the data set, per image and per class, and calibration.

    If the checkpoint has a calibration (training fits one), both variants are reported.
    """
    given = _console.for_job(locals(), window=arguments.window_px, scales=arguments.factors)
    with _console.loading():
        from softiou import jobs
        from softiou.evaluation import to_json
    given["run"] = trained = jobs.load(run)
    evaluation = jobs.evaluate(**given)
    if not is_first():
        return
    if json_output:
        print(to_json(evaluation.content), end="")
        return
    home = trained.path if trained.path.is_dir() else trained.directory
    _console.show_evaluation(evaluation, home=out or home)
