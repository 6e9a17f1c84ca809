"""The fair baseline of a distilled student: the same run without the teacher."""

from pathlib import Path
from typing import Any

from softiou.checkpoints import end_of_training
from softiou.configuration.data_sections import PRESETS
from softiou.configuration.files import by_dotted_key, load_config
from softiou.configuration.sections import Config
from softiou.data import absolute_source
from softiou.errors import ConfigError

BASELINE = "baseline"  # folder of the student without teacher in the run of the student
# What two runs must have in common to be of one budget, and what is only reported.
_BUDGET = ("data", "model", "optim", "precision")
_REPORTED = ("labels", "loss", "seed")


def without_teacher(config: Config) -> Config:
    """Return the configuration of a student that learns from the labels alone."""
    return config.model_copy(update={"distillation": None})


def differences_to_baseline(student: Config, baseline: Path) -> list[str]:
    """Return what differs beside the budget: "loss.cross_entropy: 0.25, baseline 1.0".

    Raises ConfigError where the baseline has another budget, is distilled itself, or not finished.
    """
    own = load_config(file=baseline / "config.yaml")
    if own.verb != "train":
        raise ConfigError(
            f"{baseline} was trained by `softiou {own.verb}`, with a teacher, too: no baseline."
        )
    if wrong := _differences(student, own, _BUDGET):
        lines = "\n".join(f"  {line}" for line in wrong)
        raise ConfigError(
            f"{baseline} is no fair baseline: it has another budget.\n{lines}\nLeave --baseline "
            "out to train one, or train both with the same settings."
        )
    if end_of_training(baseline, own.optim) is None:
        raise ConfigError(
            f"{baseline} is no fair baseline: its training has not ended. Finish it with `softiou "
            f"train --resume {baseline}`."
        )
    return _differences(student, own, _REPORTED)


def _differences(student: Config, baseline: Config, sections: tuple[str, ...]) -> list[str]:
    one, other = _plain(student), _plain(baseline)
    return [
        f"{key}: {one[key]}, baseline {other[key]}"
        for key in one
        if key.split(".")[0] in sections and one[key] != other[key]
    ]


def _plain(config: Config) -> dict[str, Any]:
    """Return the settings by dotted key; the data set by its place, however it was written."""
    values = by_dotted_key(config.model_dump(mode="json"))
    values["data.source"] = absolute_source(config.data.source)
    for name in ("data.workers", "data.augmentation"):  # say nothing of what is learnt
        values.pop(name)
    for name, off in PRESETS["none"].items():  # null in a run of before the setting
        if values[f"data.{name}"] is None:
            values[f"data.{name}"] = off
    return values
