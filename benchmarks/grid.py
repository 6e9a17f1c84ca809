"""The declared grid of experiments, experiments.yaml."""

from typing import Any

import yaml

from benchmarks._machine import ROOT

GRID = ROOT / "benchmarks" / "experiments.yaml"


def read_grid() -> dict[str, Any]:
    """Return the declarations by experiment."""
    declared: dict[str, Any] = yaml.safe_load(GRID.read_text())
    return declared
