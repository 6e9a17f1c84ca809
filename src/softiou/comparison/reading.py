"""Evaluated runs as they lie on disk: evaluation.json, and what lies beside it."""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from softiou.comparison.image_sums import read_sums
from softiou.comparison.results import WHOLE_IMAGE
from softiou.data import absolute_source
from softiou.errors import DataError
from softiou.resampling import ImageStatistics

SCHEMA_VERSION = 2

# Settings that say nothing of what is learnt; `data.source` is compared by its place.
_NO_MATTER = ("seed", "data.workers", "distillation.baseline")


@dataclass(frozen=True)
class ImageTruth:
    """What an image was scored against: the hash of its target, its size, the pixels that count."""

    truth: str
    size: tuple[int, ...]
    pixels: int


@dataclass(frozen=True, eq=False)
class EvaluatedRun:
    """One evaluation.json of schema version 2, and what lies beside it.

    Attributes:
        name: As it was given.
        path: The file.
        data: Name of the data set.
        split: Of it.
        labels: The kind of truth.
        checkpoint: Name of the file.
        inference: How the model was run, in words that differ where that does.
        classes: Their names.
        ignore_index: Label of the pixels that do not count, None where the file does not say.
        images: By stem, in its order.
        statistics: Of the images, in the order of their stems.
        metrics: As the file has them, per cent.
        settings: Of the run, by dotted key, as far as they matter; None without a config.yaml.
        seed: Of the run; None where nobody knows.
    """

    name: str
    path: Path
    data: str
    split: str
    labels: str
    checkpoint: str
    inference: str
    classes: tuple[str, ...]
    ignore_index: int | None
    images: Mapping[str, ImageTruth]
    statistics: ImageStatistics
    metrics: Mapping[str, float | None]
    settings: Mapping[str, Any] | None
    seed: int | None


def read_run(path: Path) -> EvaluatedRun:
    """Read the evaluation of a run.

    Args:
        path: Run directory or evaluation.json.

    Raises:
        DataError: There is none, it is damaged, or of another schema version.
    """
    file = path / "evaluation.json" if path.is_dir() else path
    try:
        content = json.loads(file.read_text(encoding="utf-8"))
        _check_version(content["schema_version"], file)
        return _evaluated(content, name=str(path), file=file)
    except FileNotFoundError as error:
        found = "holds no evaluation.json" if path.is_dir() else "does not exist"
        raise DataError(
            f"{path} {found}: expected a run directory that was evaluated, or its evaluation.json. "
            "`softiou evaluate RUN DATA` writes one."
        ) from error
    except DataError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError, IndexError, RuntimeError) as error:
        raise DataError(
            f"Expected {file} to be a complete evaluation, but got {type(error).__name__}: {error} "
            "on reading it. Write it again with `softiou evaluate RUN DATA`."
        ) from error


def _check_version(version: object, file: Path) -> None:
    if version == SCHEMA_VERSION:
        return
    if isinstance(version, int) and version > SCHEMA_VERSION:
        raise DataError(
            f"{file} has the schema version {version}, newer than this softiou knows "
            f"({SCHEMA_VERSION}). Update softiou."
        )
    raise DataError(
        f"{file} has the schema version {version!r}, which does not keep what is needed of every "
        "image. Write it again with `softiou evaluate RUN DATA`."
    )


def _evaluated(content: Mapping[str, Any], *, name: str, file: Path) -> EvaluatedRun:
    classes = tuple(str(one) for one in content["classes"])
    images = sorted(content["images"], key=lambda image: str(image["stem"]))
    if not images:
        raise DataError(f"{file} holds no images, so there is nothing to compare.")
    settings, seed = _read_settings(file.with_name("config.yaml"))
    return EvaluatedRun(
        name=name,
        path=file,
        data=str(content["data"]),
        split=str(content["split"]),
        labels=str(content["labels"]),
        checkpoint=str(content["checkpoint"]),
        inference=_inference(content.get("inference") or {}),
        classes=classes,
        ignore_index=content.get("ignore_index"),
        images={str(image["stem"]): _truth(image) for image in images},
        statistics=read_sums(file, content),
        metrics={str(key): _number(value) for key, value in content["metrics"].items()},
        settings=settings,
        seed=seed,
    )


def _inference(settings: Mapping[str, Any]) -> str:
    """Tell how a model was run; the size of a batch makes no difference, nor order of scales."""
    words = []
    if settings.get("window_px"):
        height, width = settings["window_px"]
        words.append(f"windows of {height} x {width} pixels")
        words.append(f"overlap {settings.get('overlap', 0.5):g}")
    if settings.get("flips"):
        words.append("flips")
    if (scales := sorted(settings.get("scales", [1]))) != [1]:
        words.append(f"scales {', '.join(f'{scale:.12g}' for scale in scales)}")
    return ", ".join(words) or WHOLE_IMAGE


def _truth(image: Mapping[str, Any]) -> ImageTruth:
    size: Sequence[int] = image["size"]
    return ImageTruth(str(image["truth"]), tuple(int(px) for px in size), int(image["pixels"]))


def _number(value: Any) -> float | None:
    return float(value) if value is not None and math.isfinite(value) else None


def _read_settings(file: Path) -> tuple[dict[str, Any] | None, int | None]:
    """Return the settings that matter, and the seed; nothing where no configuration lies."""
    try:
        content = yaml.safe_load(file.read_text(encoding="utf-8"))
    except FileNotFoundError:
        return None, None
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise DataError(f"{file} is no valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{file} holds no settings. Move it away to compare without them.")
    values: dict[str, Any] = {}
    for section, knobs in content.items():
        if isinstance(knobs, dict):
            values |= {f"{section}.{key}": value for key, value in knobs.items()}
        else:
            values[str(section)] = knobs
    seed = values.get("seed")
    for key in _NO_MATTER:
        values.pop(key, None)
    source = values.get("data.source")
    if isinstance(source, str):
        values["data.source"] = absolute_source(source)
    return values, seed if isinstance(seed, int) else None
