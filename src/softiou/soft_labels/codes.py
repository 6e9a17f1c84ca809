"""Soft labels as bytes: sparse, quantised probabilities.

The most probable class of a pixel is stored as an index, and each other relevant class as one byte;
the most probable class gets the remaining probability. The bytes q are on a square-root scale,
because errors of small probabilities affect the IoU of rare classes most:

    p_c = (q_c / levels)^2 / 2        for the others, which are at most 1/2
    R   = (q_R / levels)^2            spread evenly over all classes, if more than `k` matter
    p_b = 1 - R - sum of the others   for the most probable class b

Shapes: C classes, K of a pixel's slots, P byte maps, (h, w) the cells of the grid.
"""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from softiou._checks import in_range

Bytes: TypeAlias = NDArray[np.uint8]

# softmaxes in half precision sum to one within this tolerance
_SUM_TOLERANCE = 0.02


@dataclass(frozen=True)
class Quantisation:
    """Settings of the quantisation of a teacher's probabilities.

    Args:
        stride: Side of a cell in pixels; 1 keeps the full resolution.
        k: Maximum number of classes per cell; the remaining mass is spread evenly. "auto" keeps all
            classes above (1 - mass) / C, and gives the rest to the most probable one.
        mass: With k = "auto", the minimum share of the probability kept in each cell.
        levels: Quantisation levels between 0 and 1/2; fewer levels need less disk space.

    Raises:
        ValueError: An argument is out of range.
    """

    stride: int = 1
    k: int | Literal["auto"] = "auto"
    mass: float = 0.995
    levels: int = 58

    def __post_init__(self) -> None:
        in_range("stride", self.stride, 1)
        if self.k != "auto":
            in_range("k", self.k, 1)
        in_range("mass", self.mass, 0, 1)
        in_range("levels", self.levels, 1, 255)

    def grid_size(self, image_size: Sequence[int]) -> tuple[int, int]:
        """Return the grid size (h, w) for an image of size (H, W)."""
        height, width = image_size
        return math.ceil(height / self.stride), math.ceil(width / self.stride)


@dataclass(frozen=True)
class Codes:
    """The probabilities of one image as bytes."""

    # The most probable class (h, w); uint8, or uint16 above 255 classes.
    best: NDArray[np.uint8] | NDArray[np.uint16]
    levels: Bytes  # the bytes q (P, h, w) of the other classes
    classes: tuple[int, ...]  # the class of each byte map; C is the rest R


def no_class(num_classes: int) -> int:
    """Return the class index of padding cells: the largest value of the dtype."""
    return 255 if num_classes <= 255 else 65535


def encode(probs: Tensor, quantisation: Quantisation) -> Codes:
    """Encode probabilities, floating (C, h, w) with sum 1 over C; raise ValueError for others."""
    probs = _checked(probs)
    num_classes = probs.shape[0]
    best = probs.argmax(0, keepdim=True)
    kept = _kept(probs, quantisation)
    rest = torch.zeros_like(probs[:1])
    if quantisation.k != "auto":
        lost = probs.where(~kept, 0.0).sum(0, keepdim=True)
        # the rest is spread over all classes, so scale it to keep the sum over the lost classes
        rest = lost * num_classes / (~kept).sum(0, keepdim=True).clamp(min=1)
    rest_level = (quantisation.levels * rest.sqrt()).round()
    share = (rest_level / quantisation.levels).square() / num_classes
    others = (probs - share).clamp(min=0).where(kept, 0.0).scatter(0, best, 0.0)
    exact = quantisation.levels * (2 * others).sqrt()
    level = exact.round()
    # rounding up many small values could make the largest probability negative
    too_much = (level / quantisation.levels).square().sum(0) / 2 + share[0] * num_classes > 1
    level = torch.where(too_much, exact.floor(), level)
    codes = torch.cat([level, rest_level]).clamp(max=255).to(torch.uint8)  # (C + 1, h, w)
    used = codes.flatten(1).any(1).nonzero().flatten()
    indices = best[0].cpu().numpy()
    return Codes(
        indices.astype(np.uint8) if num_classes <= 255 else indices.astype(np.uint16),
        codes[used].cpu().numpy(),
        tuple(used.tolist()),
    )


def _checked(probs: Tensor) -> Tensor:
    """Return float32 probabilities, normalised to sum 1; raise for invalid ones."""
    if not probs.is_floating_point() or probs.ndim != 3:
        raise ValueError(
            f"Expected `probs` to be floating (C, h, w), but got {tuple(probs.shape)} of "
            f"{probs.dtype}."
        )
    probs = probs.detach().float()
    total = probs.sum(0, keepdim=True)
    # NaN fails these comparisons as well
    if not bool((probs >= 0).all() & ((total - 1).abs() < _SUM_TOLERANCE).all()):
        raise ValueError(
            f"Expected `probs` to be probabilities that sum to 1 over the classes, but found "
            f"values in [{probs.amin():g}, {probs.amax():g}] with sums in [{total.amin():g}, "
            f"{total.amax():g}]. Apply `softmax(0)` to logits; NaN means that the teacher diverged."
        )
    return probs / total


def _kept(probs: Tensor, quantisation: Quantisation) -> Tensor:
    """Return whether each class is kept in each cell (C, h, w)."""
    if quantisation.k == "auto":
        # One threshold for all cells needs fewer bytes for the same IoU than the smallest set of
        # each cell with the required mass.
        return probs >= (1 - quantisation.mass) / probs.shape[0]
    places = probs.topk(min(quantisation.k, probs.shape[0]), dim=0).indices
    return torch.zeros_like(probs, dtype=torch.bool).scatter(0, places, True)


def sparse(codes: Codes, num_classes: int, quantisation: Quantisation) -> tuple[Tensor, Tensor]:
    """Return the classes and weights of a `SparseTarget`, without the image dimension.

    Returns:
        indices: (K, h, w), uint8 or uint16: the most probable class, then one slot for each class
            that any cell keeps. In padding cells, all slots have no class.
        weights: float32 (K, h, w), in [0, 1]; 0 in slots that a cell does not use.
    """
    scale = (np.arange(256, dtype=np.float32) / quantisation.levels) ** 2
    # omit classes that no cell of this part keeps
    used = [i for i in np.flatnonzero(codes.levels.any((1, 2))) if codes.classes[i] != num_classes]
    shape = (len(used) + 1, *codes.best.shape)
    indices, nothing = np.empty(shape, codes.best.dtype), no_class(num_classes)
    weights = np.empty(shape, np.float32)
    indices[0], weights[0] = codes.best, 1
    if num_classes in codes.classes:
        weights[0] -= scale[codes.levels[codes.classes.index(num_classes)]]
    for slot, place in enumerate(used, start=1):
        indices[slot] = np.where(codes.best == nothing, nothing, codes.classes[place])
        np.take(scale / 2, codes.levels[place], out=weights[slot], mode="clip")
        weights[0] -= weights[slot]
    np.maximum(weights[0], 0, out=weights[0])
    return torch.from_numpy(indices), torch.from_numpy(weights)


def decode(label: tuple[Tensor, Tensor], num_classes: int) -> Tensor:
    """Return the probabilities float32 (C, h, w) of indices and weights (K, h, w).

        y_c = sum_k w_k [c = i_k] + (1 - sum_k w_k) / C        as in `SparseTarget`

    Example:
        >>> label = torch.tensor([[[2]], [[0]]]), torch.tensor([[[0.5]], [[0.2]]])
        >>> decode(label, 3).flatten()
        tensor([0.3000, 0.1000, 0.6000])
    """
    indices, weights = label
    rest = (1 - weights.sum(0)).clamp(min=0) / num_classes
    return rest.repeat(num_classes, 1, 1).scatter_add_(0, indices.long(), weights)
