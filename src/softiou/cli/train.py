"""softiou train, distill and semi: train a model, evaluate it and write a report."""

import json
from pathlib import Path
from typing import Annotated, Any

import typer

from softiou._processes import is_first
from softiou.cli import _arguments as arguments
from softiou.cli import _console
from softiou.errors import ConfigError

# For --help, which must not import pydantic; a test compares names and defaults.
MAIN_SETTINGS = {
    "data.crop_px": ("auto", "height x width of a training crop, 512x512"),
    "data.batch_size": ("auto", "images per batch; lower it if memory runs out"),
    "optim.steps": ("auto", "optimiser steps, or optim.epochs=40"),
    "optim.learning_rate": ("auto", "0.0005 with adamw, 0.01 with sgd"),
    "model.architecture": ("deeplabv3plus", "unet, fpn, segformer, ...: softiou models"),
    "model.encoder": ("mobilenet_v2", "resnet50, tu-convnext_tiny, ..."),
    "model.encoder_weights": ("imagenet", "imagenet, none or a safetensors file"),
    "loss.cross_entropy": ("0.25", "weight of the cross-entropy: 0 is only JML, 1 only CE"),
    "labels.kind": ("auto", "uniform or boundary (label smoothing), votes (annotators)"),
    "precision": ("auto", "bf16, fp16 or fp32"),
}


def train(
    data: arguments.DataOrSetting = None,
    overrides: arguments.Overrides = None,
    split: arguments.TrainSplit = None,
    config: arguments.ConfigFile = None,
    out: arguments.NewRun = None,
    resume: arguments.RunToResume = None,
    resume_if_exists: arguments.ResumeIfExists = False,
    dry_run: arguments.DryRun = False,
    json_output: arguments.Json = False,
) -> None:
    """Train a model, evaluate it and write its report.

    The model is evaluated on the split `test`, or on `val` if there is no test split.
    """
    _learn("train", **locals())


def distill(
    data: arguments.DataOrSetting = None,
    overrides: arguments.Overrides = None,
    teacher: Annotated[
        Path | None, typer.Option(metavar="RUN|CKPT", help="Teacher, which runs in every step.")
    ] = None,
    soft_labels: Annotated[
        Path | None,
        typer.Option(help="Folder written by softiou label, instead of running the teacher."),
    ] = None,
    split: arguments.TrainSplit = None,
    config: arguments.ConfigFile = None,
    out: arguments.NewRun = None,
    baseline: Annotated[
        Path | None, typer.Option(help="Finished run of the student alone, with the same budget.")
    ] = None,
    no_baseline: Annotated[
        bool, typer.Option("--no-baseline", help="Evaluate the student only.")
    ] = False,
    resume: arguments.RunToResume = None,
    resume_if_exists: arguments.ResumeIfExists = False,
    dry_run: arguments.DryRun = False,
    json_output: arguments.Json = False,
) -> None:
    """Train a student with a teacher, and the same student without it, and compare all three.

    The student without teacher is trained with the same settings into RUN/baseline, unless
    --baseline names a run with the same budget. The report of the run compares all three.
    """
    given = locals()
    if baseline and no_baseline:
        raise ConfigError("Give either --baseline or --no-baseline, not both.")
    given["baseline"] = "none" if given.pop("no_baseline") else baseline and baseline.resolve()
    _learn("distill", **given)


def semi(
    data: arguments.DataOrSetting = None,
    overrides: arguments.Overrides = None,
    unlabeled: Annotated[
        Path | None,
        typer.Option(
            metavar="DIR",
            help="Images without masks; default: DATA/unlabeled/images and the images of train "
            "that are not in --split.",
        ),
    ] = None,
    split: arguments.TrainSplit = None,
    config: arguments.ConfigFile = None,
    out: arguments.NewRun = None,
    resume: arguments.RunToResume = None,
    resume_if_exists: arguments.ResumeIfExists = False,
    dry_run: arguments.DryRun = False,
    json_output: arguments.Json = False,
) -> None:
    """Train on images with and without masks, and compare student and teacher.

    The teacher is the moving average of the student; its pseudo-labels replace the missing
    masks. Masks of unlabelled images are never opened, even if they exist.
    """
    _learn("semi", **locals())


def main_settings() -> str:
    """Return the text about the most important settings, for --help."""
    lines = [f"{key}={default}: {text}" for key, (default, text) in MAIN_SETTINGS.items()]
    return "\n\n".join(["The ten most important settings, with their defaults:", *lines])


def _learn(
    verb: str,
    data: str | None,
    overrides: list[str] | None,
    *,
    config: Path | None,
    out: Path | None,
    resume: Path | None,
    resume_if_exists: bool,
    dry_run: bool,
    json_output: bool,
    **options: Any,
) -> None:
    """Train and print the metrics, or print the plan of the training.

    The arguments are those of the verb; `options` are passed to the job if they were given.
    """
    from softiou import jobs

    data, settings = arguments.data_and_settings(data, overrides)
    progress = False if json_output else None
    given: dict[str, Any] = {"config": config, "overrides": settings, "progress": progress}
    given |= {key: value for key, value in options.items() if value is not None}
    if dry_run:
        plan = jobs.plan(data, verb=verb, step=True, **given)
        print(json.dumps(plan.as_dict(), indent=1) if json_output else plan.text(), end="")
        return
    command = _console.command_line()
    given |= {"out": out, "resume": resume, "resume_if_exists": resume_if_exists}
    run = getattr(jobs, verb)(data, command=command, **given)
    if not (run.evaluation and is_first()):  # already finished, or another process prints
        return
    if json_output:
        contents = run.contents()
        rows = contents.model_table.rows if contents.model_table else ()
        models = {row.name: {"metrics": row.metrics, "intervals": row.intervals} for row in rows}
        _console.print_json({"run": run.path, **run.evaluation.content, "models": models})
    elif verb == "train":
        _console.show_evaluation(run.evaluation, home=run.path)
    else:
        _console.show_models(run)
