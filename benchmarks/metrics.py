"""Compare the time of a metric update with torchmetrics, interleaved in one process, on the CPU.

    python -m benchmarks.metrics

One image of 1024x2048 pixels and 19 classes. The two tasks are the IoU over the data set and the
calibration error with 15 bins: torchmetrics' `MulticlassJaccardIndex` and
`MulticlassCalibrationError` against `SegmentationScores` and `ExpectedCalibrationError`.
`EvaluationScores` computes both, class-wise calibration, Brier score and log-likelihood in one
pass. Ratios are torchmetrics / softiou in the same round. Memory is that of the states after some
updates with images of two sizes.
Writes benchmarks/results/metrics/cpu.json.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from statistics import median, quantiles
from typing import Any

import torch
import torch.nn.functional as F
import torchmetrics
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.classification import MulticlassCalibrationError, MulticlassJaccardIndex

from benchmarks._machine import ROOT, measured_on, save
from benchmarks.loss_measures import interleaved_seconds
from softiou.metrics import EvaluationScores, ExpectedCalibrationError, SegmentationScores

RESULT = ROOT / "benchmarks" / "results" / "metrics" / "cpu.json"
SIZE = (1024, 2048)
NUM_CLASSES = 19
NUM_BINS = 15
IGNORE = 255
UPDATES = 4  # to measure memory


def main() -> None:
    """Measure and write the file."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=15)
    parser.add_argument("--threads", type=int, nargs="+", default=[1, 2])
    options = parser.parse_args()
    content = {
        **measured_on(),
        "torchmetrics": torchmetrics.__version__,
        "image": f"{SIZE[0]}x{SIZE[1]}, {NUM_CLASSES} classes, float32",
        "rounds": options.rounds,
        "threads": {
            str(threads): measure(SIZE, threads=threads, rounds=options.rounds)
            for threads in options.threads
        },
        "state_bytes_of_an_update": {
            f"{height}x{width}": state_bytes((height, width))
            for height, width in ((SIZE[0] // 2, SIZE[1] // 2), SIZE)
        },
    }
    save(RESULT, content)
    print(json.dumps({k: content[k] for k in ("threads", "state_bytes_of_an_update")}, indent=1))


def contenders() -> dict[str, list[Metric]]:
    """Return the metrics for the two tasks."""

    def theirs(validate: bool) -> list[Metric]:
        options: dict[str, Any] = {"ignore_index": IGNORE, "validate_args": validate}
        return [
            MulticlassJaccardIndex(NUM_CLASSES, **options),
            MulticlassCalibrationError(NUM_CLASSES, n_bins=NUM_BINS, **options),
        ]

    return {
        "torchmetrics": theirs(True),
        "torchmetrics, validate_args=False": theirs(False),
        "softiou, two metrics": [
            SegmentationScores(NUM_CLASSES, ignore_index=IGNORE),
            ExpectedCalibrationError(NUM_CLASSES, num_bins=NUM_BINS, ignore_index=IGNORE),
        ],
        "softiou, EvaluationScores": [
            EvaluationScores(NUM_CLASSES, num_bins=NUM_BINS, ignore_index=IGNORE)
        ],
    }


def measure(size: tuple[int, int], *, threads: int, rounds: int) -> dict[str, Any]:
    """Return the seconds per update, and the ratios to softiou."""
    before = torch.get_num_threads()
    torch.set_num_threads(threads)
    try:
        probs, target = prediction(size)
        runs = {name: _update(metrics, probs, target) for name, metrics in contenders().items()}
        seconds = interleaved_seconds(runs, rounds=rounds, device="cpu")
    finally:
        torch.set_num_threads(before)
    return {
        "seconds": {name: _spread(found) for name, found in seconds.items()},
        "times_as_fast": _ratios(seconds),
    }


def prediction(size: tuple[int, int]) -> tuple[Tensor, Tensor]:
    """Return smooth random probabilities (1, C, H, W), like those of a model, and labels.

    Some labels differ from the prediction, and some are ignored.
    """
    generator = torch.Generator().manual_seed(0)
    coarse = 4 * torch.randn(1, NUM_CLASSES, size[0] // 32, size[1] // 32, generator=generator)
    probs = F.interpolate(coarse, size=size, mode="bilinear").softmax(1)
    wrong = torch.rand(1, *size, generator=generator) < 0.1
    drawn = torch.randint(0, NUM_CLASSES + 2, (1, *size), generator=generator)
    target = torch.where(wrong, drawn, probs.argmax(1))
    return probs, target.where(target < NUM_CLASSES, IGNORE)


def state_bytes(size: tuple[int, int]) -> dict[str, int]:
    """Return the growth of the metric states per update, in bytes."""
    probs, target = prediction(size)
    grown = {}
    for name, metrics in contenders().items():
        update = _update(metrics, probs, target)
        update()
        first = _bytes_of(metrics)
        for _ in range(UPDATES):
            update()
        grown[name] = (_bytes_of(metrics) - first) // UPDATES
    return grown


def _update(metrics: list[Metric], probs: Tensor, target: Tensor) -> Callable[[], None]:
    def run() -> None:
        for metric in metrics:
            metric.update(probs, target)

    return run


def _bytes_of(metrics: list[Metric]) -> int:
    states = [getattr(metric, name) for metric in metrics for name in metric._defaults]
    tensors = [x for state in states for x in (state if isinstance(state, list) else [state])]
    return sum(x.numel() * x.element_size() for x in tensors)


def _ratios(seconds: Mapping[str, list[float]]) -> dict[str, dict[str, Any]]:
    theirs = [name for name in seconds if name.startswith("torchmetrics")]
    return {
        f"{our} against {their}": _spread(
            [b / a for a, b in zip(seconds[our], seconds[their], strict=True)]
        )
        for our in seconds
        if our not in theirs
        for their in theirs
    }


def _spread(values: list[float]) -> dict[str, Any]:
    low, _, high = quantiles(values, n=4)
    return {"median": median(values), "quartiles": [low, high]}


if __name__ == "__main__":
    main()
