"""Measure the training steps per second of softiou, compared with a plain PyTorch loop.

    python -m benchmarks.training_loop

Both train an FPN on MobileNetV2 in bf16 and channels-last, with batches of 8 crops that one worker
process loads. The plain loop uses segmentation-models-pytorch, Pillow, torchvision and
`F.cross_entropy`; it has no validation, checks, logs, checkpoints or reproducible random numbers.
softiou runs with its default loss, and with cross-entropy alone. They take turns, and the first
steps of each turn are not counted. Writes benchmarks/results/training_loop/cpu.json.
"""

import argparse
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from statistics import median
from tempfile import TemporaryDirectory
from typing import Any

import numpy as np
import segmentation_models_pytorch as smp
import torch
from pytorch_lightning.callbacks import Callback
from torch.nn import functional as F
from torch.utils.data import DataLoader, IterableDataset

from benchmarks._machine import ROOT, measured_on, save
from benchmarks.loading import BATCH, COLOUR, SCALE, SIZES, plain, write_images
from softiou.configuration import load_config
from softiou.training import CustomParts, start_training

RESULT = ROOT / "benchmarks" / "results" / "training_loop" / "cpu.json"
SIZE = "480x360"
WARM_UP = 10  # steps of each turn that are not counted


class Clock(Callback):
    """Stores the time after each step."""

    def __init__(self) -> None:
        self.times: list[float] = []

    def on_train_batch_end(self, *_: Any) -> None:
        """Store the time."""
        self.times.append(time.perf_counter())


class Batches(IterableDataset[Any]):
    """An endless sequence of the batches of `benchmarks.loading.plain`."""

    def __init__(self, root: Path, crop_px: tuple[int, int]) -> None:
        self.root, self.crop_px = root, crop_px

    def __iter__(self) -> Iterator[Any]:
        """Yield batches."""
        load, number = plain(self.root, self.crop_px), 0
        while True:
            yield load(number)
            number += 1


def run_plain(root: Path, crop_px: tuple[int, int], steps: int) -> list[float]:
    """Train with a plain loop, and return the time after each step."""
    model = smp.FPN("mobilenet_v2", encoder_weights=None, classes=11)
    model.to(memory_format=torch.channels_last).train()
    optimizer = torch.optim.AdamW(model.parameters(), lr=5e-4)
    mean, std = (torch.tensor(x).view(1, 3, 1, 1) for x in ((0.485, 0.456, 0.406), (0.229,) * 3))
    batches = DataLoader(Batches(root, crop_px), batch_size=None, num_workers=1)
    times = []
    for images, labels in batches:
        images = ((images.float() / 255 - mean) / std).to(memory_format=torch.channels_last)
        with torch.autocast("cpu", dtype=torch.bfloat16):
            loss = F.cross_entropy(model(images), labels)
        optimizer.zero_grad()
        loss.backward()  # type: ignore[no-untyped-call]
        optimizer.step()
        times.append(time.perf_counter())
        if len(times) == steps:
            break
    return times


def run_ours(root: Path, crop_px: tuple[int, int], steps: int, loss: str) -> list[float]:
    """Train with softiou, and return the time after each step."""
    settings = {
        "data.crop_px": list(crop_px),
        "data.scale": list(SCALE),
        "data.colour": COLOUR,
        "data.batch_size": BATCH,
        "data.workers": 1,
        "model.architecture": "fpn",
        "model.encoder": "mobilenet_v2",
        "model.encoder_weights": "none",
        "optim.steps": steps,
        "optim.validations": 1,
        "precision": "bf16",
    }
    overrides = [*(f"{key}={value}" for key, value in settings.items()), loss]
    clock = Clock()
    with TemporaryDirectory() as run:
        start_training(
            load_config(source=str(root), overrides=overrides),
            directory=Path(run) / "run",
            custom=CustomParts(callbacks=[clock]),
        )
    return clock.times


def measure(steps: int, turns: int) -> dict[str, Any]:
    """Return the steps per second of each, and the ratios to the plain loop."""
    size, crop_px = SIZES[SIZE]
    rates: dict[str, list[float]] = {}
    with TemporaryDirectory() as folder:
        root = Path(folder)
        write_images(root, size, count=32)
        methods: dict[str, Callable[[], list[float]]] = {
            "plain loop": lambda: run_plain(root, crop_px, steps),
            "softiou, default loss": lambda: run_ours(
                root, crop_px, steps, "loss.cross_entropy=0.25"
            ),
            "softiou, cross-entropy": lambda: run_ours(
                root, crop_px, steps, "loss.cross_entropy=1"
            ),
        }
        for _ in range(turns):
            for name, run in methods.items():
                taken = float(np.median(np.diff(run()[WARM_UP:])))
                rates.setdefault(name, []).append(1 / taken)
                print(f"{name}: {1 / taken:.2f} steps a second", flush=True)
    base = rates["plain loop"]
    found: dict[str, Any] = {}
    for name, own in rates.items():
        ratios = [x / y for x, y in zip(own, base, strict=True)]
        low, high = np.quantile(ratios, (0.25, 0.75))
        found[name] = {
            "steps_per_second": round(median(own), 2),
            "ratio": round(median(ratios), 3),
            "quartiles": [round(float(low), 3), round(float(high), 3)],
        }
    return found


def main() -> None:
    """Measure and write the result."""
    parser = argparse.ArgumentParser(description="Training steps, compared with a plain loop.")
    parser.add_argument("--steps", type=int, default=60, help="steps in a turn")
    parser.add_argument("--turns", type=int, default=9)
    parser.add_argument("--threads", type=int, default=1)
    options = parser.parse_args()
    torch.set_num_threads(options.threads)
    found = measure(options.steps, options.turns)
    print(found)
    settings = {"threads": options.threads, "batch": BATCH, "crop_px": SIZES[SIZE][1]}
    save(RESULT, measured_on() | settings | {"turns": options.turns, "methods": found})


if __name__ == "__main__":
    main()
