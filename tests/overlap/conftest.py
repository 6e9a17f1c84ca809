"""Tests of the compiled pass need a C compiler."""

import pytest

from softiou._compile import load_library


@pytest.fixture(autouse=True)
def _needs_a_compiler(request: pytest.FixtureRequest) -> None:
    reason = load_library("softiou.overlap", "native.c")
    if "native" in request.node.name and isinstance(reason, str):
        pytest.skip(reason)
