"""The tables in published.yaml: where data sets come from, and their classes."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

from softiou.data.base import Colour

_FILE = Path(__file__).with_name("published.yaml")
TABLES: dict[str, Any] = yaml.safe_load(_FILE.read_text(encoding="utf-8"))


@dataclass(frozen=True)
class Origin:
    """Where a data set comes from, and its terms of use."""

    title: str  # its name in print
    page: str  # its home page
    terms: str  # its terms of use, as far as its authors state them
    steps: tuple[str, ...]  # how to get it, a sentence each
    tree: str  # the resulting folders


ORIGINS = {name: Origin(**values) for name, values in TABLES["origins"].items()}


def colours(table: dict[str, Any]) -> dict[str, Colour]:
    """Return a table of colours [red, green, blue] by name."""
    return {name: (red, green, blue) for name, (red, green, blue) in table.items()}
