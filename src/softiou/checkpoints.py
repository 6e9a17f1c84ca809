"""Read checkpoints, and build the model of one.

Checkpoints are Lightning's files with an additional entry, `softiou`: the model's spec, the classes
and the configuration, as plain values. Reading them never unpickles objects.
"""

import hashlib
import math
import pickle
import zipfile
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal

import torch
from torch import nn

from softiou._reading import parse_json
from softiou.configuration.sections import OptimConfig
from softiou.data import Bands, DatasetDescription
from softiou.data.base import class_difference
from softiou.errors import CheckpointError, SoftiouError
from softiou.metrics.registry import higher_is_better
from softiou.models import CustomModel, ModelSpec, SegmentationModel, model_of_file
from softiou.models.spec import CUSTOM

SCHEMA_VERSION = 1
_OTHER = "Use another checkpoint of the run, such as best.ckpt or last.ckpt."
_MOST_LEVELS, _MOST_VALUES = 50, 1_000_000  # limits for the entry

Weights = Literal["student", "teacher"]
_PREFIXES: dict[Weights, str] = {"student": "model.", "teacher": "teacher.module."}


@dataclass(frozen=True)
class TrainedModel:
    """A trained model in eval mode, with its classes."""

    model: SegmentationModel  # the network, with averaged weights if the run has them
    description: DatasetDescription  # names and colours of the classes
    config: dict[str, Any]  # the configuration of the run, as plain values
    path: Path  # path of the checkpoint
    step: int  # number of optimiser steps
    weights: Weights = "student"  # which model of the checkpoint

    @property
    def bands(self) -> Bands | None:
        """Return the input bands; None for RGB."""
        return self.model.spec.bands

    @property
    def name(self) -> str:
        """Return the file name, with the weights unless they are the student's."""
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
    """Return the best (or last) checkpoint of a run directory, or the given file.

    Raises:
        CheckpointError: There is no checkpoint.
    """
    if path.is_file():
        return path
    for name in ("best.ckpt", "last.ckpt"):
        if (found := path / "checkpoints" / name).is_file():
            return found
    found_what = "has no checkpoints" if path.is_dir() else "does not exist"
    raise CheckpointError(f"{path} {found_what}: expected a run directory or a checkpoint file.")


def file_sha256(path: Path) -> str:
    """Return the SHA-256 of a file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def run_directory(checkpoint: Path) -> Path | None:
    """Return the run directory RUN of RUN/checkpoints/FILE or RUN/FILE, or None."""
    folders = *checkpoint.parents[:2], *checkpoint.resolve().parents[:2]  # the given path first
    return next((folder for folder in folders if (folder / "config.yaml").is_file()), None)


def end_of_training(run: Path, optim: OptimConfig) -> int | None:
    """Return the last step of a finished run, or None if the run is not finished."""
    metrics, sign = run / "metrics.jsonl", 1 if higher_is_better(optim.monitor) else -1
    step, waited, best = 0, 0, -math.inf
    for text in metrics.read_bytes().splitlines() if metrics.is_file() else ():
        with suppress(ValueError):  # an incomplete last line after a kill
            line = parse_json(text)
            if optim.monitor in line:
                score = -math.inf if line[optim.monitor] is None else sign * line[optim.monitor]
                waited = 0 if score > best or best == -math.inf else waited + 1
                step, best = line["step"], max(best, score)
    return step if step == optim.steps or 0 < (optim.patience or 0) <= waited else None


def read_checkpoint(path: Path) -> dict[str, Any]:
    """Read a checkpoint file as tensors and plain values."""
    try:
        _check_archive(path)
        content = torch.load(path, map_location="cpu", weights_only=True)
    except OSError as error:
        raise CheckpointError(f"Cannot read the checkpoint {path}: {error}") from error
    except (pickle.UnpicklingError, zipfile.BadZipFile) as error:
        raise CheckpointError(
            f"{path} is damaged, or contains objects other than tensors and plain values, which "
            f"are never loaded. ({str(error).partition(chr(10))[0]})"
        ) from error
    except Exception as error:  # torch raises many types of errors on damaged files
        raise CheckpointError(f"{path} is damaged: {error!r}. {_OTHER}") from error
    if not isinstance(content, dict) or "softiou" not in content:
        raise CheckpointError(f"{path} was not written by softiou: its model is unknown.")
    with _named(path):
        _check_plain(content["softiou"])
        version = int(content["softiou"]["schema_version"])
    if version > SCHEMA_VERSION:
        raise CheckpointError(
            f"{path} has the format {version}, newer than the supported one ({SCHEMA_VERSION}). "
            "Update softiou."
        )
    return content


def _check_archive(path: Path) -> None:
    """Verify the checksums of a checkpoint file.

    torch.load neither verifies checksums nor rejects compressed (zip bomb) entries.
    """
    with zipfile.ZipFile(path) as archive:
        if sum(one.file_size for one in archive.infolist()) > path.stat().st_size:
            raise zipfile.BadZipFile("its entries are larger than the file")
        if (changed := archive.testzip()) is not None:
            raise zipfile.BadZipFile(f"wrong checksum of {changed}")


def _check_plain(values: object, *, levels: int = _MOST_LEVELS) -> int:
    """Count plain values in nested lists and dicts; raise ValueError if a limit is exceeded."""
    inner = list(values.values()) if isinstance(values, dict) else values
    count = 1
    if isinstance(inner, list | tuple):
        if levels == 0:
            raise ValueError("values are nested too deeply")
        for one in inner:
            count += _check_plain(one, levels=levels - 1)
            if count > _MOST_VALUES:
                raise ValueError("there are too many values")
    return count


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Return a context that turns errors of invalid entries into a CheckpointError."""
    try:
        yield
    except SoftiouError:
        raise
    except (AttributeError, IndexError, KeyError, TypeError, ValueError) as error:
        raise CheckpointError(f"{path} is damaged: {error!r}. {_OTHER}") from error


def load_trained(
    path: Path, *, weights: Weights = "student", model: nn.Module | None = None
) -> TrainedModel:
    """Build the model of a run directory or checkpoint file, in eval mode on the CPU.

    `weights` selects the trained model, or its moving average (the teacher of a semi-supervised
    run). For a run with a custom model, pass a module of the same class as `model`.
    """
    file = find_checkpoint(path)
    content = read_checkpoint(file)
    prefix = _PREFIXES[weights]
    with _named(file):
        info = content["softiou"]
        description = DatasetDescription.from_dict(info)
        spec = ModelSpec.from_dict(info["model"], file=file)
        if spec.num_classes != description.num_classes:
            raise ValueError(f"{spec.num_classes} classes of {description.num_classes} names")
        built, config, step = _build(spec, model, file), info["config"], int(content["global_step"])
        found = {
            name.removeprefix(prefix): tensor
            for name, tensor in content["state_dict"].items()
            if name.startswith(prefix)
        }
    if not found and weights == "teacher":
        raise CheckpointError(
            f"{file} has no teacher: only `softiou semi` stores one. Use the student."
        )
    try:
        built.load_state_dict(found)
    except (AttributeError, RuntimeError, TypeError) as error:
        raise CheckpointError(f"The weights in {file} do not match its model: {error}") from error
    return TrainedModel(built.eval(), description, config, file, step, weights)


def _build(spec: ModelSpec, module: nn.Module | None, file: Path) -> SegmentationModel:
    if not spec.is_custom:
        if module is not None:
            raise CheckpointError(
                f"{file} has a {spec.architecture} that softiou builds itself: omit `model`."
            )
        return model_of_file(spec, file)
    if module is None:
        raise CheckpointError(
            f"{file} has a custom model, {spec.architecture.removeprefix(CUSTOM)}, which cannot be "
            "built from a file. Load it from Python: load_trained(PATH, model=MODULE)."
        )
    return CustomModel(module, spec.num_classes, spec.bands)


def load_into(model: SegmentationModel, path: Path, description: DatasetDescription) -> None:
    """Load the weights of a run or checkpoint into a new model of the same network.

    Auxiliary heads are optional: they are skipped if the model has none, and keep their weights if
    the checkpoint has none.
    """
    trained = load_trained(path)
    check_classes(trained.path, trained.description, description, data="the data set")
    own, theirs = (
        {**spec.as_dict(), "bands": spec.bands and spec.channels}  # ranges of bands may differ
        for spec in (model.spec, trained.model.spec)
    )
    different = [f"{key} {theirs[key]}, not {own[key]}" for key in own if own[key] != theirs[key]]
    if different := [one for one in different if not one.startswith("auxiliary ")]:
        raise CheckpointError(
            f"Expected `model.weights` of the same network, but {trained.path} has "
            f"{' and '.join(different)}. Set these values in the section `model`."
        )
    model.load_state_dict(trained.model.state_dict(), strict=False)


def check_classes(
    path: Path, own: DatasetDescription, description: DatasetDescription, *, data: str
) -> None:
    """Raise unless a data set has the classes of a trained model."""
    if difference := class_difference(own.classes, description.classes):
        raise CheckpointError(
            f"The model in {path} has other classes than {data}: {difference}. Use the "
            "data set that it was trained on, or list the same classes in the dataset.yaml of "
            "this one."
        )
