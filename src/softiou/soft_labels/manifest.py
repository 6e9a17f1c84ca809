"""The manifest of a store of soft labels: manifest.json."""

import hashlib
import json
from dataclasses import asdict, dataclass, field
from datetime import UTC, datetime
from functools import cached_property
from typing import TypeAlias

from pydantic import TypeAdapter

from softiou import __version__
from softiou.soft_labels.codes import Quantisation

SCHEMA_VERSION = 1
_IDENTITY_DIGITS = 16


@dataclass(frozen=True)
class Teacher:
    """The teacher: name, and SHA-256 of its checkpoint file."""

    name: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.name} (sha256 {self.sha256[:12]})"


@dataclass(frozen=True)
class Normalisation:
    """Normalisation of the teacher's input per channel: (image in `range` - mean) / std."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    order: str = "RGB"
    range: tuple[float, float] = (0.0, 1.0)


Recorded: TypeAlias = dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class Manifest:
    """Teacher, classes and settings of all soft labels of a store.

    Args:
        teacher: The model that predicted the soft labels.
        classes: Names of the classes, in the order of their indices.
        ignore_index: Label value of ignored pixels of the data set.
        normalisation: Normalisation of the teacher's images.
        quantisation: Quantisation of its probabilities.
        data: Name of the data set, for information.
        prediction: Inference settings that differ from the defaults, by name.
        softiou_version: Version that created the store.
        created: Time in UTC.
        schema_version: Version of the file format.
    """

    teacher: Teacher
    classes: tuple[str, ...]
    ignore_index: int
    normalisation: Normalisation
    quantisation: Quantisation
    data: str
    prediction: Recorded = field(default_factory=dict)
    softiou_version: str = __version__
    created: str = field(default_factory=lambda: datetime.now(UTC).isoformat(timespec="seconds"))
    schema_version: int = SCHEMA_VERSION

    @property
    def num_classes(self) -> int:
        """Return C."""
        return len(self.classes)

    @cached_property
    def identity(self) -> str:
        """Return a short hash of everything that affects the values (no names and dates)."""
        text = json.dumps({"teacher": self.teacher.sha256, **self._settings()}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:_IDENTITY_DIGITS]

    def differences(self, other: "Manifest") -> list[str]:
        """Describe the differences that affect the values."""
        found = []
        if self.teacher.sha256 != other.teacher.sha256:
            found.append(
                f"the teacher is {self.teacher} in the folder, but {other.teacher} was requested"
            )
        settings, others = self._settings(), other._settings()
        return found + [
            f"{name} is {settings.get(name)} in the folder, but {others.get(name)} was requested"
            for name in {**settings, **others}
            if settings.get(name) != others.get(name)
        ]

    def _settings(self) -> dict[str, object]:
        """Return the settings that affect the values, except the teacher."""
        return {
            "classes": self.classes,
            **asdict(self.normalisation),
            **asdict(self.quantisation),
            **self.prediction,
            "schema_version": self.schema_version,
        }

    def to_json(self) -> str:
        """Return the content of manifest.json."""
        return TypeAdapter(Manifest).dump_json(self, indent=2).decode() + "\n"
