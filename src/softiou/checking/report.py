"""Report of a check."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from softiou._html import html_table
from softiou.checking.advice import Advice
from softiou.checking.summaries import SizeSummary, SplitSummary
from softiou.data.problems import Problem

SCHEMA_VERSION = 1
KEPT = 1000  # stored problems of each kind
_EXAMPLES = 3
_SEVERITIES = ("error", "warning", "note")


@dataclass
class ProblemGroup:
    """Problems of one kind with the same remedy."""

    severity: str  # "error", "warning" or "note"
    kind: str  # identifier of the kind of problem
    remedy: str  # how to correct it
    count: int = 0  # number of problems
    examples: list[Problem] = field(default_factory=list)  # the first few problems


class ProblemList:
    """Collects problems: counts all, and stores the first `KEPT` of each kind."""

    def __init__(self) -> None:
        self.kept: list[Problem] = []
        self._groups: dict[tuple[str, str, str], ProblemGroup] = {}
        self._kept: Counter[tuple[str, str]] = Counter()

    def add(self, problems: Iterable[Problem]) -> None:
        """Count problems, and store the first ones of each kind."""
        for problem in problems:
            key = (problem.severity, problem.kind, problem.remedy)
            group = self._groups.setdefault(key, ProblemGroup(*key))
            group.count += 1
            if len(group.examples) < _EXAMPLES:
                group.examples.append(problem)
            if self._kept[key[:2]] < KEPT:
                self._kept[key[:2]] += 1
                self.kept.append(problem)

    @property
    def groups(self) -> tuple[ProblemGroup, ...]:
        """Return the groups, sorted by severity, then by frequency."""
        groups = sorted(self._groups.values(), key=lambda group: -group.count)
        return tuple(sorted(groups, key=lambda group: _SEVERITIES.index(group.severity)))


@dataclass(frozen=True)
class ListSummary:
    """A list of training images with masks."""

    images: int  # number of images in the list
    # number of images left for training without masks: those of the split `train` that are neither
    # in the list nor in an evaluated split
    left_out: int


@dataclass(frozen=True)
class UnlabeledSummary:
    """A folder of images without masks."""

    images: int  # number of readable images
    sizes: tuple[SizeSummary, ...]  # the 100 most frequent, sorted


@dataclass(frozen=True)
class CheckReport:
    """All problems of a data set, and a summary of each of its splits.

    Attributes:
        source: The data set.
        problems: Errors, warnings and notes; the first 1000 of each kind.
        splits: Summary of each split with labels.
        lists: The lists splits/NAME.txt of training images, by name.
        unlabeled: Summary of unlabeled/images/ or of the given folder, or None.
        groups: All problems, counted by kind and remedy.
        value_map: The only `label_map` that is consistent with the values in all masks, if they are
            not classes; `fix_dataset` applies it.
        advice: Recommended settings for training; None without training images.
    """

    source: str
    problems: tuple[Problem, ...]
    splits: dict[str, SplitSummary]
    lists: dict[str, ListSummary] = field(default_factory=dict)
    unlabeled: UnlabeledSummary | None = None
    groups: tuple[ProblemGroup, ...] = ()
    value_map: dict[int, int] | None = None
    advice: Advice | None = None

    @property
    def errors(self) -> tuple[Problem, ...]:
        """Return the problems that prevent training."""
        return tuple(p for p in self.problems if p.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """Return the problems that may be intended."""
        return tuple(p for p in self.problems if p.severity == "warning")

    @property
    def lacks_validation(self) -> bool:
        """Return whether there is a split train, but no validation split."""
        names = {"val", "valid", "validation"}
        return "train" in self.splits and names.isdisjoint(self.splits)

    def count(self, severity: str) -> int:
        """Return the number of all problems of a severity."""
        return sum(group.count for group in self.groups if group.severity == severity)

    def _repr_html_(self) -> str:
        rows = [(g.severity, g.count, g.kind, g.remedy) for g in self.groups]
        return html_table(["severity", "number", "kind", "remedy"], rows, caption=self.source)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; they are documented in docs/how-to/check.md."""
        counts = {f"{severity}s": self.count(severity) for severity in _SEVERITIES}
        return {"schema_version": SCHEMA_VERSION, "counts": counts, **asdict(self)}
