"""The files of benchmarks/results/EXPERIMENT/: one JSON a run, and what it got of every image.

METHOD-seedK.json holds the figures, METHOD-seedK.npz the sums over the pixels of every image that
the intervals of differences are drawn from, with the names of images and classes.
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
# Two trainings agree in the sign of what chance alone has done every other time.
DECIDING_SEEDS = 3
# What the figures of the tables are functions of.
_KEPT = ("counts_", "bins_", "boundary_bins_", "masses_")


@dataclass(frozen=True, eq=False)
class Sums:
    """What a run got of every image.

    Attributes:
        statistics: Sums over the pixels of each image.
        stems: Names of the images, in the same order.
        classes: Names of the classes.
    """

    statistics: ImageStatistics
    stems: tuple[str, ...]
    classes: tuple[str, ...]


def result_file(experiment: str, method: str, seed: int) -> Path:
    """Return where the figures of a run are."""
    return RESULTS / experiment / f"{method}-seed{seed}.json"


def read_result(path: Path) -> dict[str, Any]:
    """Return the figures of a run."""
    content: dict[str, Any] = json.loads(path.read_text())
    return content


def read_results(experiment: str) -> list[dict[str, Any]]:
    """Return the figures of all runs of an experiment, by file name."""
    files = sorted((RESULTS / experiment).glob("*-seed*.json"))
    return [read_result(path) for path in files]


def read_contrasts(experiment: str) -> list[dict[str, Any]]:
    """Return the differences that `benchmarks.differences` has found, none before it ran."""
    file = RESULTS / experiment / "differences.json"
    contrasts: list[dict[str, Any]] = []
    if file.exists():
        contrasts = json.loads(file.read_text())["contrasts"]
    return contrasts


def is_decided(contrast: Mapping[str, Any], figure: str) -> bool:
    """Say whether the interval of a difference excludes zero; fewer than three seeds never do."""
    low, high = contrast["metrics"][figure]["interval"]
    return len(contrast["seeds"]) >= DECIDING_SEEDS and (low > 0 or high < 0)


def write_result(
    path: Path, content: Mapping[str, Any], statistics: ImageStatistics, stems: Sequence[str]
) -> None:
    """Write the figures of a run and, before them, its sums over every image."""
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
    """Copy a run's figures and sums, with `changes` to the former; return the figures."""
    target.parent.mkdir(parents=True, exist_ok=True)
    if source.with_suffix(".npz").exists():
        write_atomically(source.with_suffix(".npz").read_bytes(), target.with_suffix(".npz"))
    content = read_result(source) | dict(changes)
    write_atomically((json.dumps(content, indent=1) + "\n").encode(), target)
    return content


def read_sums(path: Path) -> Sums | None:
    """Return what a run got of every image; None for runs of which it was not kept."""
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
