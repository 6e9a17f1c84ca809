"""YAML and JSON that somebody else may have written, read within bounds.

A file of a few kilobytes can nest so deeply that a parser runs out of stack, or repeat an alias of
aliases until a program that walks through the values never ends. Real files are far below each
bound; what is beyond one raises ValueError at once.
"""

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import yaml

MOST_YAML_BYTES = 2 << 20
MOST_JSON_BYTES = 1 << 29  # an evaluation has about a kilobyte for each image
MOST_VALUES = 200_000  # of YAML, with those that aliases repeat
MOST_LEVELS = 50  # of YAML; Python limits those of JSON
_LONGEST_NUMBER = 100  # letters of YAML, where 1:1:1:... is one number, in time of the square


class BoundedLoader(yaml.SafeLoader):
    """SafeLoader that counts values, aliases included, and levels."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._values = self._levels = 0
        self._sizes: dict[str, int] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose one value, or raise ValueError at a bound."""
        event = cast(Any, self).peek_event()
        before, alias = self._values, isinstance(event, yaml.AliasEvent)
        self._values += self._sizes.get(event.anchor, MOST_VALUES) if alias else 1
        self._levels += 1
        if self._values > MOST_VALUES or self._levels > MOST_LEVELS:
            raise ValueError(
                f"expected at most {MOST_VALUES} values and {MOST_LEVELS} levels, but there are "
                f"more before line {event.start_mark.line + 1}"
            )
        node = cast(Any, super().compose_node(parent, index))
        if node.tag.endswith((":int", ":float")) and len(node.value) > _LONGEST_NUMBER:
            raise ValueError(f"the number of line {event.start_mark.line + 1} is too long")
        self._levels -= 1
        if event.anchor and not alias:
            self._sizes[event.anchor] = self._values - before
        return node


def parse_yaml(text: str, loader: type[BoundedLoader] = BoundedLoader) -> Any:
    """Return the plain values of a YAML text; ValueError for no YAML, or what is beyond a bound."""
    try:
        return yaml.load(text, Loader=loader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:  # !!bool x
        raise ValueError(f"expected values of the kinds they are said to be ({error!r})") from error


def read_yaml(path: Path, loader: type[BoundedLoader] = BoundedLoader) -> Any:
    """Return the plain values of a YAML file; ValueError as of `read_text` and `parse_yaml`."""
    return parse_yaml(read_text(path, most_bytes=MOST_YAML_BYTES), loader)


def parse_json(text: str | bytes, constant: Callable[[str], Any] = float) -> Any:
    """Return the plain values of a JSON text in UTF-8; ValueError for no JSON, or one too deep.

    `constant` gives the value of NaN, Infinity and -Infinity.
    """
    try:
        return json.loads(text, parse_constant=constant)
    except RecursionError as error:
        raise ValueError("expected values of a few levels, but they are nested too deep") from error


def read_json(path: Path, constant: Callable[[str], Any] = float) -> Any:
    """Return the plain values of a JSON file; ValueError as of `read_text` and `parse_json`."""
    return parse_json(read_text(path, most_bytes=MOST_JSON_BYTES), constant)


def read_text(path: Path, *, most_bytes: int = MOST_YAML_BYTES) -> str:
    """Return the text of a file in UTF-8, with or without a byte-order mark."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # reading a pipe may never end
        raise ValueError("expected a regular file, but it is a pipe, a device or a socket")
    with path.open("rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"expected at most {most_bytes >> 20} MiB, but the file is larger")
    return content.decode("utf-8-sig")
