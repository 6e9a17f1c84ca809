"""The table of the documentation: what goes together does train, and the rest is refused."""

import re
from pathlib import Path

import pytest

from models.two_steps import fit_two_steps
from softiou.errors import ConfigError
from softiou.models import ModelSpec, SegmentationModel, architectures

PAGE = Path(__file__).parents[2] / "docs" / "how-to" / "models.md"


def _rows() -> list[list[str]]:
    text = PAGE.read_text(encoding="utf-8")
    table = text.split("<!-- table: pairs -->\n")[1].split("<!-- end of table -->")[0]
    return [[cell.strip() for cell in line.strip("|\n").split("|")] for line in table.splitlines()]


def _pairs() -> list[tuple[str, str, bool]]:
    """Architecture, encoder, and whether the page says that they go together."""
    heading, _, *rows = _rows()
    return [
        (architecture, row[1].strip("`"), cell == "yes")
        for row in rows
        for architecture, cell in zip(heading[2:], row[2:], strict=True)
    ]


def test_table_is_complete() -> None:
    heading, _, *rows = _rows()
    assert heading[2:] == architectures()
    assert {cell for row in rows for cell in row[2:]} == {"yes", "no"}
    assert len({row[1] for row in rows}) == 11


def test_page_names_every_architecture_with_its_stride() -> None:
    named = re.findall(
        r"^\| `(\w+)` \| (?:\d|p|p / 4) \|", PAGE.read_text(encoding="utf-8"), re.MULTILINE
    )
    assert named == [*architectures(), "transformers"]


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "encoder", "together"), _pairs())
def test_pair(architecture: str, encoder: str, together: bool) -> None:
    if together:
        fit_two_steps(architecture, encoder)
    else:
        with pytest.raises(ConfigError, match=r"Use|do not ask for it"):
            SegmentationModel(ModelSpec(architecture, encoder, 3))
