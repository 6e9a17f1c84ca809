"""Train a model, or plan a training without running it."""

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

    The temperature is fitted on the validation split and stored beside the checkpoint: `predict`
    uses it for probabilities, and the evaluation shows calibration before and after. The evaluation
    is on the split `test`, or on the validation split if there is no test.

    Args:
        data: Data set folder, LAYOUT:/path, or "digits".
        split: Training images: a split, a list in DATA/splits such as "1_8", or a file of stems;
            None for train.
        config: YAML file, name of a recipe (`softiou recipes ls`), or a dictionary of settings.
        out: New run directory; None for the next free runs/NAME-001.
        resume: Run directory to continue after an interruption, without any other settings. A
            finished run is returned unchanged.
        resume_if_exists: Whether to continue `out`, with its own settings, if it already exists;
            for clusters that restart jobs.
        overrides: Settings as text, such as "optim.steps=2000".
        command: Command that started the run, written in the first line of config.yaml.
        progress: Whether to show lines and progress bars; None: in terminals and notebooks only.
        settings: By short name if only one section has it (steps=2000, encoder="resnet50",
            labels="boundary"), by section (optim={"steps": 2000}), or by dotted key
            (**{"optim.steps": 2000}); the config.yaml of any run lists all settings. Your own
            objects: `model` (a module), `loss` (called with logits and target), `loggers` and
            `callbacks` of Lightning, `transform`, `train_dataset` and `val_dataset` with their
            `classes`; see `softiou.training.CustomParts`.

    Returns:
        The evaluated run; its report is in the run directory.

    Raises:
        ConfigError, DataError, CheckpointError, RunExistsError: See `softiou.errors`.
        KeyboardInterrupt: After Ctrl-C; a checkpoint to resume from has been written.
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
    """Train on images with and without masks, and compare student and teacher.

    The teacher is the moving average of the student; its pseudo-labels replace the missing masks.
    Masks of unlabelled images are never opened, even if they exist. Errors, and the arguments that
    are not listed here, are those of `train`.

    Args:
        unlabeled: Folder of images without masks; None for DATA/unlabeled/images and the images of
            train that are not in `split`.
        split: Images with masks: a split, a list in DATA/splits such as "1_8", or a file of stems;
            None for train.
        settings: As in `train`, with the short names of the section semi_supervised as well.

    Returns:
        The run; `contents().model_table` has the metrics of both models.
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
    """Train a student with a teacher, and the same student without it, and compare all three.

    The student without teacher is trained with the same settings into RUN/baseline, unless
    `baseline` names a run of the same budget. The report of the run compares all three models. With
    `baseline="none"` only the student is evaluated. Errors, and the arguments that are not listed
    here, are those of `train`.

    Args:
        split: As in `train`; `unlabeled` adds the other images of train without masks.
        settings: As in `train`, with the short names of the section distillation as well: either
            `teacher` (a run or checkpoint, which runs in every step) or `soft_labels` (a folder
            written by `label`); `baseline` ("train", "none", or a run of the student alone).

    Returns:
        The run; `contents().model_table` has the metrics of all models.
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
    """Return the complete settings of a training, their reasons, and the memory and time needed.

    The arguments that are not listed here are those of `train`.

    Args:
        data: As in `train`; None returns the settings only, and does not resolve "auto".
        verb: "train", "distill" or "semi"; "" for the verb that the settings belong to.
        step: Whether to also run one training step, whose result is discarded.
        settings: As in the function of the same name as the verb.

    Raises:
        ConfigError, DataError, CheckpointError: The errors that the training would raise.
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
    if baseline not in ("train", "none"):  # fail before the training, not after it
        differences_to_baseline(resolve_config(config), Path(baseline))
