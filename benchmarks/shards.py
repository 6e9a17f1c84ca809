"""Compare samples per second from shards and from a folder; estimate ten million images.

    python -m benchmarks.shards
    python -m benchmarks.shards --plan      # estimates for 10^7 and 10^9 images

A data set is stored in a folder and, written by `softiou check --fix --shards`, in tar archives on
the same disk. A process loads the samples of both in random order, interleaved, and takes the
medians of processor time and wall-clock time. It also measures, per sample, the time to write, to
index and to open, and the bytes. Writes benchmarks/results/shards/cpu.json.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import torch

from benchmarks._machine import ROOT, measured_on, save
from benchmarks.loading import SIZES, write_images
from softiou.checking import check_dataset, fix_dataset
from softiou.data import open_dataset
from softiou.data.shards import indices, shards_in

RESULT = ROOT / "benchmarks" / "results" / "shards" / "cpu.json"
SAMPLES = 32  # samples per round
SHARD_BYTES = 4_000_000


def seconds_of(work: Callable[[], Any]) -> tuple[float, float]:
    """Return processor time and wall-clock time."""
    begin = time.process_time(), time.perf_counter()
    work()
    return time.process_time() - begin[0], time.perf_counter() - begin[1]


def loading(folder: Path, shards: Path, rounds: int) -> dict[str, float]:
    """Return samples per second of both, and the ratio of shards to folder."""
    sources = {name: open_dataset(path, "train") for name, path in
               (("folder", folder), ("shards", shards))}  # fmt: skip
    random = np.random.default_rng(0)
    seconds: dict[str, list[tuple[float, float]]] = {name: [] for name in sources}
    for number in range(rounds + 1):
        drawn = random.integers(0, len(sources["folder"]), SAMPLES).tolist()
        names = list(sources)[:: 1 if number % 2 else -1]
        for name in names:
            found = seconds_of(lambda data=sources[name], own=drawn: [data[n] for n in own])  # type: ignore[misc]
            seconds[name].append(found)
    rates = {
        f"{name}_{kind}": round(SAMPLES / median(one[place] for one in found[1:]), 1)
        for name, found in seconds.items()
        for place, kind in enumerate(("processor", "wall"))
    }
    ratios = {
        f"ratio_{kind}": round(
            median(
                one[place] / other[place]
                for one, other in zip(seconds["folder"][1:], seconds["shards"][1:], strict=True)
            ),
            3,
        )
        for place, kind in enumerate(("processor", "wall"))
    }
    return rates | ratios


def opening(shards: Path) -> dict[str, float]:
    """Return the microseconds per sample to open the data set, first and later."""
    samples = len(open_dataset(shards, "train"))
    found: dict[str, float] = {}
    for name in ("first", "later"):
        if name == "first":
            for path in shards.glob(".*.index"):
                path.unlink()
        index, _ = seconds_of(lambda: list(indices(shards_in(shards))))
        whole, _ = seconds_of(lambda: open_dataset(shards, "train"))
        found |= {f"index_{name}_us": round(1e6 * index / samples, 1)}
        found |= {f"open_{name}_us": round(1e6 * whole / samples, 1)}
    return found


def measure(name: str, count: int, rounds: int) -> dict[str, Any]:
    """Write the data set in both forms, and measure."""
    with TemporaryDirectory() as place:
        folder, shards = Path(place, "folder"), Path(place, "shards")
        write_images(folder, SIZES[name][0], count)
        report = check_dataset(folder)
        writing, _ = seconds_of(
            lambda: fix_dataset(folder, shards, report=report, shard_bytes=SHARD_BYTES)
        )
        sizes = [path.stat().st_size for path in shards.glob("train-*.tar")]
        return {
            "samples": count,
            "shards": len(sizes),
            "bytes_a_sample": round(sum(sizes) / count),
            "writing_ms_a_sample": round(1e3 * writing / count, 2),
            **opening(shards),
            **loading(folder, shards, rounds),
        }


def plan() -> None:
    """Print estimates of time on one core and bytes for many images, from the results."""
    found = json.loads(RESULT.read_text())["images"]["480x360"]
    stores = json.loads((ROOT / "benchmarks/results/distillation/cpu.json").read_text())["store"]
    label_bytes = 480 * 360 * next(one["bytes_per_pixel"] for one in stores if one["stride"] == 4)
    seconds = {
        "write the shards": found["writing_ms_a_sample"] / 1e3,
        "index them, once": found["index_first_us"] / 1e6,
        "open them, each process": found["open_later_us"] / 1e6,
        "load them, an epoch": 1 / found["shards_processor"],
    }
    print("| 480 x 360 pixels, one core | one image | 10^7 | 10^9 |\n| --- | --- | --- | --- |")
    for name, one in seconds.items():
        print(
            f"| {name} | {1e3 * one:.3g} ms | {one * 1e7 / 3600:.2g} h | {one * 1e9 / 3600:.2g} h |"
        )
    for name, size in (("shards", found["bytes_a_sample"]), ("soft labels", label_bytes)):
        print(f"| {name} | {size / 1e3:.0f} kB | {size / 1e2:.0f} GB | {size / 1e3:.0f} TB |")


def main() -> None:
    """Measure all sizes and write the result."""
    parser = argparse.ArgumentParser(description="Loading from shards, beside a folder.")
    parser.add_argument("--rounds", type=int, default=40)
    parser.add_argument("--samples", type=int, default=400)
    parser.add_argument("--plan", action="store_true", help="print the table of the last result")
    arguments = parser.parse_args()
    if arguments.plan:
        plan()
        return
    torch.set_num_threads(1)
    found = {"480x360": measure("480x360", arguments.samples, arguments.rounds)}
    print(found, flush=True)
    content = {
        **measured_on(),
        "unit": "samples a second (image and mask, decoded); the machine had other work",
        "rounds": arguments.rounds,
        "images": found,
    }
    save(RESULT, content)


if __name__ == "__main__":
    main()
