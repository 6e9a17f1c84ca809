"""softiou demo: the main job on the embedded data set, from nothing to a report."""

from pathlib import Path
from typing import Annotated

import typer

# Small enough for a laptop; measured as the experiment demo in benchmarks/.
SETTINGS = [
    "model.architecture=unet",
    "model.encoder=tu-resnet10t",
    "model.encoder_weights=none",
    "data.batch_size=16",
    "data.scale=[0.8, 1.25]",
    "data.flip=0",
    "optim.learning_rate=0.003",
    "precision=fp32",
    "optim.validations=5",
]
METHODS = {"CE": 1.0, "0.25 CE + 0.75 JML": 0.25}


def demo(
    out: Annotated[
        Path | None,
        typer.Option(help="New folder for the runs; default: the next free runs/demo-001."),
    ] = None,
    steps: Annotated[int, typer.Option(min=5, help="Optimiser steps of each run.")] = 700,
) -> None:
    """Train on handwritten digits over photographs, twice: with cross-entropy, and with IoU."""
    from softiou import jobs
    from softiou.cli import _console
    from softiou.training import next_free_run

    home = out or next_free_run("demo")
    rows, runs = {}, []
    for name, cross_entropy in METHODS.items():
        _console.say(f"training with {name}")
        run = jobs.train(
            "digits",
            run=home / ("ce" if cross_entropy == 1 else "ce_jml"),
            command=_console.command_line(),
            overrides=[*SETTINGS, f"optim.steps={steps}", f"loss.cross_entropy={cross_entropy}"],
        )
        rows[name] = run.evaluation.metrics if run.evaluation else {}
        runs.append(run)
    _console.score_table(
        rows, names=("miou_d", "miou_i", "miou_c", "accuracy", "ece_d"), title="digits, test"
    )
    jobs.compare(*runs, report=home / "compare.html")
    _console.say(f"report  {run.path / 'report.html'}")
    _console.say(f"side by side  {home / 'compare.html'}")
