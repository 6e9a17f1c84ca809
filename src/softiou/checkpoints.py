"""What a checkpoint holds beside the weights, and how a model comes back from one.

Checkpoints are Lightning's files with one more entry, `softiou`: the model's spec, the classes and
the configuration, all plain values. Reading them never unpickles objects.
"""

import hashlib
import pickle
import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import torch
from torch import nn

from softiou.data import DatasetDescription
from softiou.data.base import class_difference
from softiou.errors import CheckpointError
from softiou.models import CustomModel, ModelSpec, SegmentationModel
from softiou.models.spec import CUSTOM

SCHEMA_VERSION = 1

Weights = Literal["student", "teacher"]
_PREFIXES: dict[Weights, str] = {"student": "model.", "teacher": "teacher.module."}


@dataclass(frozen=True)
class TrainedModel:
    """A model in eval mode with the classes that it was trained for.

    Attributes:
        model: The network, averaged weights if the run kept them.
        description: Names and colours of the classes.
        config: The configuration of the run, as plain values.
        path: The checkpoint's file.
        step: Optimiser steps that it was trained for.
        weights: Of the checkpoint's models, which one this is.
    """

    model: SegmentationModel
    description: DatasetDescription
    config: dict[str, Any]
    path: Path
    step: int
    weights: Weights = "student"

    @property
    def name(self) -> str:
        """Return the name of the file, and of the weights where they are not the usual ones."""
        return self.path.name if self.weights == "student" else f"{self.path.name}, {self.weights}"


def entry(
    spec: ModelSpec, description: DatasetDescription, config: dict[str, Any]
) -> dict[str, Any]:
    """Return the `softiou` entry of a checkpoint."""
    return {
        "schema_version": SCHEMA_VERSION,
        "model": spec.as_dict(),
        **description.as_dict(),
        "config": config,
    }


def find_checkpoint(path: Path) -> Path:
    """Return the checkpoint file of a run directory (the best, else the last), or the file itself.

    Raises:
        CheckpointError: There is none.
    """
    if path.is_file():
        return path
    for name in ("best.ckpt", "last.ckpt"):
        if (found := path / "checkpoints" / name).is_file():
            return found
    found_what = "holds no checkpoints" if path.is_dir() else "does not exist"
    raise CheckpointError(f"{path} {found_what}: expected a run directory or a checkpoint file.")


def file_sha256(path: Path) -> str:
    """Return the hash of a file's content."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def run_directory(checkpoint: Path) -> Path | None:
    """Return the run directory that a checkpoint lies in, or None when it lies elsewhere."""
    run = checkpoint.resolve().parent.parent
    return run if (run / "config.yaml").is_file() else None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint file into tensors and plain values.

    Raises:
        CheckpointError: The file is damaged, holds objects that would have to be unpickled, or was
            not written by softiou.
    """
    try:
        with warnings.catch_warnings():
            # Foreign pickles are refused below; torch's doubts about their protocol add nothing.
            warnings.filterwarnings("ignore", "Detected pickle protocol")
            content = torch.load(path, map_location="cpu", weights_only=True)
    except pickle.UnpicklingError as error:
        raise CheckpointError(
            f"{path} is damaged, or holds objects other than tensors and plain values, which are "
            "never loaded from a file."
        ) from error
    except (OSError, RuntimeError, EOFError, ValueError) as error:
        raise CheckpointError(f"Cannot read the checkpoint {path}: {error}") from error
    if not isinstance(content, dict) or "softiou" not in content:
        raise CheckpointError(f"{path} was not written by softiou: it names no model and classes.")
    version = content["softiou"]["schema_version"]
    if version > SCHEMA_VERSION:
        raise CheckpointError(
            f"{path} has the format {version}, newer than this softiou knows ({SCHEMA_VERSION}). "
            "Update softiou."
        )
    return content


def load_trained(
    path: Path, *, weights: Weights = "student", model: nn.Module | None = None
) -> TrainedModel:
    """Build the model of a run directory or checkpoint file, in eval mode on the CPU.

    Args:
        path: Run directory or checkpoint.
        weights: Of what was trained, or of its moving average, the teacher of a semi-supervised
            run.
        model: For a run with a model of one's own: a module of that class, to load the weights
            into.

    Raises:
        CheckpointError: There is none, it cannot be read, it has no such teacher, or `model` is
            missing, of no use or another one.
    """
    file = find_checkpoint(path)
    content = read_checkpoint(file)
    info = content["softiou"]
    built = _build(ModelSpec.from_dict(info["model"], file=file), model, file)
    prefix = _PREFIXES[weights]
    found = {
        name.removeprefix(prefix): tensor
        for name, tensor in content["state_dict"].items()
        if name.startswith(prefix)
    }
    if not found and weights == "teacher":
        raise CheckpointError(
            f"{file} holds no teacher: only `softiou semi` keeps one. Use those of the student."
        )
    try:
        built.load_state_dict(found)
    except RuntimeError as error:
        raise CheckpointError(f"The weights in {file} do not fit its own model: {error}") from error
    return TrainedModel(
        built.eval(),
        DatasetDescription.from_dict(info),
        info["config"],
        file,
        content["global_step"],
        weights,
    )


def _build(spec: ModelSpec, module: nn.Module | None, file: Path) -> SegmentationModel:
    if not spec.is_custom:
        if module is not None:
            raise CheckpointError(
                f"{file} holds a {spec.architecture} that softiou builds itself: leave `model` out."
            )
        return SegmentationModel(spec)
    if module is None:
        raise CheckpointError(
            f"{file} holds a model of your own, {spec.architecture.removeprefix(CUSTOM)}, which is "
            "not built from a file. Load it from Python: load_trained(PATH, model=MODULE)."
        )
    return CustomModel(module, spec.num_classes)


class HasClasses(Protocol):
    """A trained model, or an exported file."""

    @property
    def description(self) -> DatasetDescription:
        """Names of the classes."""
        ...

    @property
    def path(self) -> Path:
        """The file."""
        ...


def check_classes(trained: HasClasses, description: DatasetDescription, *, data: str) -> None:
    """Raise unless a data set has the classes that a model was trained for.

    Raises:
        CheckpointError: Names the first class that differs.
    """
    if difference := class_difference(trained.description.classes, description.classes):
        raise CheckpointError(
            f"The model in {trained.path} has other classes than {data}: {difference}. Use the "
            "data set that it was trained for, or give this one the same list of classes in "
            "dataset.yaml."
        )
