"""Dataclasses from the plain values of a file."""

from dataclasses import dataclass

import pytest

from softiou._validation import validated


@dataclass(frozen=True)
class Part:
    numbers: tuple[float, ...]

    def __post_init__(self) -> None:
        if not self.numbers:
            raise ValueError("Expected one number or more, but got none.")


@dataclass(frozen=True)
class Whole:
    name: str
    part: Part | None


def test_nested_dataclasses_are_built_and_other_entries_ignored() -> None:
    values = {"name": "a", "part": {"numbers": [1, 2.5]}, "more": 3}
    assert validated(Whole, values) == Whole("a", Part((1.0, 2.5)))
    assert validated(Whole, {"name": "a", "part": None}) == Whole("a", None)


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"name": "a"}, r"^part: Field required$"),
        ({"name": 1, "part": None}, r"^name: Input should be a valid string$"),
        ({"name": "a", "part": {"numbers": ["x"]}}, r"^part\.numbers\.0: Input should be a valid"),
        ({"name": "a", "part": {"numbers": []}}, r"^part: Expected one number or more"),
        (None, "Input should be a dictionary"),
    ],
)
def test_the_first_mistake_is_named(values: object, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        validated(Whole, values)
