"""Build dataclasses from the plain values of a file."""

from typing import TypeVar

from pydantic import TypeAdapter, ValidationError

T = TypeVar("T")


def validated(kind: type[T], values: object) -> T:
    """Build a dataclass, with nested dataclasses, from plain values; ignore unknown entries.

    Raises:
        ValueError: An entry is missing or has the wrong type; the message names the first one.
    """
    try:
        return TypeAdapter(kind).validate_python(values)
    except ValidationError as error:
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"])
        raise ValueError(f"{place}: {first['msg'].removeprefix('Value error, ')}") from error
