"""Marks for cases that the default run leaves out: `pytest -m slow` runs them, weekly in CI."""

from typing import Any

import pytest


def slow(*cases: Any) -> list[Any]:
    """Mark cases of `pytest.mark.parametrize` that are like others, and take seconds."""
    return [
        pytest.param(*(case if isinstance(case, tuple) else (case,)), marks=pytest.mark.slow)
        for case in cases
    ]
