"""evaluation.json in frozen data classes: schema version 2, and version 1 as far as it goes.

Sizes: C classes, B reliability bins.
"""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeAlias

from softiou.errors import DataError
from softiou.reports.history import number_or_none
from softiou.reports.image_files import Colour

SCHEMA_VERSIONS = (1, 2)

Interval: TypeAlias = tuple[float, float]  # low, high
Counts: TypeAlias = tuple[int, int, int]  # true positives, predicted, present: pixels


@dataclass(frozen=True)
class ClassScore:
    """One class; scores in per cent, None where the class does not occur or nobody measured."""

    name: str
    colour: Colour
    iou: float | None
    iou_c: float | None
    dice: float | None
    target_pixels: int
    images: int
    interval: Interval | None = None
    accuracy: float | None = None
    boundary_iou: float | None = None
    cece: float | None = None
    soft_iou: float | None = None
    soft_dice: float | None = None


@dataclass(frozen=True)
class Reliability:
    """Pixels in B bins of confidence; confidence and accuracy in [0, 1], None in an empty bin."""

    edges: tuple[float, ...]
    count: tuple[int, ...]
    confidence: tuple[float | None, ...]
    accuracy: tuple[float | None, ...]


@dataclass(frozen=True)
class ImageScore:
    """One image; scores in per cent; `counts` of the classes in its target or prediction."""

    stem: str
    miou: float | None = None
    accuracy: float | None = None
    boundary_iou: float | None = None
    ece: float | None = None
    confidence: float | None = None
    counts: Mapping[int, Counts] | None = None


@dataclass(frozen=True)
class Calibrated:
    """The same model after its temperature; `metrics` as in the evaluation."""

    kind: str
    path: str
    metrics: Mapping[str, float | None]
    reliability: Reliability
    data: str = ""  # that it was fitted on, with its split
    split: str = ""


@dataclass(frozen=True)
class Evaluation:
    """What evaluation.json tells; `metrics` in per cent (NLL in nats), None where undefined."""

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
    best: tuple[str, ...]
    worst: tuple[str, ...]
    intervals: Mapping[str, Interval]
    level: float  # of the intervals, per cent
    confusion: tuple[tuple[int, ...], ...] | None  # rows are the target, C x C pixels
    calibrated: Calibrated | None
    inference: str = ""  # words for what is not the usual way to run a model


def read_evaluation(path: Path) -> Evaluation:
    """Read evaluation.json.

    Args:
        path: The file.

    Returns:
        Its content; what version 1 does not know is empty or None.

    Raises:
        DataError: The file cannot be read, is incomplete or of an unknown version.
    """
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        version = fields["schema_version"]
        if version not in SCHEMA_VERSIONS:
            raise DataError(
                f"Expected `schema_version` {' or '.join(map(str, SCHEMA_VERSIONS))} in {path}, "
                f"but got {version!r}. Evaluate the run again with this version of softiou."
            )
        return _evaluation(fields)
    except DataError:
        raise
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"Expected {path} to be a complete evaluation, but got {error!r} on reading it. "
            "Evaluate the run again with `softiou evaluate`."
        ) from error


def _evaluation(fields: Mapping[str, Any]) -> Evaluation:
    confusion, calibrated = fields.get("confusion"), fields.get("calibrated")
    return Evaluation(
        **{name: str(fields[name]) for name in ("softiou_version", "created", "data")},
        split=str(fields["split"]),
        checkpoint=str(fields["checkpoint"]),
        num_images=int(fields["num_images"]),
        metrics=_metrics(fields["metrics"]),
        classes=tuple(
            _class_score(score, colour)
            for score, colour in zip(fields["per_class"], fields["palette"], strict=True)
        ),
        reliability=_reliability(fields["reliability"]),
        # A stem that came twice counts once.
        images=tuple({one.stem: one for one in map(_image_score, fields["images"])}.values()),
        best=tuple(map(str, fields["examples"]["best"])),
        worst=tuple(map(str, fields["examples"]["worst"])),
        intervals={
            str(name): interval
            for name, value in (fields.get("intervals") or {}).items()
            if (interval := _interval(value)) is not None
        },
        level=float((fields.get("bootstrap") or {}).get("level", 95)),
        confusion=tuple(tuple(map(int, row)) for row in confusion) if confusion else None,
        calibrated=_calibrated(calibrated) if calibrated else None,
        inference=_inference(fields.get("inference") or {}),
    )


def _metrics(fields: Mapping[str, Any]) -> dict[str, float | None]:
    return {str(name): number_or_none(value) for name, value in fields.items()}


def _interval(value: Sequence[Any] | None) -> Interval | None:
    low, high = map(number_or_none, value) if value else (None, None)
    return None if low is None or high is None else (low, high)


def _class_score(fields: Mapping[str, Any], colour: Sequence[int]) -> ClassScore:
    red, green, blue = colour
    optional = ("accuracy", "boundary_iou", "cece", "soft_iou", "soft_dice")
    return ClassScore(
        name=str(fields["name"]),
        colour=(int(red), int(green), int(blue)),
        iou=number_or_none(fields["iou"]),
        iou_c=number_or_none(fields["iou_c"]),
        dice=number_or_none(fields["dice"]),
        target_pixels=int(fields["target_pixels"]),
        images=int(fields["images"]),
        interval=_interval(fields.get("interval")),
        **{name: number_or_none(fields.get(name)) for name in optional},
    )


def _image_score(fields: Mapping[str, Any]) -> ImageScore:
    counts = fields.get("counts")
    return ImageScore(
        stem=str(fields["stem"]),
        miou=number_or_none(fields["miou"]),
        accuracy=number_or_none(fields["accuracy"]),
        boundary_iou=number_or_none(fields.get("boundary_iou")),
        ece=number_or_none(fields.get("ece")),
        confidence=number_or_none(fields.get("confidence")),
        counts=None if counts is None else {int(key): _counts(one) for key, one in counts.items()},
    )


def _counts(values: Sequence[int]) -> Counts:
    true_positives, predicted, present = map(int, values)
    return true_positives, predicted, present


def _reliability(fields: Mapping[str, Any]) -> Reliability:
    return Reliability(
        edges=tuple(float(edge) for edge in fields["edges"]),
        count=tuple(int(count) for count in fields["count"]),
        confidence=tuple(number_or_none(value) for value in fields["confidence"]),
        accuracy=tuple(number_or_none(value) for value in fields["accuracy"]),
    )


def _calibrated(fields: Mapping[str, Any]) -> Calibrated:
    return Calibrated(
        kind=str(fields["kind"]),
        path=str(fields["path"]),
        data=str(fields.get("data", "")),
        split=str(fields.get("split", "")),
        metrics=_metrics(fields["metrics"]),
        reliability=_reliability(fields["reliability"]),
    )


def _inference(fields: Mapping[str, Any]) -> str:
    words = []
    if fields.get("window_px"):
        height, width = fields["window_px"]
        words.append(f"windows of {height} x {width} pixels")
    if fields.get("flips"):
        words.append("flips")
    if (scales := fields.get("scales", [1])) != [1]:
        words.append(f"scales {', '.join(f'{scale:g}' for scale in scales)}")
    return f" with {', '.join(words)}" if words else ""
