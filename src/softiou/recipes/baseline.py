"""The fair baseline of a distilled student: the same run without the teacher."""

from pathlib import Path
from typing import Any

from softiou.checkpoints import end_of_training
from softiou.configuration.data_sections import PRESETS
from softiou.configuration.files import by_dotted_key, load_config
from softiou.configuration.sections import Config
from softiou.data import absolute_source
from softiou.errors import ConfigError

BASELINE = "baseline"  # folder of the baseline in the run directory of the student
# Sections that must be equal for a fair comparison, and sections whose differences are reported.
_BUDGET = ("data", "model", "optim", "precision")
_REPORTED = ("labels", "loss", "seed")


def without_teacher(config: Config) -> Config:
    """Return the configuration without distillation, which trains with the labels only."""
    return config.model_copy(update={"distillation": None})


def differences_to_baseline(student: Config, baseline: Path) -> list[str]:
    """Return the permitted differences, such as "loss.cross_entropy: 0.25, baseline 1.0".

    Raises a ConfigError if the baseline has another budget, is distilled, or is not finished.
    """
    own = load_config(file=baseline / "config.yaml")
    if own.verb != "train":
        raise ConfigError(
            f"{baseline} is not a baseline: it was trained with a teacher (`softiou {own.verb}`)."
        )
    if wrong := _differences(student, own, _BUDGET):
        lines = "\n".join(f"  {line}" for line in wrong)
        raise ConfigError(
            f"{baseline} is not a fair baseline: it has another budget.\n{lines}\nLeave --baseline "
            "out to train one, or train both with the same settings."
        )
    if end_of_training(baseline, own.optim) is None:
        raise ConfigError(
            f"{baseline} is not a fair baseline: its training is not finished. Finish it with "
            f"`softiou train --resume {baseline}`."
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
    """Return the settings by dotted key, in a form that can be compared."""
    values = by_dotted_key(config.model_dump(mode="json"))
    values["data.source"] = absolute_source(config.data.source)
    for name in ("data.workers", "data.augmentation"):  # they do not affect the training
        values.pop(name)
    for name, off in PRESETS["none"].items():  # null in older runs, which lack the setting
        if values[f"data.{name}"] is None:
            values[f"data.{name}"] = off
    return values
