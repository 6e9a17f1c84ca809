"""What can be wrong with a data set: one record per finding, and the error that carries them."""

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from softiou.errors import DataError

_LISTED = 5


@dataclass(frozen=True)
class Problem:
    """One finding about one file or folder.

    Args:
        file: The file or folder.
        message: What was expected and what was found.
        remedy: The way out.
        severity: "error" stops training; "warning" may be meant; "note" is nothing to mend.
        kind: What sort of finding it is, for programs and to put equal ones together.
    """

    file: str
    message: str
    remedy: str
    severity: Literal["error", "warning", "note"] = "error"
    kind: str = "layout"

    def __str__(self) -> str:
        return f"{self.file}: {self.message} {self.remedy}"


class DataProblemsError(DataError):
    """A `DataError` that keeps its findings apart, for those who collect them."""

    def __init__(self, *problems: Problem) -> None:
        # DataLoader workers rebuild the error from its text alone, so the text is complete.
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


def some_of(names: Iterable[object]) -> str:
    """Write out the first few names and the number of those left out.

    Example:
        >>> some_of("abcdefg")
        'a, b, c, d, e and 2 more'
    """
    texts = [str(name) for name in names]
    more = f" and {len(texts) - _LISTED} more" if len(texts) > _LISTED else ""
    return ", ".join(texts[:_LISTED]) + more
