"""Measure the bootstrap of all metrics on one core: 10,000 resamples of 500 images.

    python -m benchmarks.bootstrap

"counts" are the overlap metrics (IoU, Dice, accuracies, worst cases, and those of each class),
"all" adds metrics of calibration, at boundaries and of soft labels. The plain loop selects the
images of each resample and computes three metrics; it is timed for some of the resamples. Times are
processor times.
Writes benchmarks/results/bootstrap/cpu.json.
"""

import argparse
import json
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median

import torch
from torch import Tensor

from benchmarks._machine import ROOT, measured_on, save
from benchmarks.loss_measures import _give_back_free_memory, _status_bytes
from softiou.metrics import OverlapCounts, OverlapMasses, mean_score
from softiou.metrics.bins import CalibrationBins, num_fine_bins
from softiou.resampling.bootstrap import RESAMPLES, intervals
from softiou.resampling.image_statistics import ImageStatistics

RESULT = ROOT / "benchmarks" / "results" / "bootstrap" / "cpu.json"
NUM_IMAGES = 500
NUM_CLASSES = 19
NUM_BINS = 15
LOOPS = 100  # number of resamples for which the plain loop is timed


def main() -> None:
    """Measure and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
    options = parser.parse_args()
    torch.set_num_threads(1)
    every = random_statistics()
    counts = ImageStatistics(every.counts)
    runs: dict[str, Callable[[], object]] = {
        "counts": lambda: intervals(counts),
        "all": lambda: intervals(every),
        "plain loop": lambda: plain_loop(every.counts),
    }
    seconds = {name: processor_seconds(run, rounds=options.rounds) for name, run in runs.items()}
    content = {
        **measured_on(),
        "threads": torch.get_num_threads(),
        "resamples": RESAMPLES,
        "images": NUM_IMAGES,
        "classes": NUM_CLASSES,
        "figures": {"counts": count_figures(counts), "all": count_figures(every)},
        "seconds": {
            "counts": seconds["counts"],
            "all": seconds["all"],
            "plain loop, three figures": seconds["plain loop"] * RESAMPLES / LOOPS,
        },
        "peak_mib": {"all": peak_mib(every)},
    }
    save(RESULT, content)
    print(json.dumps(content, indent=1))


def processor_seconds(run: Callable[[], object], *, rounds: int) -> float:
    """Return the median processor time of some runs on one thread."""
    run()  # warm up
    seconds = []
    for _ in range(rounds):
        start = time.process_time()
        run()
        seconds.append(time.process_time() - start)
    return median(seconds)


def random_statistics() -> ImageStatistics:
    """Generate statistics of random images, each with about two of three classes."""
    generator = torch.Generator().manual_seed(0)

    def share(*shape: int) -> Tensor:
        return torch.rand(NUM_IMAGES, *shape, generator=generator, dtype=torch.float64)

    def counts() -> OverlapCounts:
        present = 1e5 * share(NUM_CLASSES) * (share(NUM_CLASSES) < 2 / 3)
        right = present * share(NUM_CLASSES)
        return OverlapCounts(*(x.long() for x in (right, right + 1e4 * share(1), present)))

    def bins(*shape: int) -> CalibrationBins:
        count = (1e4 * share(*shape)).long()
        return CalibrationBins(count, count * share(*shape), count * share(*shape))

    overlap = counts()
    pixels = overlap.present.sum(1)
    masses = [x.double() for x in overlap.tensors().values()]
    return ImageStatistics(
        overlap,
        bins=bins(NUM_BINS),
        fine_bins=bins(num_fine_bins(NUM_BINS)),
        brier=pixels * share(),
        nll=pixels * share(),
        pixels=pixels,
        boundary=counts(),
        boundary_bins=bins(NUM_BINS),
        class_bins=bins(NUM_CLASSES, NUM_BINS),
        masses=OverlapMasses(masses[1], masses[2], (masses[1] - masses[2]).abs()),
        energy=share(),
    )


def plain_loop(counts: OverlapCounts) -> list[float]:
    """Compute mIoU^D, mIoU^I and mIoU^C for some resamples in a loop."""
    generator = torch.Generator().manual_seed(0)
    found = []
    for _ in range(LOOPS):
        chosen = torch.randint(NUM_IMAGES, (NUM_IMAGES,), generator=generator)
        drawn = OverlapCounts(*(x[chosen] for x in counts.tensors().values()))
        for per in ("dataset", "image", "class"):
            found.append(float(mean_score(drawn, OverlapCounts.iou, per=per)))
    return found


def count_figures(statistics: ImageStatistics) -> int:
    """Return the number of intervals, including those of each class."""
    found = intervals(statistics, resamples=2)
    return len(found.metrics) + sum(map(len, found.per_class.values()))


def peak_mib(statistics: ImageStatistics) -> float:
    """Return the additional peak memory of the bootstrap in MiB (Linux only)."""
    _give_back_free_memory()
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak memory
    before = _status_bytes("VmRSS")
    intervals(statistics)
    return (_status_bytes("VmHWM") - before) / 2**20


if __name__ == "__main__":
    main()
