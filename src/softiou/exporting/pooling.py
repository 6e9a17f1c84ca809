"""Adaptive pooling for exported programs that take images of any size."""

import torch
from torch import Tensor, nn


class AdaptivePooling(nn.Module):
    """`nn.AdaptiveAvgPool2d` to (rows, columns) cells as two products with matrices, for any size.

        y = A_H x A_W^T
        A_L[i, k] = 1 / n_i  for k in [floor(i L / S), ceil((i + 1) L / S)), else 0

    S is the number of cells along an axis, L the length of the map and n_i that of the
    interval. In a traced program the original layer would keep the lengths of the example.
    """

    def __init__(self, rows: int, columns: int) -> None:
        super().__init__()
        self.rows = rows
        self.columns = columns

    def forward(self, maps: Tensor) -> Tensor:
        """Pool maps (N, C, H, W) to (N, C, rows, columns)."""
        down = _averages(self.rows, maps.shape[-2], like=maps)
        across = _averages(self.columns, maps.shape[-1], like=maps)
        return down @ maps @ across.mT


def _averages(cells: int, length: int, *, like: Tensor) -> Tensor:
    """Return A (cells, length)."""
    cell = torch.arange(cells, device=like.device).unsqueeze(1)
    place = torch.arange(length, device=like.device)
    # No number is negative, so division rounds down everywhere.
    first, behind = cell * length // cells, ((cell + 1) * length + cells - 1) // cells
    inside = ((place >= first) & (place < behind)).to(like.dtype)
    return inside / (behind - first).to(like.dtype)


def use_adaptive_pooling(model: nn.Module) -> None:
    """Replace the forward of the adaptive poolings to more than one cell inside a model.

    The modules stay, because transformers also keeps some in lists, where they are not replaced.
    """
    for module in model.modules():
        if isinstance(module, nn.AdaptiveAvgPool2d):
            size = module.output_size
            rows, columns = size if isinstance(size, tuple) else (size, size)
            if rows and columns and (rows, columns) != (1, 1):
                module.__dict__["forward"] = AdaptivePooling(rows, columns).forward
