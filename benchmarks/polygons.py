"""Measure the time of coverage labels of 50 polygons at 512 x 512 pixels, on one core.

    python -m benchmarks.polygons

Eight classes, 40 points per polygon, diameters of 20 to 180 pixels, overlapping. Writes
benchmarks/results/loading/polygons.json.
"""

import time
from pathlib import Path
from statistics import quantiles

import numpy as np
import torch

from benchmarks._machine import measured_on, save
from benchmarks.loading import RESULT
from softiou.data.drawings import Drawing, Legend, Shape
from softiou.data.views import View

CLASSES, POLYGONS, POINTS, SIDE, ROUNDS = 8, 50, 40, 512, 200


def drawing() -> Drawing:
    """Return random polygons without crossings."""
    random = np.random.default_rng(0)
    shapes = []
    for number in range(POLYGONS):
        angles = np.sort(random.uniform(0, 2 * np.pi, POINTS))
        radius = random.uniform(10, 90) * random.uniform(0.7, 1, POINTS)
        points = np.stack([np.cos(angles), np.sin(angles)], 1) * radius[:, None]
        ring = (points + random.uniform(0, SIDE, 2)).astype(np.float32)
        shapes.append(Shape(str(number % CLASSES), (ring,)))
    legend = Legend({str(label): label for label in range(CLASSES)}, CLASSES, ignore_index=255)
    return Drawing(Path("a.json"), Path("a.jpg"), (SIDE, SIDE), tuple(shapes), legend)


def main() -> None:
    """Measure, and write the result."""
    torch.set_num_threads(1)
    drawn, size = drawing(), (SIDE, SIDE)
    view = View(0, 0, *size, size)
    seconds = []
    for _ in range(ROUNDS):
        begin = time.perf_counter()
        drawn.shares(view, size)
        seconds.append(time.perf_counter() - begin)
    low, middle, high = (round(1000 * value, 2) for value in quantiles(seconds, n=4))
    print(f"{middle} ms ({low} to {high})")
    found = {"unit": "ms, median and quartiles", "ms": [middle, low, high]}
    save(RESULT.with_name("polygons.json"), measured_on() | found)


if __name__ == "__main__":
    main()
