"""Findings by their kind: all of them are counted, some of each kind are kept."""

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from softiou.data.problems import Problem

KEPT = 1000  # of each kind
_EXAMPLES = 3
_SEVERITIES = ("error", "warning", "note")


@dataclass
class FindingGroup:
    """Findings of one kind that have one way out.

    Attributes:
        severity: "error", "warning" or "note".
        kind: What sort of finding it is.
        remedy: The way out.
        count: How many there are.
        examples: The first few of them.
    """

    severity: str
    kind: str
    remedy: str
    count: int = 0
    examples: list[Problem] = field(default_factory=list)


class Findings:
    """Adds findings up without ever holding more than the first `KEPT` of each kind."""

    def __init__(self) -> None:
        self.kept: list[Problem] = []
        self._groups: dict[tuple[str, str, str], FindingGroup] = {}
        self._kept: Counter[tuple[str, str]] = Counter()

    def add(self, problems: Iterable[Problem]) -> None:
        """Count findings, and keep those that are among the first of their kind."""
        for problem in problems:
            key = (problem.severity, problem.kind, problem.remedy)
            group = self._groups.setdefault(key, FindingGroup(*key))
            group.count += 1
            if len(group.examples) < _EXAMPLES:
                group.examples.append(problem)
            if self._kept[key[:2]] < KEPT:
                self._kept[key[:2]] += 1
                self.kept.append(problem)

    @property
    def groups(self) -> tuple[FindingGroup, ...]:
        """Return the groups: errors first, the most frequent of each severity first."""
        return tuple(
            sorted(
                self._groups.values(),
                key=lambda group: (_SEVERITIES.index(group.severity), -group.count),
            )
        )
