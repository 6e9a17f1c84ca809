"""The calibration file beside a checkpoint.

CHECKPOINT.calibration.json (CHECKPOINT.teacher.calibration.json for the teacher's weights), schema
version 1:

    schema_version, softiou_version, created (UTC)
    checkpoint    file, sha256 of its content, weights: "student" or "teacher"
    kind          temperature, class_temperature or vector
    scale, bias   z'_c = scale_c z_c + bias_c; lists of one number, or one for each class
    data, split, labels, images, pixels, seed: the data used for fitting
    nll, ece      on these pixels, before and after; nats, per cent
"""

import json
from dataclasses import asdict, fields
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Never

import softiou
from softiou._files import write_atomically
from softiou._reading import read_json
from softiou._validation import validated
from softiou.calibration.fitting import Calibration
from softiou.checkpoints import TrainedModel, file_sha256
from softiou.errors import CheckpointError
from softiou.temperature import LogitScaling

SCHEMA_VERSION = 1


def calibration_path(trained: TrainedModel) -> Path:
    """Return the path of the calibration of a checkpoint; the file may not exist.

    Example: checkpoints/best.ckpt -> checkpoints/best.calibration.json
    """
    which = "" if trained.weights == "student" else f".{trained.weights}"
    return trained.path.with_name(f"{trained.path.stem}{which}.calibration.json")


def save_calibration(calibration: Calibration, trained: TrainedModel) -> Path:
    """Write a calibration beside its checkpoint, replace an earlier one, and return the path."""
    path = calibration_path(trained)
    content = asdict(calibration)
    scaling = content.pop("scaling")
    content = {
        "schema_version": SCHEMA_VERSION,
        "softiou_version": softiou.__version__,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "checkpoint": {
            "file": trained.path.name,
            "sha256": file_sha256(trained.path),
            "weights": trained.weights,
        },
        **scaling,
        **content,
    }
    write_atomically(json.dumps(content, indent=1, allow_nan=False).encode(), path)
    return path


def load_calibration(trained: TrainedModel) -> Calibration | None:
    """Read the calibration of a checkpoint; return None if there is none.

    Raises:
        CheckpointError: The file is damaged, newer than this softiou, or from another checkpoint.
    """
    path = calibration_path(trained)
    content = _read(path)
    if content is None:
        return None
    again = f"Fit it again: softiou calibrate {trained.path} DATA{_option(trained)}."
    try:
        owner = content["checkpoint"]["sha256"], content["checkpoint"]["weights"]
        scaling = {field.name: content[field.name] for field in fields(LogitScaling)}
        calibration = validated(Calibration, {**content, "scaling": scaling})
    except (KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {error!r}. {again}") from error
    if owner != (file_sha256(trained.path), trained.weights):
        raise CheckpointError(
            f"{path} was fitted for another checkpoint: {trained.path} was trained further or "
            f"replaced. {again}"
        )
    return calibration


def load_scaling(trained: TrainedModel) -> LogitScaling | None:
    """Return the scaling of a checkpoint's logits, or None; see `load_calibration`."""
    calibration = load_calibration(trained)
    return None if calibration is None else calibration.scaling


def require_scaling(trained: TrainedModel) -> LogitScaling:
    """Return the scaling of a checkpoint's logits; raise CheckpointError if there is none."""
    scaling = load_scaling(trained)
    if scaling is None:
        raise CheckpointError(
            f"{trained.path} has no calibration for its {trained.weights}. Fit one on the "
            f"validation split: softiou calibrate {trained.path} DATA{_option(trained)}."
        )
    return scaling


def earlier_calibration(trained: TrainedModel) -> str | None:
    """Describe the calibration that a new fit would replace; None if there is none.

    Raises:
        CheckpointError: The file is newer than this softiou.
    """
    _read(calibration_path(trained))  # raises if it is newer
    try:
        calibration = load_calibration(trained)
    except CheckpointError:
        return "a damaged one, or one of another checkpoint"
    if calibration is None:
        return None
    return f"{calibration.scaling.kind} fitted on {calibration.data}, {calibration.split}"


def _option(trained: TrainedModel) -> str:
    return "" if trained.weights == "student" else f" --model {trained.weights}"


def _read(path: Path) -> dict[str, Any] | None:
    """Return the unvalidated content of a file; empty if it cannot be read."""
    try:
        content = read_json(path, _reject_constant)
    except FileNotFoundError:
        return None
    except ValueError:
        return {}
    if not isinstance(content, dict):
        return {}
    version = content.get("schema_version")
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise CheckpointError(
            f"{path} has the format {version}, newer than the supported one ({SCHEMA_VERSION}). "
            "Update softiou, or remove the file and fit again."
        )
    return content


def _reject_constant(name: str) -> Never:
    """Raise ValueError for NaN and infinite numbers."""
    raise ValueError(f"expected finite numbers, but got {name}")
