"""softiou demo: train, evaluate and compare two models on the embedded data set."""

from pathlib import Path
from typing import Annotated

import typer

from softiou._screen import progress_of
from softiou.cli import _console
from softiou.cli._arguments import Json

# Small enough for a laptop; the experiment "demo" in benchmarks/ measures the result.
SETTINGS = [
    "model.architecture=unet",
    "model.encoder=tu-resnet10t",
    "model.encoder_weights=none",
    "data.batch_size=16",
    "data.scale=[0.8, 1.25]",
    "data.flip=0",
    "precision=fp32",
    "optim.validations=5",
]
# Weight of the cross-entropy, and the learning rate that is best on the validation split.
METHODS = {"CE": (1.0, 0.006), "0.25 CE + 0.75 JML": (0.25, 0.006)}


def demo(
    out: Annotated[
        Path | None,
        typer.Option(help="New folder for the runs; default: the next free runs/demo-001."),
    ] = None,
    steps: Annotated[int, typer.Option(min=5, help="Optimiser steps of each run.")] = 700,
    json_output: Json = False,
) -> None:
    """Train on handwritten digits twice: with cross-entropy, and with 0.25 CE + 0.75 JML."""
    with _console.loading():
        from softiou import jobs
        from softiou.training import next_free_run
    progress = progress_of(False if json_output else None)
    home, runs = out or next_free_run("demo"), {}
    for name, (cross_entropy, rate) in METHODS.items():
        progress.say(f"training with {name}")
        own = (f"loss.cross_entropy={cross_entropy}", f"optim.learning_rate={rate}")
        runs[name] = jobs.train(
            "digits",
            out=home / ("ce" if cross_entropy == 1 else "ce_jml"),
            command=_console.command_line(),
            overrides=[*SETTINGS, f"optim.steps={steps}", *own],
            progress=progress,
        )
    rows = {name: run.evaluation.metrics for name, run in runs.items() if run.evaluation}
    page = home / "compare.html"
    jobs.compare(*runs.values(), report=page, progress=progress)
    if json_output:
        metrics = {name: {"run": run.path, **rows[name]} for name, run in runs.items()}
        _console.print_json({"runs": metrics, "side_by_side": page})
        return
    names = ("miou_d", "miou_i", "miou_c", "accuracy", "ece_d")
    _console.score_table(rows, names=names, title="digits, test")
    _console.say(f"report  {runs[name].path / 'report.html'}")
    _console.say(f"side by side  {page}")
