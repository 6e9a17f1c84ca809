"""Read and write comparison.json: the models of a run on the same images, one row each."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from softiou._files import write_atomically
from softiou._html import html_table
from softiou._reading import read_json
from softiou._validation import validated
from softiou.errors import DataError
from softiou.metrics.registry import MetricInfo, metrics_of

FILE_NAME = "comparison.json"
SCHEMA_VERSION = 1


@dataclass(frozen=True)
class ModelRow:
    """One model; metrics and intervals are those of evaluation.json, None if unknown."""

    name: str  # its role, such as "teacher"
    checkpoint: str  # path of its run or checkpoint
    metrics: Mapping[str, float | None]
    steps: int | None = None  # of its training
    seconds: float | None = None  # of its training
    intervals: Mapping[str, Sequence[float | None] | None] | None = None


@dataclass(frozen=True)
class ModelTable:
    """Models on one split of one data set; `notes` are remarks on the rows."""

    data: str
    split: str
    rows: tuple[ModelRow, ...]
    notes: tuple[str, ...] = ()

    @property
    def columns(self) -> list[MetricInfo]:
        """Return the metrics to show, of those that any model has."""
        return metrics_of(shown="models", among={key for row in self.rows for key in row.metrics})

    def _repr_html_(self) -> str:
        columns = self.columns
        rows = [
            (row.name, *(info.text(row.metrics.get(info.key)) for info in columns), row.steps)
            for row in self.rows
        ]
        headings = ["model", *(info.heading for info in columns), "steps"]
        return html_table(headings, rows, caption=f"{self.data}, {self.split}")


def save_model_table(table: ModelTable, run: Path) -> None:
    """Write comparison.json into a run directory, atomically."""
    content = {"schema_version": SCHEMA_VERSION} | asdict(table)
    text = json.dumps(content, indent=1, allow_nan=False)
    write_atomically(text.encode(), run / FILE_NAME)


def read_model_table(run: Path) -> ModelTable | None:
    """Read comparison.json of a run directory; return None if it is missing."""
    path = run / FILE_NAME
    if not path.is_file():
        return None
    try:
        content = read_json(path, lambda _: None)
        if (version := content["schema_version"]) != SCHEMA_VERSION:
            raise ValueError(f"schema_version {version!r}")
        return validated(ModelTable, content)
    except (ValueError, KeyError, TypeError) as error:
        raise DataError(
            f"Expected {path} to be a comparison of schema version {SCHEMA_VERSION}, but got "
            f"{error!r} on reading it. Write it again with `softiou distill --resume`."
        ) from error
