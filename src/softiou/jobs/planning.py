"""What a training would do: settings, memory and time, before it is started."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softiou._screen import Progress, progress_of
from softiou.jobs.learning import (
    NO_DATA,
    Configuration,
    Request,
    split_parts,
    split_setting,
    unlabeled_setting,
)

if TYPE_CHECKING:
    from softiou.configuration import Plan


def plan(
    data: str | Path | None = None,
    *,
    verb: str = "",
    step: bool = False,
    config: Configuration = None,
    overrides: Sequence[str] = (),
    progress: bool | Progress | None = None,
    **settings: Any,
) -> "Plan":
    """Return the complete settings of a training, why they are so, and what it costs.

    Args:
        data: As in `train`; None for the settings alone, with every "auto" as it is.
        verb: "train", "distill" or "semi"; "" for the one that the settings are for.
        step: Whether to take the first step, too; nothing of it is kept.
        config: As in `train`.
        overrides: As in `train`.
        progress: As in `train`.
        settings: As in the function of the verb.

    Raises:
        ConfigError, DataError, CheckpointError: Those that the training would raise.
    """
    shown = progress_of(progress)
    parts, settings = split_parts(settings)
    settings |= split_setting(settings.pop("split", None))
    if verb == "semi":
        settings |= unlabeled_setting(settings.pop("unlabeled", None))
    request = Request(verb, data, config, None, None, settings, overrides, "", parts)
    loaded = request.load()
    if loaded.data.source == NO_DATA:
        from softiou.configuration import Plan

        return Plan(loaded, {})
    with shown.doing("loading PyTorch"):
        from softiou.training import plan_training
    with shown.doing("opening the data set and building the network"):
        return plan_training(loaded, step=step, **({"custom": parts} if parts else {}))
