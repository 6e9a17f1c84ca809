"""Training: a data set in, a run with a model, metrics and a report out; and what it would cost."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softiou._moved import renamed_arguments
from softiou._screen import Progress, progress_of
from softiou.jobs.learning import (
    NO_DATA,
    Configuration,
    Request,
    learn,
    split_parts,
    split_setting,
    unlabeled_setting,
)

if TYPE_CHECKING:
    from softiou.configuration import Config, Plan
    from softiou.jobs.run import Run


@renamed_arguments(run="out")
def train(
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
    """Train a model, fit its temperature, evaluate it and write its report.

    The temperature is fitted on the validation split and kept beside the checkpoint: `predict` uses
    it for probabilities, and the evaluation shows calibration before and after. The evaluation is
    on the split `test`, or on the validation split when there is none.

    Args:
        data: Data set folder, LAYOUT:/path, or "digits".
        split: Images to learn from: a split, a list in DATA/splits such as "1_8", or a file of
            stems; None for train.
        config: YAML file, name of a recipe (`softiou recipes ls`), or a dictionary of settings.
        out: New run directory; None for the next free runs/NAME-001.
        resume: Run directory to continue, after an interruption; takes no other settings. A
            finished run is returned as it is.
        resume_if_exists: Whether to continue `out`, with its own settings, where it is a run
            already: for jobs that a cluster starts again.
        overrides: Settings as text, such as "optim.steps=2000".
        command: What started the run, for the first line of its config.yaml.
        progress: Whether to show lines and progress bars; None shows bars where someone watches.
        settings: By short name where only one section has it (steps=2000, encoder="resnet50",
            labels="boundary"), by section (optim={"steps": 2000}), or by dotted key
            (**{"optim.steps": 2000}); config.yaml of any run lists them all. Objects of your own:
            `model` (a module), `loss` (called with logits and target), `loggers` and `callbacks` of
            Lightning, `transform`, `train_dataset` and `val_dataset` with their `classes`; see
            `softiou.training.CustomParts`.

    Returns:
        The run, evaluated and with a report.

    Raises:
        ConfigError, DataError, CheckpointError, RunExistsError: See `softiou.errors`.
        KeyboardInterrupt: After Ctrl-C, with a checkpoint to resume from.
    """
    shown = progress_of(progress)
    parts, settings = split_parts(settings | split_setting(split))
    request = Request(
        "train", data, config, out, resume, settings, overrides, command, parts, resume_if_exists
    )
    own = parts.val_dataset if parts else None

    def finish(run: "Run") -> None:
        from softiou.jobs.calibrating import calibrate_run

        calibrate_run(run, shown, data=own)
        run.evaluate(own, progress=shown.without_notes())

    return learn(request, shown, finish)


@renamed_arguments(run="out")
def semi(
    data: str | Path | None = None,
    *,
    unlabeled: Path | str | None = None,
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
    """Train on images with masks and on images without, and compare student and teacher.

    The teacher is the moving average of the student; its pseudo-labels take the place of the masks
    that are missing. Masks of unlabelled images are never opened, even where there are some.
    Errors, and arguments that are not named here, are those of `train`.

    Args:
        unlabeled: Folder of images without masks; None for DATA/unlabeled/images, and the images of
            train that `split` leaves out.
        split: Images with masks: a split, a list in DATA/splits such as "1_8", or a file of stems;
            None for train.
        settings: As in `train`, and short names of the section semi_supervised.

    Returns:
        The run; its `contents().model_table` has both models.
    """
    shown = progress_of(progress)
    settings |= split_setting(split) | unlabeled_setting(unlabeled)
    request = Request(
        "semi", data, config, out, resume, settings, overrides, command, None, resume_if_exists
    )

    def finish(run: "Run") -> None:
        from softiou.jobs.calibrating import calibrate_run
        from softiou.jobs.model_tables import compare_with_teacher

        calibrate_run(run, shown, models=("student", "teacher"))
        compare_with_teacher(run, shown.without_notes())

    return learn(request, shown, finish)


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
    With `baseline="none"` the student alone is scored. Errors, and arguments that are not named
    here, are those of `train`.

    Args:
        split: As in `train`; with `unlabeled`, the other images of train are learnt without masks.
        settings: As in `train`, and short names of the section distillation: one of `teacher` (run
            or checkpoint that runs at every step) and `soft_labels` (folder that `label` has
            written); `baseline` ("train", "none", or a run of the student without teacher).

    Returns:
        The run; its `contents().model_table` has all models.
    """
    shown = progress_of(progress)
    settings |= split_setting(split)
    request = Request(
        "distill", data, config, out, resume, settings, overrides, command, None, resume_if_exists
    )

    def finish(run: "Run") -> None:
        from softiou.jobs.model_tables import add_baseline

        add_baseline(run, shown)

    return learn(request, shown, finish, check=_check_baseline)


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

    The arguments that are not named here are those of `train`.

    Args:
        data: As in `train`; None for the settings alone, with every "auto" as it is.
        verb: "train", "distill" or "semi"; "" for the one that the settings are for.
        step: Whether to take the first step, too; nothing of it is kept.
        settings: As in the function of the verb.

    Raises:
        ConfigError, DataError, CheckpointError: Those that the training would raise.
    """
    shown = progress_of(progress)
    parts, settings = split_parts(settings)
    settings |= split_setting(settings.pop("split", None))
    if verb == "semi":
        settings |= unlabeled_setting(settings.pop("unlabeled", None))
    request = Request(verb, data, config, None, None, settings, overrides, parts=parts)
    loaded = request.load()
    if loaded.data.source == NO_DATA:
        from softiou.configuration import Plan

        return Plan(loaded, {})
    with shown.doing("loading PyTorch"):
        from softiou.training import plan_training
    with shown.doing("opening the data set and building the network"):
        return plan_training(loaded, step=step, **({"custom": parts} if parts else {}))


def _check_baseline(config: "Config") -> None:
    from softiou.recipes import differences_to_baseline
    from softiou.training import resolve_config

    baseline = config.distillation.baseline if config.distillation else "none"
    if baseline not in ("train", "none"):  # before hours of training
        differences_to_baseline(resolve_config(config), Path(baseline))
