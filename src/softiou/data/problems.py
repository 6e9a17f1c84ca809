"""Problems of a data set, and the error that reports them."""

from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from softiou._screen import visible
from softiou.errors import DataError

REPLACE = "Replace the file, or skip unreadable files in training (data.skip_corrupt=true)."
_LISTED = 5


@dataclass(frozen=True)
class Problem:
    """A problem of a file or folder.

    Args:
        file: The file or folder.
        message: What was expected and what was found.
        remedy: How to correct it.
        severity: "error" stops training; "warning" may be intended; "note" needs no action.
        kind: Identifier of the kind of problem, for programs and for grouping.
    """

    file: str
    message: str
    remedy: str
    severity: Literal["error", "warning", "note"] = "error"
    kind: str = "layout"

    def __str__(self) -> str:
        return f"{visible(self.file)}: {self.message} {self.remedy}"


class DataProblemsError(DataError):
    """A `DataError` with a list of problems."""

    def __init__(self, *problems: Problem) -> None:
        # DataLoader workers rebuild the error from its text only, so the text has all problems.
        super().__init__("\n".join(str(problem) for problem in problems))
        self.problems = problems


def data_error(
    place: str | Path, message: str, remedy: str, *, kind: str = "layout"
) -> DataProblemsError:
    """Return an error with a single problem."""
    return DataProblemsError(Problem(str(place), message, remedy, kind=kind))


def warning(place: str | Path, kind: str, message: str, remedy: str) -> Problem:
    """Return a problem of severity "warning"."""
    return Problem(str(place), message, remedy, "warning", kind)


def some_of(names: Iterable[object]) -> str:
    """List the first few names and count the rest.

    Example:
        >>> some_of("abcdefg")
        'a, b, c, d, e and 2 more'
    """
    texts = [visible(name) for name in names]
    more = f" and {len(texts) - _LISTED} more" if len(texts) > _LISTED else ""
    return ", ".join(texts[:_LISTED]) + more
