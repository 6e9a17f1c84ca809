"""Scripts of other libraries, moved over by their import lines alone."""

import re
from pathlib import Path
from typing import Any

import pytest

EXAMPLES = Path(__file__).parents[2] / "examples"
IMPORT = re.compile(r"^from softiou\.drop_in import .+?  # was: (.+)$", re.MULTILINE)


def run(source: str) -> Any:
    names: dict[str, Any] = {"__name__": "script"}
    exec(compile(source, "script", "exec"), names)
    return names["evaluate" if "evaluate" in names else "train"]()


@pytest.mark.parametrize(("name", "lines"), [("smp", 1), ("monai", 1), ("torchmetrics", 2)])
def test_the_numbers_are_those_of_the_original(name: str, lines: int) -> None:
    moved = (EXAMPLES / f"moved_{name}.py").read_text(encoding="utf-8")
    original, changed = IMPORT.subn(r"\1", moved)
    assert changed == lines
    assert "softiou" not in original
    found, expected = run(moved), run(original)
    # Rounding differs, and training carries it on.
    tolerance = 1e-5 if isinstance(found, dict) else 2e-3
    assert found == pytest.approx(expected, rel=tolerance)
    if isinstance(found, list):
        assert found[0] == pytest.approx(expected[0], rel=1e-6)
        assert found[-1] < 0.98 * found[0]
