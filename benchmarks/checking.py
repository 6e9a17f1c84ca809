"""Measure `softiou check`: files per second and peak memory for several numbers of files.

    python -m benchmarks.checking

Writes pairs of a JPEG image and a PNG mask of 64 x 64 pixels, 10,000 and 100,000 files, and pairs
of 1024 x 2048 pixels, each into a temporary folder, and runs `softiou check` on it in a new
process. The time is that of the whole command, including imports; the memory is the peak of its
process.
Writes benchmarks/results/checking/cpu.json.
"""

import argparse
import json
import os
import subprocess
import sys
import time
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
from PIL import Image

from benchmarks._machine import ROOT, measured_on, save

RESULT = ROOT / "benchmarks" / "results" / "checking" / "cpu.json"
NUM_CLASSES = 19
CASES = ((10_000, (64, 64)), (100_000, (64, 64)), (200, (1024, 2048)))  # files, (H, W)
BLOCKS = 8  # per side: images with few colours are as compressible as photographs


def main() -> None:
    """Measure and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=1, help="the fastest one counts")
    options = parser.parse_args()
    content = {
        **measured_on(),
        "load_before": round(os.getloadavg()[0], 2),
        "rounds": options.rounds,
        "cases": [measure(files, size, rounds=options.rounds) for files, size in CASES],
    }
    save(RESULT, content)
    print(json.dumps(content, indent=1))


def measure(files: int, size: tuple[int, int], *, rounds: int) -> dict[str, Any]:
    """Write a data set, check it, and return time and memory."""
    with TemporaryDirectory() as folder:
        write_data(Path(folder), files // 2, size)
        runs = [run_check(folder) for _ in range(rounds)]
    seconds = min(seconds for seconds, _ in runs)
    return {
        "files": files,
        "height_px": size[0],
        "width_px": size[1],
        "seconds": round(seconds, 1),
        "files_per_second": round(files / seconds),
        "peak_mib": round(max(peak for _, peak in runs)),
    }


def write_data(root: Path, pairs: int, size: tuple[int, int]) -> None:
    """Write images and masks, 90 % of them into train."""
    random = np.random.default_rng(0)
    block = np.ones((size[0] // BLOCKS, size[1] // BLOCKS), np.uint8)
    for split in ("train", "val"):
        for kind in ("images", "masks"):
            (root / split / kind).mkdir(parents=True)
    for number in range(pairs):
        folder = root / ("val" if number % 10 == 0 else "train")
        colours = random.integers(0, 256, (BLOCKS, BLOCKS, 3), np.uint8)
        picture = np.kron(colours, block[..., None])
        mask = np.kron(colours[..., 0] % NUM_CLASSES, block)
        Image.fromarray(picture).save(folder / "images" / f"{number:06}.jpg", quality=90)
        Image.fromarray(mask).save(folder / "masks" / f"{number:06}.png")
    names = [f"class {number}" for number in range(NUM_CLASSES)]
    (root / "dataset.yaml").write_text(json.dumps({"classes": names}), encoding="utf-8")


def run_check(folder: str) -> tuple[float, float]:
    """Return the seconds and the peak memory in MiB of one run of the command (POSIX only)."""
    command = [sys.executable, "-m", "softiou", "check", folder]
    start = time.perf_counter()
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    seconds = time.perf_counter() - start
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode != 0:
        found = f"it ended with {process.returncode}"
        raise RuntimeError(f"Expected `softiou check` to find no errors, but {found}.")
    unit = 1 if sys.platform == "darwin" else 1024  # unit of ru_maxrss in bytes
    return seconds, usage.ru_maxrss * unit / 2**20


if __name__ == "__main__":
    main()
