"""What a check has found, as data."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from typing import Any

from softiou._html import html_table
from softiou.checking.advice import Advice
from softiou.checking.summaries import SizeSummary, SplitSummary
from softiou.data.problems import Problem

SCHEMA_VERSION = 1
KEPT = 1000  # problems of each kind
_EXAMPLES = 3
_SEVERITIES = ("error", "warning", "note")


@dataclass
class ProblemGroup:
    """Problems of one kind that have the same remedy."""

    severity: str  # "error", "warning" or "note"
    kind: str  # what sort of problem it is
    remedy: str  # what to do about it
    count: int = 0  # how many there are
    examples: list[Problem] = field(default_factory=list)  # the first few of them


class ProblemList:
    """Collects problems: all of them are counted, the first `KEPT` of each kind are kept."""

    def __init__(self) -> None:
        self.kept: list[Problem] = []
        self._groups: dict[tuple[str, str, str], ProblemGroup] = {}
        self._kept: Counter[tuple[str, str]] = Counter()

    def add(self, problems: Iterable[Problem]) -> None:
        """Count problems, and keep those that are among the first of their kind."""
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
        """Return the groups: errors first, the most frequent of each severity first."""
        groups = sorted(self._groups.values(), key=lambda group: -group.count)
        return tuple(sorted(groups, key=lambda group: _SEVERITIES.index(group.severity)))


@dataclass(frozen=True)
class ListSummary:
    """A list of images of train/ to train on with their masks."""

    images: int  # number of images that it holds
    # number of images that it leaves for training without masks: those of the split `train` that it
    # does not hold, except those that are evaluated on
    left_out: int


@dataclass(frozen=True)
class UnlabeledSummary:
    """What is in a folder of images without masks."""

    images: int  # number of the images that can be read
    sizes: tuple[SizeSummary, ...]  # the 100 most frequent ones, the most frequent first


@dataclass(frozen=True)
class CheckReport:
    """All problems of a data set, and a summary of each of its splits.

    Attributes:
        source: The data set.
        problems: Errors, warnings and notes; the first 1000 of each kind.
        splits: What is in the splits that have labels.
        lists: By name, splits/NAME.txt: those that list images of train/ to train on.
        unlabeled: What is in unlabeled/images/ or the folder that was named, if there is one.
        groups: All problems, counted by kind and remedy.
        value_map: The only `label_map` that the numbers in all masks allow, where they are no
            classes; `fix_dataset` applies it.
        advice: Suggestions for a training; None when there is nothing to train on.
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
        """Return the problems that stop training."""
        return tuple(p for p in self.problems if p.severity == "error")

    @property
    def warnings(self) -> tuple[Problem, ...]:
        """Return the problems that may be intended."""
        return tuple(p for p in self.problems if p.severity == "warning")

    @property
    def lacks_validation(self) -> bool:
        """Return whether there are images to train on, but no split to choose the model on."""
        names = {"val", "valid", "validation"}
        return "train" in self.splits and names.isdisjoint(self.splits)

    def count(self, severity: str) -> int:
        """Return the number of problems of a severity, those that were not kept included."""
        return sum(group.count for group in self.groups if group.severity == severity)

    def _repr_html_(self) -> str:
        rows = [(g.severity, g.count, g.kind, g.remedy) for g in self.groups]
        return html_table(["severity", "number", "kind", "remedy"], rows, caption=self.source)

    def as_dict(self) -> dict[str, Any]:
        """Return plain values for JSON; docs/how-to/check.md lists them."""
        counts = {f"{severity}s": self.count(severity) for severity in _SEVERITIES}
        return {"schema_version": SCHEMA_VERSION, "counts": counts, **asdict(self)}
