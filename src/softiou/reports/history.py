"""metrics.jsonl: every quantity that was recorded, over the steps of training."""

import math
from dataclasses import dataclass
from typing import Any

from softiou._reading import parse_json


@dataclass(frozen=True)
class Series:
    """One recorded quantity over the steps of training, in the order of the steps."""

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
    """Curves from the lines of metrics.jsonl, in the order in which the file first names them."""
    points: dict[str, dict[int, float]] = {}
    last_step, seconds = 0, None
    for record in _records(text):
        step = record["step"]
        last_step = max(last_step, step)
        seconds = number_or_none(record.get("seconds", seconds))
        for name, value in record.items():
            number = number_or_none(value)
            if name not in ("step", "seconds") and number is not None:
                # A resumed run repeats the steps since its checkpoint: the later line is used.
                points.setdefault(name, {})[step] = number
    series = (
        Series(name, steps := tuple(sorted(values)), tuple(values[step] for step in steps))
        for name, values in points.items()
    )
    return History(series=tuple(series), last_step=last_step, seconds=seconds)


def number_or_none(value: object) -> float | None:
    """A finite number, or None: null and NaN both mean "undefined"."""
    if isinstance(value, int | float) and math.isfinite(value):
        return float(value)
    return None


def _records(text: str) -> list[dict[str, Any]]:
    """Whole lines only: a kill cuts one short, and a resumed run continues after it."""
    records = []
    for line in text.split("\n"):
        try:
            record = parse_json(line)
        except ValueError:
            continue
        if isinstance(record, dict) and isinstance(record.get("step"), int):
            records.append(record)
    return records
