"""What a check has found, as data."""

from dataclasses import asdict, dataclass, field
from typing import Any

from softiou.checking.advice import Advice
from softiou.checking.findings import FindingGroup
from softiou.checking.tallies import SizeSummary, SplitSummary
from softiou.data.problems import Problem

SCHEMA_VERSION = 1


@dataclass(frozen=True)
class ListSummary:
    """A list of images of train/ that may be learnt from with their masks.

    Attributes:
        images: Number of images that it holds.
        left_out: Number of images that it leaves to be learnt from without masks: those of the
            split `train` that it does not hold, but for those that are evaluated on.
    """

    images: int
    left_out: int


@dataclass(frozen=True)
class UnlabeledSummary:
    """What is in a folder of images without masks.

    Attributes:
        images: Number of the images that can be read.
        sizes: The 100 most frequent ones, the most frequent first.
    """

    images: int
    sizes: tuple[SizeSummary, ...]


@dataclass(frozen=True)
class CheckReport:
    """All problems of a data set, and a summary of each of its splits.

    Attributes:
        source: The data set.
        problems: Errors, warnings and notes; the first 1000 of each kind.
        splits: What is in the splits that have labels.
        lists: By name, splits/NAME.txt: those that list images of train/ to learn from.
        unlabeled: What is in unlabeled/images/ or the folder that was named, if there is one.
        groups: All findings, counted by kind and way out.
        value_map: What the numbers in all masks can only have meant, if it is not what they say;
            `fix_dataset` applies it.
        advice: Suggestions for a training; None when there is nothing to train on.
    """

    source: str
    problems: tuple[Problem, ...]
    splits: dict[str, SplitSummary]
    lists: dict[str, ListSummary] = field(default_factory=dict)
    unlabeled: UnlabeledSummary | None = None
    groups: tuple[FindingGroup, ...] = ()
    value_map: dict[int, int] | None = None
    advice: Advice | None = None

    @property
    def errors(self) -> tuple[Problem, ...]:
        """Return the problems that stop training."""
        return tuple(p for p in self.problems if p.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """Return the problems that may be meant."""
        return tuple(p for p in self.problems if p.severity == "warning")

    def count(self, severity: str) -> int:
        """Return the number of findings of a severity, those that were not kept included."""
        return sum(group.count for group in self.groups if group.severity == severity)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON, `schema_version` first; the page on checks lists them."""
        counts = {f"{severity}s": self.count(severity) for severity in ("error", "warning", "note")}
        return {"schema_version": SCHEMA_VERSION, "counts": counts, **asdict(self)}
