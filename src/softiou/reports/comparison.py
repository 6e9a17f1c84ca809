"""comparison.json: models scored on the same images, a row each, as the report shows them."""

import json
import math
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from softiou._files import write_atomically
from softiou.errors import DataError

FILE_NAME = "comparison.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class ComparisonRow:
    """One model.

    Attributes:
        name: What it is, such as "teacher".
        checkpoint: Where it lies.
        metrics: As in evaluation.json, per cent, None where undefined.
        steps: Optimiser steps that it was trained for; None when nobody knows.
        seconds: Of training; None when nobody knows.
    """

    name: str
    checkpoint: str
    metrics: Mapping[str, float | None]
    steps: int | None = None
    seconds: float | None = None


@dataclass(frozen=True)
class Comparison:
    """Models on one split of one data set; `notes` are sentences that qualify the rows."""

    data: str
    split: str
    rows: tuple[ComparisonRow, ...]
    notes: tuple[str, ...] = ()


def save_comparison(comparison: Comparison, run: Path) -> None:
    """Write comparison.json into a run directory, whole or not at all."""
    content = {"schema_version": SCHEMA_VERSION} | asdict(comparison)
    text = json.dumps(content, indent=1, allow_nan=False)
    write_atomically(text.encode(), run / FILE_NAME)


def read_comparison(run: Path) -> Comparison | None:
    """Read comparison.json of a run directory, None when there is none.

    Raises:
        DataError: The file cannot be read.
    """
    path = run / FILE_NAME
    if not path.is_file():
        return None
    try:
        fields = json.loads(path.read_text(encoding="utf-8"))
        if fields["schema_version"] != SCHEMA_VERSION:
            raise ValueError(f"schema_version {fields['schema_version']!r}")
        return Comparison(
            data=str(fields["data"]),
            split=str(fields["split"]),
            rows=tuple(_row(row) for row in fields["rows"]),
            notes=tuple(str(note) for note in fields["notes"]),
        )
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"Expected {path} to be a comparison of schema version {SCHEMA_VERSION}, but got "
            f"{error!r} on reading it. Write it again with `softiou distill --resume`."
        ) from error


def _row(fields: Mapping[str, Any]) -> ComparisonRow:
    metrics = {
        str(name): float(value) if value is not None and math.isfinite(value) else None
        for name, value in fields["metrics"].items()
    }
    return ComparisonRow(
        str(fields["name"]), str(fields["checkpoint"]), metrics, fields["steps"], fields["seconds"]
    )
