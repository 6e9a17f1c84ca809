"""Read a run directory into frozen data classes: all that the report says, and no HTML yet.

Sizes: H, W image height and width; B reliability bins.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from softiou.errors import DataError
from softiou.reports.comparison import Comparison, read_comparison
from softiou.reports.history import History, number_or_none, read_history
from softiou.reports.image_files import (
    Colour,
    class_indices,
    display_size,
    open_image,
    open_index_map,
    pixels,
)
from softiou.reports.pseudo_labels import PseudoLabels, read_pseudo_labels

SCHEMA_VERSION = 1


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
    pseudo_labels: PseudoLabels | None = None


def collect(run_dir: Path) -> ReportData:
    """Read a run directory: configuration, curves, evaluation and examples, pseudo-labels.

    What a young run does not have yet is left empty.

    Args:
        run_dir: Directory with `config.yaml`, `metrics.jsonl`, `evaluation.json`, `examples/` and
            `pseudo_labels/`; one of the three files is enough.

    Returns:
        The data of the report; pictures are downscaled to 640 px.

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
    history = read_history(_read_text(metrics))
    evaluated = _read_evaluation(evaluation) if evaluation.is_file() else None
    return ReportData(
        run=run_dir.resolve().name,
        config=_read_text(config),
        history=history,
        evaluation=evaluated,
        comparison=read_comparison(run_dir),
        pseudo_labels=read_pseudo_labels(
            run_dir,
            history,
            colours={score.name: score.colour for score in evaluated.classes} if evaluated else {},
        ),
    )


def _read_text(path: Path) -> str:
    """Text of a file, "" without one; a kill in mid-character must not hide the rest."""
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


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
        metrics={name: number_or_none(value) for name, value in fields["metrics"].items()},
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
        miou=number_or_none(fields["miou"]),
        accuracy=number_or_none(fields["accuracy"]),
    )


def _class_score(fields: Mapping[str, Any], colour: Sequence[int]) -> ClassScore:
    red, green, blue = colour
    return ClassScore(
        name=str(fields["name"]),
        colour=(int(red), int(green), int(blue)),
        iou=number_or_none(fields["iou"]),
        iou_c=number_or_none(fields["iou_c"]),
        dice=number_or_none(fields["dice"]),
        target_pixels=int(fields["target_pixels"]),
        images=int(fields["images"]),
    )


def _reliability(fields: Mapping[str, Any]) -> Reliability:
    return Reliability(
        edges=tuple(float(edge) for edge in fields["edges"]),
        count=tuple(int(count) for count in fields["count"]),
        confidence=tuple(number_or_none(value) for value in fields["confidence"]),
        accuracy=tuple(number_or_none(value) for value in fields["accuracy"]),
    )


def _read_example(folder: Path, score: ImageScore) -> Example:
    image = open_image(folder / f"{score.stem}.image.jpg")
    target, preds = (
        open_index_map(folder / f"{score.stem}.{suffix}") for suffix in ("target.png", "preds.png")
    )
    size = display_size((image, target, preds))
    return Example(
        score=score,
        image=pixels(image, size),
        target=class_indices(target, size),
        preds=class_indices(preds, size),
    )
