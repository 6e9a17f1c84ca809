"""Gaussian-weighted averages of the labels around each pixel.

Shapes: N images, C classes, *S space, T pixels of a tile.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product

import torch
from torch import Tensor

from softiou import _checks
from softiou.targets.base import SoftTile
from softiou.targets.hard import LabelsTarget, check_labels, labels_around, valid_labels
from softiou.tiles import Tile


@dataclass(frozen=True)
class GaussianTarget(LabelsTarget):
    """Gaussian-weighted average of the labels (N, *S) in a window around each pixel.

        y_c(s) = sum_o w_o [label(s + o) = c] / sum_o w_o [label(s + o) is valid]
        w_o = exp(-|o|^2 / (2 sigma^2)) for o != 0        w_0 = sum of all other w_o

    with the offsets o in [-width, width]^d. The weight w_0 gives the pixel's own label a
    probability of at least 1/2. Pixels whose window contains one class do not change.
    `SmoothedTarget` gives probability to all classes, this target only to those in the window.
    Ignored neighbours and those outside the image have no weight; neighbours that are left out by
    `valid` of the loss do have weight.

    Args:
        labels: Class indices (N, *S), any integer dtype. For a single class, label 1 is the class.
        sigma: Standard deviation of the Gaussian in pixels, above 0. Near 0, only the nearest
            neighbours have weight.
        width: Pixels on each side of the window along every axis, at least 1.
        ignore_index: Label of ignored pixels; None uses that of the loss, if it has one.

    References:
        Islam, Glocker, Spatially Varying Label Smoothing: Capturing Uncertainty from Expert
        Annotations, IPMI 2021, arXiv 2104.05788. The paper pads the labels by replication.
    """

    labels: Tensor
    sigma: float = 1.0
    width: int = 1
    ignore_index: int | None = None

    def __post_init__(self) -> None:
        check_labels(self.labels, "Probabilities cannot be smoothed.")
        _checks.in_range("width", self.width, 1)
        if not self.sigma > 0:
            raise ValueError(
                f"Expected `sigma` to be greater than 0, but got {self.sigma}. For labels without "
                "smoothing, use HardTarget."
            )

    def read(self, tile: Tile, num_classes: int, dtype: torch.dtype) -> SoftTile:
        """Return the weighted averages of the labels (C, T)."""
        C, width = max(num_classes, 2), self.width
        around = labels_around(self.labels, tile, width)
        valid = valid_labels(around, num_classes=C, ignore_index=self.ignore_index)
        index = around.where(valid, 0)
        box = [part.stop - part.start for part in tile.box]
        y = index.new_zeros((C, tile.pixels), dtype=dtype)  # under vmap it has a batch, too
        for offset, weight in gaussian_weights(self.sigma, width, len(box)):
            there = tuple(
                slice(width + o, width + o + size) for o, size in zip(offset, box, strict=True)
            )
            vote = valid[there].to(dtype).mul_(weight)
            y.scatter_add_(0, index[there].reshape(1, -1), vote.reshape(1, -1))
        own = valid[(slice(width, -width),) * len(box)].reshape(-1)
        mass = torch.where(own, y.sum(0), 1.0)
        return SoftTile(y[-num_classes:] / mass, own)


def gaussian_weights(
    sigma: float, width: int, dimensions: int
) -> Iterator[tuple[tuple[int, ...], float]]:
    """Yield the offsets of the window and their weights, the centre last."""
    centre, total = (0,) * dimensions, 0.0
    for offset in product(range(-width, width + 1), repeat=dimensions):
        if offset != centre:
            # Relative to the nearest neighbours, so that a tiny sigma does not make all weights 0.
            far = sum(o * o for o in offset) - 1
            weight = math.exp(-far / sigma / sigma / 2)
            total += weight
            yield offset, weight
    yield centre, total
