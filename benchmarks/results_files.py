"""The files in benchmarks/results/EXPERIMENT/: metrics of each run, and sums of every image.

METHOD-seedK.json has the metrics. METHOD-seedK.npz has the sums over the pixels of every image,
from which the intervals of differences are computed, and the names of images and classes.
"""

import io
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

from benchmarks._machine import ROOT
from softiou._files import write_atomically
from softiou.resampling import ImageStatistics

RESULTS = ROOT / "benchmarks" / "results"
# Two seeds agree in the sign of a random difference in half of all cases.
DECIDING_SEEDS = 3
# The statistics from which the metrics in the tables are computed.
_KEPT = ("counts_", "bins_", "boundary_bins_", "masses_")


@dataclass(frozen=True, eq=False)
class Sums:
    """The sums of every image in a run.

    Attributes:
        statistics: Sums over the pixels of each image.
        stems: Names of the images, in the same order.
        classes: Names of the classes.
    """

    statistics: ImageStatistics
    stems: tuple[str, ...]
    classes: tuple[str, ...]


def result_file(experiment: str, method: str, seed: int) -> Path:
    """Return the file with the metrics of a run."""
    return RESULTS / experiment / f"{method}-seed{seed}.json"


def read_result(path: Path) -> dict[str, Any]:
    """Read the metrics of a run."""
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def read_results(experiment: str) -> list[dict[str, Any]]:
    """Read the metrics of all runs of an experiment, by file name."""
    files = sorted((RESULTS / experiment).glob("*-seed*.json"))
    return [read_result(path) for path in files]


def read_contrasts(experiment: str) -> list[dict[str, Any]]:
    """Read the differences written by `benchmarks.differences`; empty if there are none."""
    file = RESULTS / experiment / "differences.json"
    contrasts: list[dict[str, Any]] = []
    if file.exists():
        contrasts = json.loads(file.read_text())["contrasts"]
    return contrasts


def is_decided(contrast: Mapping[str, Any], figure: str) -> bool:
    """Return whether the interval of a difference excludes 0; False with less than three seeds."""
    low, high = contrast["metrics"][figure]["interval"]
    return len(contrast["seeds"]) >= DECIDING_SEEDS and (low > 0 or high < 0)


def write_result(
    path: Path, content: Mapping[str, Any], statistics: ImageStatistics, stems: Sequence[str]
) -> None:
    """Write the sums of every image, and then the metrics of a run."""
    path.parent.mkdir(parents=True, exist_ok=True)
    kept = {
        name: tensor.to(torch.float32 if tensor.is_floating_point() else torch.int32).numpy()
        for name, tensor in statistics.tensors().items()
        if name.startswith(_KEPT)
    }
    sums = io.BytesIO()
    names = {"stems": stems, "classes": [row["name"] for row in content["per_class"]]}
    np.savez_compressed(sums, allow_pickle=False, **names, **kept)
    write_atomically(sums.getvalue(), path.with_suffix(".npz"))
    write_atomically((json.dumps(content, indent=1) + "\n").encode(), path)


def copy_result(source: Path, target: Path, changes: Mapping[str, Any]) -> dict[str, Any]:
    """Copy metrics (updated by `changes`) and sums of a run; return the metrics."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.with_suffix(".npz").exists():
        write_atomically(source.with_suffix(".npz").read_bytes(), target.with_suffix(".npz"))
    content = read_result(source) | dict(changes)
    write_atomically((json.dumps(content, indent=1) + "\n").encode(), target)
    return content


def read_sums(path: Path) -> Sums | None:
    """Read the sums of every image of a run; None if they were not stored."""
    sums = path.with_suffix(".npz")
    if not sums.exists():
        return None
    with np.load(sums, allow_pickle=False) as arrays:
        stems, classes = (tuple(arrays[name].tolist()) for name in ("stems", "classes"))
        kept = [name for name in arrays.files if name.startswith(_KEPT)]
        tensors = {name: torch.from_numpy(arrays[name]) for name in kept}
    wide = {
        name: tensor.to(torch.float64 if tensor.is_floating_point() else torch.int64)
        for name, tensor in tensors.items()
    }
    return Sums(ImageStatistics.from_tensors(wide), stems, classes)
