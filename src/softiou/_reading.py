"""Read untrusted YAML and JSON within limits.

A small file can be nested so deeply that the parser exceeds the stack, or repeat nested aliases so
often that a program which iterates over the values never ends. Real files are far below the limits;
files that exceed one raise ValueError.
"""

import json
import stat
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import yaml

MOST_YAML_BYTES = 2 << 20
MOST_JSON_BYTES = 1 << 29  # an evaluation has about a kilobyte for each image
MOST_VALUES = 200_000  # of YAML, including those repeated by aliases
MOST_LEVELS = 50  # of YAML; Python limits JSON
_LONGEST_NUMBER = 100  # characters; parsing 1:1:1:... in YAML takes quadratic time


class BoundedLoader(yaml.SafeLoader):
    """A SafeLoader that limits values (including aliases) and levels."""

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self._values = self._levels = 0
        self._sizes: dict[str, int] = {}

    def compose_node(self, parent: Any, index: Any) -> Any:
        """Compose a value; raise ValueError if a limit is exceeded."""
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
            raise ValueError(f"the number in line {event.start_mark.line + 1} is too long")
        self._levels -= 1
        if event.anchor and not alias:
            self._sizes[event.anchor] = self._values - before
        return node


def parse_yaml(text: str, loader: type[BoundedLoader] = BoundedLoader) -> Any:
    """Return the plain values of a YAML text; raise ValueError if invalid or beyond a limit."""
    try:
        return yaml.load(text, Loader=loader)
    except yaml.YAMLError as error:
        raise ValueError(str(error)) from error
    except (ArithmeticError, AttributeError, LookupError, TypeError) as error:  # !!bool x
        raise ValueError(f"expected values that match their tags ({error!r})") from error


def read_yaml(path: Path, loader: type[BoundedLoader] = BoundedLoader) -> Any:
    """Return the plain values of a YAML file; raise as `read_text` and `parse_yaml`."""
    return parse_yaml(read_text(path, most_bytes=MOST_YAML_BYTES), loader)


def parse_json(text: str | bytes, constant: Callable[[str], Any] = float) -> Any:
    """Return the plain values of a JSON text; raise ValueError if invalid or too deep.

    `constant` converts NaN, Infinity and -Infinity.
    """
    try:
        return json.loads(text, parse_constant=constant)
    except RecursionError as error:
        raise ValueError("expected a few levels, but the values are nested too deeply") from error


def read_json(path: Path, constant: Callable[[str], Any] = float) -> Any:
    """Return the plain values of a JSON file; raise as `read_text` and `parse_json`."""
    return parse_json(read_text(path, most_bytes=MOST_JSON_BYTES), constant)


def read_text(path: Path, *, most_bytes: int = MOST_YAML_BYTES) -> str:
    """Return the text of a UTF-8 file, without a byte-order mark."""
    mode = path.stat().st_mode
    if not stat.S_ISREG(mode) and not stat.S_ISDIR(mode):  # reading a pipe may never end
        raise ValueError("expected a regular file, but it is a pipe, a device or a socket")
    with path.open("rb") as file:
        content = file.read(most_bytes + 1)
    if len(content) > most_bytes:
        raise ValueError(f"expected at most {most_bytes >> 20} MiB, but the file is larger")
    return content.decode("utf-8-sig")
