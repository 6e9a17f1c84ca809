"""Distillation: a student that learns from labels and a teacher, beside one without teacher."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softiou._moved import renamed_arguments
from softiou._screen import Progress, progress_of
from softiou.jobs.learning import (
    Configuration,
    Request,
    continued,
    finished_run,
    learn,
    split_setting,
)

if TYPE_CHECKING:
    from softiou.configuration import Config
    from softiou.jobs.run import Run


@renamed_arguments(run="out")
def distill(
    data: str | Path | None = None,
    *,
    split: str | Path | None = None,
    config: Configuration = None,
    out: Path | str | None = None,
    resume: Path | str | None = None,
    resume_if_exists: bool = False,
    overrides: Sequence[str] = (),
    command: str = "",
    progress: bool | Progress | None = None,
    **settings: Any,
) -> "Run":
    """Train a student with a teacher, and the same student without, and compare all three.

    The student without teacher is trained with the same settings into RUN/baseline, unless
    `baseline` names a run of the same budget. The report of the run has all of them in one table.
    With `baseline="none"` the student alone is scored.

    Args:
        data: As in `train`.
        split: As in `train`; with `unlabeled`, the other images of train are learnt without masks.
        config: As in `train`.
        out: As in `train`.
        resume: As in `train`.
        resume_if_exists: As in `train`.
        overrides: As in `train`.
        command: As in `train`.
        progress: As in `train`.
        settings: As in `train`, and short names of the section distillation: one of `teacher` (run
            or checkpoint that runs at every step) and `soft_labels` (folder that `label` has
            written); `baseline` ("train", "none", or a run of the student without teacher).

    Returns:
        The run; its `contents().model_table` has all models.

    Raises:
        ConfigError, DataError, CheckpointError, RunExistsError: See `softiou.errors`.
        KeyboardInterrupt: After Ctrl-C, with a checkpoint to resume from.
    """
    shown = progress_of(progress)
    settings |= split_setting(split)
    request = Request("distill", data, config, out, resume, settings, overrides, command)
    request = continued(request, shown) if resume_if_exists else request
    if finished := finished_run(request, shown):
        return finished
    done = learn(request, shown, check=_check_baseline)
    from softiou._lock import only_writer
    from softiou.jobs.model_tables import add_baseline

    with only_writer(done.path):
        add_baseline(done, shown)
    return done


def _check_baseline(config: "Config") -> None:
    from softiou.recipes import differences_to_baseline
    from softiou.training import resolve_config

    baseline = config.distillation.baseline if config.distillation else "none"
    if baseline not in ("train", "none"):  # before hours of training
        differences_to_baseline(resolve_config(config), Path(baseline))
