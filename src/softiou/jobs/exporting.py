"""Export a trained model to one file."""

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
    """Export a model to one file, from RGB to probabilities, and compare its output with the model.

    The file includes normalisation, padding, interpolation to the size of the image, calibration
    and softmax; the number and the size of the images are dynamic.

    Args:
        run: Run, run directory or checkpoint.
        to: "onnx", "torch-export", or "safetensors", which contains only the weights.
        out: File to write; None for RUN/model.onnx (.pt2, .safetensors), or for a file beside the
            checkpoint with the name of the checkpoint.
        model: As in `evaluate`.
        calibrated: Whether to include the calibration; None to include it if there is one.
        input_dtype: Input of the exported program: "uint8" in [0, 255] or "float32" in [0, 1].
        overwrite: Whether to replace an existing file.
        progress: As in `evaluate`.

    Raises:
        ConfigError: The suffix of the file does not match the format, or a package is missing.
        CheckpointError: No checkpoint was found, or `calibrated` is True without a calibration.
        RunExistsError: The file already exists.
        ExportError: The output of the file differs from that of the model.
    """
    from softiou.calibration import load_scaling, require_scaling
    from softiou.exporting import SUFFIXES, export_model

    suffix = SUFFIXES.get(to)
    if suffix is None:
        raise ConfigError(f"Expected `to` to be one of {', '.join(SUFFIXES)}, but got {to!r}.")
    if out is not None and Path(out).suffix.lower() != suffix:
        raise ConfigError(f"--out {out}: the name of a file for --to {to} must end in {suffix}.")
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
    """Return lines on the input, the content and the numerical error of the file."""
    info = report.info
    if info.scaling is None:
        calibration = "none included (`softiou calibrate` fits one)"
    elif info.scaling.kind == "temperature":
        calibration = f"temperature {1 / info.scaling.scale[0]:.3f} included"
    else:
        calibration = f"{info.scaling.kind} included"
    lines = [f"calibration  {calibration}"]
    if report.path.suffix != ".safetensors":
        largest = 255 if info.input_dtype == "uint8" else 1
        least = f", at least {info.smallest_px} pixels per side" if info.smallest_px > 1 else ""
        seen = f"RGB (N, 3, H, W) in 0..{largest}"
        if info.bands is not None:
            numbers = info.bands.numbers
            seen = f"(N, {len(numbers)}, H, W), bands {', '.join(map(str, numbers))} as stored"
        lines.append(f"images       {info.input_dtype} {seen}{least}")
        lines.append(f"probs        float32 (N, {info.description.num_classes}, H, W)")
    return [
        *lines,
        f"checked      largest difference in a probability {report.difference:.1e}",
        f"wrote        {report.path} ({report.size_bytes / 2**20:.1f} MiB)",
    ]
