"""Read a run directory into frozen data classes: all that the report says, and no HTML yet.

Sizes: H, W image height and width; B reliability bins.
"""

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from softiou.errors import DataError
from softiou.reports.comparison import Comparison, read_comparison

SCHEMA_VERSION = 1
LONG_SIDE_PX = 640
INDEX_MODES = ("1", "L", "P", "I", "I;16")

Colour = tuple[int, int, int]


@dataclass(frozen=True)
class Series:
    """One recorded quantity over the steps of training, in the order of the steps."""

    name: str  # as in metrics.jsonl: "train/loss", "val/miou_d"
    steps: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class History:
    """What metrics.jsonl tells of the training."""

    series: tuple[Series, ...]
    last_step: int
    seconds: float | None


@dataclass(frozen=True)
class ClassScore:
    """One class; scores in per cent, None where the class does not occur."""

    name: str
    colour: Colour
    iou: float | None
    iou_c: float | None
    dice: float | None
    target_pixels: int
    images: int


@dataclass(frozen=True)
class Reliability:
    """Pixels in B bins of confidence; confidence and accuracy in [0, 1], None in an empty bin."""

    edges: tuple[float, ...]
    count: tuple[int, ...]
    confidence: tuple[float | None, ...]
    accuracy: tuple[float | None, ...]


@dataclass(frozen=True)
class ImageScore:
    """One image; scores in per cent."""

    stem: str
    miou: float | None
    accuracy: float | None


@dataclass(frozen=True, eq=False)
class Example:
    """An image to show, at most 640 px long; what has no file is None."""

    score: ImageScore
    image: NDArray[np.uint8] | None  # (H, W, 3)
    target: NDArray[np.int64] | None  # (H, W); an index that is no class is an ignored pixel
    preds: NDArray[np.int64] | None  # (H, W)


@dataclass(frozen=True)
class Evaluation:
    """What evaluation.json tells; `metrics` in per cent, None where undefined."""

    softiou_version: str
    created: str
    data: str
    split: str
    checkpoint: str
    num_images: int
    metrics: Mapping[str, float | None]
    classes: tuple[ClassScore, ...]
    reliability: Reliability
    images: tuple[ImageScore, ...]
    best: tuple[Example, ...]
    worst: tuple[Example, ...]


@dataclass(frozen=True)
class ReportData:
    """Everything on the page. Without `evaluation` the run is still training or was interrupted."""

    run: str
    config: str
    history: History
    evaluation: Evaluation | None
    comparison: Comparison | None = None


def collect(run_dir: Path) -> ReportData:
    """Read a run directory: the configuration, the curves, the evaluation and its examples.

    What a young run does not have yet is left empty.

    Args:
        run_dir: Directory with `config.yaml`, `metrics.jsonl`, `evaluation.json` and `examples/`;
            one of the three files is enough.

    Returns:
        The data of the report; example images are downscaled to 640 px.

    Raises:
        DataError: No run lies there, or one of its files cannot be read.
    """
    config, metrics, evaluation = (
        run_dir / name for name in ("config.yaml", "metrics.jsonl", "evaluation.json")
    )
    if not any(path.is_file() for path in (config, metrics, evaluation)):
        raise DataError(
            "Expected `run` to be a run directory (config.yaml, metrics.jsonl or evaluation.json "
            f"in it), but found none of these in {run_dir}. Pass the directory that "
            "`softiou train` has written."
        )
    return ReportData(
        run=run_dir.resolve().name,
        config=_read_text(config),
        history=_history(_read_text(metrics)),
        evaluation=_read_evaluation(evaluation) if evaluation.is_file() else None,
        comparison=read_comparison(run_dir),
    )


def _read_text(path: Path) -> str:
    """Text of a file, "" without one; a kill in mid-character must not hide the rest."""
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _history(text: str) -> History:
    """Curves from the lines of metrics.jsonl."""
    points: dict[str, dict[int, float]] = {}
    last_step, seconds = 0, None
    for record in _records(text):
        step = record["step"]
        last_step = max(last_step, step)
        seconds = _number(record.get("seconds", seconds))
        for name, value in record.items():
            number = _number(value)
            if name not in ("step", "seconds") and number is not None:
                # A resumed run repeats the steps since its checkpoint: the later line holds.
                points.setdefault(name, {})[step] = number
    series = (
        Series(name, *_columns(sorted(values.items()))) for name, values in sorted(points.items())
    )
    return History(series=tuple(series), last_step=last_step, seconds=seconds)


def _records(text: str) -> list[dict[str, Any]]:
    """Whole lines only: a kill cuts one short, and a resumed run goes on after it."""
    records = []
    for line in text.split("\n"):
        try:
            record = json.loads(line)
        except json.JSONDecodeError:
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            records.append(record)
    return records


def _columns(pairs: Sequence[tuple[int, float]]) -> tuple[tuple[int, ...], tuple[float, ...]]:
    return tuple(step for step, _ in pairs), tuple(value for _, value in pairs)


def _number(value: object) -> float | None:
    """A finite number, or None: null and NaN both mean "undefined"."""
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    return None


def _read_evaluation(path: Path) -> Evaluation:
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        version = fields["schema_version"]
        if version != SCHEMA_VERSION:
            raise DataError(
                f"Expected `schema_version` {SCHEMA_VERSION} in {path}, but got {version!r}. "
                "Evaluate the run again with this version of softiou."
            )
        return _evaluation(fields, path.parent / "examples")
    except DataError:
        raise
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"Expected {path} to be a complete evaluation, but got {error!r} on reading it. "
            "Evaluate the run again with `softiou evaluate`."
        ) from error


def _evaluation(fields: Mapping[str, Any], folder: Path) -> Evaluation:
    scores = {score.stem: score for score in map(_image_score, fields["images"])}

    def examples(stems: Sequence[str]) -> tuple[Example, ...]:
        return tuple(
            _read_example(folder, scores.get(stem, ImageScore(stem, None, None))) for stem in stems
        )

    return Evaluation(
        softiou_version=str(fields["softiou_version"]),
        created=str(fields["created"]),
        data=str(fields["data"]),
        split=str(fields["split"]),
        checkpoint=str(fields["checkpoint"]),
        num_images=int(fields["num_images"]),
        metrics={name: _number(value) for name, value in fields["metrics"].items()},
        classes=tuple(
            _class_score(score, colour)
            for score, colour in zip(fields["per_class"], fields["palette"], strict=True)
        ),
        reliability=_reliability(fields["reliability"]),
        images=tuple(scores.values()),
        best=examples(fields["examples"]["best"]),
        worst=examples(fields["examples"]["worst"]),
    )


def _image_score(fields: Mapping[str, Any]) -> ImageScore:
    return ImageScore(
        stem=str(fields["stem"]),
        miou=_number(fields["miou"]),
        accuracy=_number(fields["accuracy"]),
    )


def _class_score(fields: Mapping[str, Any], colour: Sequence[int]) -> ClassScore:
    red, green, blue = colour
    return ClassScore(
        name=str(fields["name"]),
        colour=(int(red), int(green), int(blue)),
        iou=_number(fields["iou"]),
        iou_c=_number(fields["iou_c"]),
        dice=_number(fields["dice"]),
        target_pixels=int(fields["target_pixels"]),
        images=int(fields["images"]),
    )


def _reliability(fields: Mapping[str, Any]) -> Reliability:
    return Reliability(
        edges=tuple(float(edge) for edge in fields["edges"]),
        count=tuple(int(count) for count in fields["count"]),
        confidence=tuple(_number(value) for value in fields["confidence"]),
        accuracy=tuple(_number(value) for value in fields["accuracy"]),
    )


def _read_example(folder: Path, score: ImageScore) -> Example:
    image, target, preds = (
        _open_image(folder / f"{score.stem}.{suffix}")
        for suffix in ("image.jpg", "target.png", "preds.png")
    )
    size = next((_display_size(one.size) for one in (image, target, preds) if one), (0, 0))
    return Example(
        score=score,
        image=None if image is None else np.asarray(image.convert("RGB").resize(size)),
        target=_index_map(target, size),
        preds=_index_map(preds, size),
    )


def _open_image(path: Path) -> Image.Image | None:
    if not path.is_file():
        return None
    try:
        with Image.open(path) as image:
            image.load()
            return image
    except (OSError, SyntaxError) as error:  # Pillow reports a broken PNG as SyntaxError
        raise DataError(
            f"Expected {path} to be an image, but got {error} on opening it. "
            "Evaluate the run again with `softiou evaluate`."
        ) from error


def _index_map(image: Image.Image | None, size: tuple[int, int]) -> NDArray[np.int64] | None:
    """Class indices; resized without mixing neighbours, for the mean of two classes is none."""
    if image is None:
        return None
    if image.mode not in INDEX_MODES:
        raise DataError(
            f"Expected the masks of the examples to hold class indices (Pillow modes "
            f"{', '.join(INDEX_MODES)}), but got mode {image.mode}. "
            "Evaluate the run again with `softiou evaluate`."
        )
    return np.asarray(image.resize(size, Image.Resampling.NEAREST)).astype(np.int64)


def _display_size(size: tuple[int, int]) -> tuple[int, int]:
    """Width and height with the long side at most 640 px, never enlarged."""
    scale = min(1.0, LONG_SIDE_PX / max(size))
    width, height = size
    return max(1, round(width * scale)), max(1, round(height * scale))
