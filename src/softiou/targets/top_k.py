"""Sparse targets: the K most probable classes of each pixel, optionally quantised.

Shapes: N images, K classes kept, C classes, *S space, T pixels of a tile.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from softiou import _checks
from softiou.targets.base import SoftTile, Target
from softiou.tiles import Tile


@dataclass(frozen=True)
class SparseTarget(Target):
    """The K most probable classes of each pixel; the remaining mass is spread over all classes.

        y_c = sum_k w_k [c = i_k] + (1 - sum_k w_k) / C

    If the remaining mass is within the rounding error of the weights (1e-6, the epsilon of a
    half-precision dtype, min(K, 4) / 510 for uint8), the weights are divided by their sum instead.

    Args:
        indices: Class indices i (N, K, *S), any integer dtype. A pixel with an index out of range
            is ignored; if only some of its K indices are out of range, `validate` raises.
        weights: Probabilities w (N, K, *S) of these classes, floating, or uint8 in steps of 1/255;
            their sum over K is at most 1.
    """

    indices: Tensor
    weights: Tensor

    def __post_init__(self) -> None:
        _checks.dense_tensor("indices", self.indices)
        _checks.dense_tensor("weights", self.weights)
        if self.indices.shape != self.weights.shape or self.indices.ndim < 3:
            raise ValueError(
                f"Expected `indices` and `weights` to have the same shape (N, K, *S), but got "
                f"{tuple(self.indices.shape)} and {tuple(self.weights.shape)}."
            )
        if self.indices.is_floating_point():
            raise TypeError(
                f"Expected `indices` to have an integer dtype, but got {self.indices.dtype}."
            )
        if not (self.weights.is_floating_point() or self.weights.dtype == torch.uint8):
            raise TypeError(
                f"Expected `weights` to be floating or uint8, but got {self.weights.dtype}."
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (N, *S)."""
        return (self.indices.shape[0], *self.indices.shape[2:])

    def read(self, tile: Tile, num_classes: int, dtype: torch.dtype) -> SoftTile:
        """Return the probabilities (C, T)."""
        indices, weights = tile.of_each(self.indices).long(), tile.of_each(self.weights).to(dtype)
        if self.weights.dtype == torch.uint8:
            weights = weights / 255
        known = (indices >= 0) & (indices < num_classes)
        # Spreading a rounding error over all classes would make every class present.
        total = weights.sum(0)
        whole = total > 1 - self.rounding
        weights = torch.where(whole, weights / torch.where(whole, total, 1.0), weights)
        rest = torch.where(whole, 0.0, (1 - total) / num_classes)
        y = rest.expand(num_classes, -1).contiguous()
        y.scatter_add_(0, torch.where(known, indices, 0), torch.where(known, weights, 0.0))
        return SoftTile(y, known.all(0))

    @property
    def rounding(self) -> float:
        """Return how far the sum of rounded weights may be from 1."""
        if self.weights.dtype == torch.uint8:  # half a step each, rarely all in the same direction
            return min(self.weights.shape[1], 4) / 510 + 1e-6
        return max(torch.finfo(self.weights.dtype).eps, 1e-6)

    def validate(self, num_classes: int, valid: Tensor | None = None) -> None:
        """Raise a ValueError for indices out of range, negative weights and sums above 1."""
        indices, weights = self.indices.long(), self.weights.double()
        if self.weights.dtype == torch.uint8:
            weights = weights / 255
        wrong = (indices < 0) | (indices >= num_classes)
        wrong &= ~wrong.all(1, keepdim=True)  # all indices out of range: an ignored pixel
        # Each byte may have been rounded up by half a step.
        slack = 1e-2 if self.weights.is_floating_point() else 1e-6 + weights.shape[1] / 510
        strange = ~((weights >= 0) & (weights.sum(1, keepdim=True) < 1 + slack))
        if valid is not None:
            wrong, strange = wrong & valid.unsqueeze(1), strange & valid.unsqueeze(1)
        if bool(wrong.any()):
            raise ValueError(
                f"Expected `indices` to be classes in [0, {num_classes - 1}], but found "
                f"{torch.unique(indices[wrong]).tolist()[:10]}."
            )
        if bool(strange.any()):
            raise ValueError(
                "Expected `weights` to be at least 0 with a sum of at most 1 over K, but found "
                f"a pixel with {weights.movedim(1, -1)[strange.any(1)][0].tolist()}."
            )
