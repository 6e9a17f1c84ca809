"""Tests of the compiled pass need a C compiler."""

import pytest

from softiou._native import load_library


@pytest.fixture(autouse=True)
def _needs_a_compiler(request: pytest.FixtureRequest) -> None:
    reason = load_library("overlap")
    if "native" in request.node.name and isinstance(reason, str):
        pytest.skip(reason)
