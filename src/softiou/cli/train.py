"""softiou train: a data set in, a run directory with a model and a report out."""

from softiou.cli._arguments import (
    ConfigFile,
    DataOrSetting,
    DryRun,
    Json,
    NewRun,
    Overrides,
    ResumeIfExists,
    RunToResume,
    TrainSplit,
)

# Shown by --help, which imports no settings; a test compares names and defaults.
MAIN_SETTINGS = {
    "data.crop_px": ("auto", "height x width of a training crop, 512x512"),
    "data.batch_size": ("auto", "images a batch; lower it when memory runs out"),
    "optim.steps": ("auto", "optimiser steps, or optim.epochs=40"),
    "optim.learning_rate": ("auto", "0.0005 with adamw, 0.01 with sgd"),
    "model.architecture": ("deeplabv3plus", "unet, fpn, segformer, ...: softiou models"),
    "model.encoder": ("mobilenet_v2", "resnet50, tu-convnext_tiny, ..."),
    "model.encoder_weights": ("imagenet", "imagenet, none or a safetensors file"),
    "loss.cross_entropy": ("0.25", "share of the cross-entropy; 0 is JML alone, 1 CE alone"),
    "labels.kind": ("auto", "uniform or boundary smooth the labels; votes: of annotators"),
    "precision": ("auto", "bf16, fp16 or fp32"),
}


def train(
    data: DataOrSetting = None,
    overrides: Overrides = None,
    split: TrainSplit = None,
    config: ConfigFile = None,
    out: NewRun = None,
    resume: RunToResume = None,
    resume_if_exists: ResumeIfExists = False,
    dry_run: DryRun = False,
    json_output: Json = False,
) -> None:
    """Train a model, evaluate it and write its report.

    The result is evaluated on the split `test`, or on the validation split when there is none.
    """
    given = locals()
    from softiou.cli._learning import learn

    learn("train", **given)


def main_settings() -> str:
    """Return the settings that matter most, for the help."""
    lines = [f"{key}={default}: {text}" for key, (default, text) in MAIN_SETTINGS.items()]
    return "\n\n".join(["The ten settings that matter most, with their defaults:", *lines])
