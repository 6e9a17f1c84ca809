"""Read metrics.jsonl, the quantities recorded during training."""

import math
from dataclasses import dataclass
from typing import Any

from softiou._reading import parse_json


@dataclass(frozen=True)
class Series:
    """One recorded quantity with its steps, in ascending order."""

    name: str  # as in metrics.jsonl: "train/loss", "val/miou_d"
    steps: tuple[int, ...]
    values: tuple[float, ...]


@dataclass(frozen=True)
class History:
    """The content of metrics.jsonl."""

    series: tuple[Series, ...]
    last_step: int
    seconds: float | None


def read_history(text: str) -> History:
    """Return the curves of metrics.jsonl, in the order of their first occurrence."""
    points: dict[str, dict[int, float]] = {}
    last_step, seconds = 0, None
    for record in _records(text):
        step = record["step"]
        last_step = max(last_step, step)
        seconds = number_or_none(record.get("seconds", seconds))
        for name, value in record.items():
            number = number_or_none(value)
            if name not in ("step", "seconds") and number is not None:
                # A resumed run repeats the steps after its checkpoint: use the later line.
                points.setdefault(name, {})[step] = number
    series = (
        Series(name, steps := tuple(sorted(values)), tuple(values[step] for step in steps))
        for name, values in points.items()
    )
    return History(series=tuple(series), last_step=last_step, seconds=seconds)


def number_or_none(value: object) -> float | None:
    """Return a finite number; None for null and NaN, which both mean "undefined"."""
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    return None


def _records(text: str) -> list[dict[str, Any]]:
    """Yield the complete lines; a killed process may leave an incomplete one."""
    records = []
    for line in text.split("\n"):
        try:
            record = parse_json(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            records.append(record)
    return records
