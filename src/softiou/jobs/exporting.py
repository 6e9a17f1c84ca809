"""A trained model as one file, for use elsewhere."""

from pathlib import Path
from typing import TYPE_CHECKING

from softiou._moved import renamed_arguments
from softiou._screen import Progress, progress_of
from softiou.errors import ConfigError
from softiou.jobs.trained import RunLike, as_trained

if TYPE_CHECKING:
    from softiou.checkpoints import Weights
    from softiou.exporting import Format, InputDtype, Report


@renamed_arguments(weights="model")
def export(
    run: RunLike,
    to: "Format",
    *,
    out: Path | str | None = None,
    model: "Weights" = "student",
    calibrated: bool | None = None,
    input_dtype: "InputDtype" = "uint8",
    overwrite: bool = False,
    progress: bool | Progress | None = None,
) -> "Report":
    """Write a model into one file, from RGB to probabilities, and check it against the model.

    Normalisation, padding, interpolation to the size of the image, calibration and softmax are
    inside; number and size of the images are free.

    Args:
        run: Run, run directory or checkpoint.
        to: "onnx", "torch-export" or "safetensors", which holds the weights alone.
        out: File to write; None for RUN/model.onnx (.pt2, .safetensors), or for one beside a
            checkpoint, of its name.
        model: As in `evaluate`.
        calibrated: Whether the calibration is inside; None for when there is one.
        input_dtype: Images of a program: "uint8" in [0, 255] or "float32" in [0, 1].
        overwrite: Whether a file that exists may be replaced.
        progress: As in `evaluate`.

    Raises:
        ConfigError: The file has another suffix than the format, or a package is missing.
        CheckpointError: There is no checkpoint, or no calibration where it is asked for.
        RunExistsError: The file exists already.
        ExportError: The file does not compute what the model does.
    """
    from softiou.calibration import load_scaling, require_scaling
    from softiou.exporting import SUFFIXES, export_model

    suffix = SUFFIXES.get(to)
    if suffix is None:
        raise ConfigError(f"Expected `to` to be one of {', '.join(SUFFIXES)}, but got {to!r}.")
    if out is not None and Path(out).suffix.lower() != suffix:
        raise ConfigError(f"--out {out}: a file for --to {to} is named *{suffix}.")
    own = as_trained(run)
    trained = own.load_model(model)
    which = ("" if model == "student" else f".{model}") + suffix
    beside = own.path / "model" if own.path.is_dir() else trained.path.with_suffix("")
    path = Path(out) if out else beside.with_name(beside.name + which)
    scaling = None
    if calibrated is not False:
        scaling = require_scaling(trained) if calibrated else load_scaling(trained)
    written = export_model(
        trained, path, to=to, scaling=scaling, input_dtype=input_dtype, overwrite=overwrite
    )
    for line in _summary(written):
        progress_of(progress).say(line)
    return written


def _summary(report: "Report") -> list[str]:
    """Say what the file takes, what is inside, and how near it is to the model."""
    info = report.info
    if info.scaling is None:
        calibration = "none inside (`softiou calibrate` fits one)"
    elif info.scaling.kind == "temperature":
        calibration = f"temperature {1 / info.scaling.scale[0]:.3f} inside"
    else:
        calibration = f"{info.scaling.kind} inside"
    lines = [f"calibration  {calibration}"]
    if report.path.suffix != ".safetensors":
        largest = 255 if info.input_dtype == "uint8" else 1
        least = f", {info.smallest_px} pixels a side at least" if info.smallest_px > 1 else ""
        seen = f"RGB (N, 3, H, W) in 0..{largest}"
        if info.bands is not None:
            numbers = info.bands.numbers
            seen = f"(N, {len(numbers)}, H, W), bands {', '.join(map(str, numbers))} as stored"
        lines.append(f"images       {info.input_dtype} {seen}{least}")
        lines.append(f"probs        float32 (N, {info.description.num_classes}, H, W)")
    return [
        *lines,
        f"checked      largest difference of a probability {report.difference:.1e}",
        f"wrote        {report.path} ({report.size_bytes / 2**20:.1f} MiB)",
    ]
