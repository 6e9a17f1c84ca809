"""The tables of published.yaml: origin and classes of published data sets."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from softiou.data.base import Colour

_FILE = Path(__file__).with_name("published.yaml")
TABLES: dict[str, Any] = yaml.safe_load(_FILE.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Origin:
    """Origin and terms of use of a data set."""

    title: str  # full name
    page: str  # its home page
    terms: str  # its terms of use, as far as its authors state them
    steps: tuple[str, ...]  # instructions to get it, one sentence each
    tree: str  # the resulting folders


ORIGINS = {name: Origin(**values) for name, values in TABLES["origins"].items()}


def colours(table: dict[str, Any]) -> dict[str, Colour]:
    """Return a table of colours [red, green, blue] by name."""
    return {name: (red, green, blue) for name, (red, green, blue) in table.items()}
