"""What all the soft labels of a store have in common: manifest.json."""

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
    """The model that made the soft labels: its name, and the SHA-256 of the checkpoint's file."""

    name: str
    sha256: str

    def __str__(self) -> str:
        return f"{self.name} (sha256 {self.sha256[:12]})"


@dataclass(frozen=True)
class Normalisation:
    """How the teacher's images were normalised: (image in `range` - mean) / std, by channel."""

    mean: tuple[float, ...]
    std: tuple[float, ...]
    order: str = "RGB"
    range: tuple[float, float] = (0.0, 1.0)


Recorded: TypeAlias = dict[str, tuple[float, ...]]


@dataclass(frozen=True)
class Manifest:
    """What all the soft labels of a store have in common.

    Args:
        teacher: The model that made them.
        classes: Names of the classes, in the order of their indices.
        ignore_index: Label value of ignored pixels of the data set.
        normalisation: Of the teacher's images.
        quantisation: What is kept of its probabilities.
        data: Name of the data set, for information.
        prediction: Settings of the teacher's prediction, by name, other than the plain ones.
        softiou_version: Version that created the store.
        created: Time in UTC.
        schema_version: Version of the files' format.
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
        """Return a short hash of all that the values depend on, without names and dates."""
        text = json.dumps({"teacher": self.teacher.sha256, **self._settings()}, sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:_IDENTITY_DIGITS]

    def differences(self, other: "Manifest") -> list[str]:
        """Describe the differences in what the values depend on."""
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
        """Return what the values depend on, except the teacher."""
        return {
            "classes": self.classes,
            **asdict(self.normalisation),
            **asdict(self.quantisation),
            **self.prediction,
            "schema_version": self.schema_version,
        }

    def to_json(self) -> str:
        """Return the contents of manifest.json."""
        return TypeAdapter(Manifest).dump_json(self, indent=2).decode() + "\n"
