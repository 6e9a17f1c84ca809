"""Training: a data set in, a run with a model, metrics and a report out."""

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from softiou._lock import only_writer
from softiou._moved import renamed_arguments
from softiou._screen import Progress, progress_of
from softiou.jobs.learning import (
    Configuration,
    Request,
    continued,
    finished_run,
    learn,
    split_parts,
    split_setting,
    unlabeled_setting,
)

if TYPE_CHECKING:
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
    request = Request("train", data, config, out, resume, settings, overrides, command, parts)
    request = continued(request, shown) if resume_if_exists else request
    if finished := finished_run(request, shown):
        return finished
    done = learn(request, shown)
    from softiou.jobs.calibrating import calibrate_run

    own = parts.val_dataset if parts else None
    with only_writer(done.path):
        calibrate_run(done, shown, data=own)
        done.evaluate(own, progress=shown.without_notes())
    return done


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

    Args:
        data: As in `train`.
        unlabeled: Folder of images without masks; None for DATA/unlabeled/images, and the images of
            train that `split` leaves out.
        split: Images with masks: a split, a list in DATA/splits such as "1_8", or a file of stems;
            None for train.
        config: As in `train`.
        out: As in `train`.
        resume: As in `train`.
        resume_if_exists: As in `train`.
        overrides: As in `train`.
        command: As in `train`.
        progress: As in `train`.
        settings: As in `train`, and short names of the section semi_supervised.

    Returns:
        The run; its `contents().model_table` has both models.

    Raises:
        ConfigError, DataError, CheckpointError, RunExistsError: See `softiou.errors`.
        KeyboardInterrupt: After Ctrl-C, with a checkpoint to resume from.
    """
    shown = progress_of(progress)
    settings |= split_setting(split) | unlabeled_setting(unlabeled)
    request = Request("semi", data, config, out, resume, settings, overrides, command)
    request = continued(request, shown) if resume_if_exists else request
    if finished := finished_run(request, shown):
        return finished
    done = learn(request, shown)
    from softiou.jobs.calibrating import calibrate_run
    from softiou.jobs.model_tables import compare_with_teacher

    with only_writer(done.path):
        calibrate_run(done, shown, models=("student", "teacher"))
        compare_with_teacher(done, shown.without_notes())
    return done
