"""Compare value and gradient of losses with random settings with loops in float64."""

import sys
import time

from benchmarks._machine import ROOT
from benchmarks.reliability.commands import Figure


def compare_values(figure: Figure, number: int, deadline: float) -> None:
    """Run the comparison of the tests of the losses for many seeds."""
    sys.path.insert(0, str(ROOT / "tests"))  # of the loops
    from losses.test_random import compare

    while figure.tried < number and time.monotonic() < deadline:
        try:
            compare(figure.tried)
        except (AssertionError, TypeError, ValueError, RuntimeError) as error:
            figure.count(f"seed {figure.tried}: {error!r}")
        else:
            figure.count("")
