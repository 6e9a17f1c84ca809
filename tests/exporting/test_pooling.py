"""Adaptive pooling with matrices is that of torch."""

import pytest
import torch
from torch import nn

from softiou.exporting.tracing import AdaptivePooling, use_adaptive_pooling


def test_values_by_hand() -> None:
    maps = torch.tensor([[[[1.0, 2.0, 3.0], [5.0, 6.0, 7.0]]]])
    # Three columns to two cells: the one in the middle is in both.
    assert AdaptivePooling(1, 2)(maps).tolist() == [[[[3.5, 4.5]]]]


@pytest.mark.parametrize("cells", [(6, 6), (2, 3), (1, 5)])
@pytest.mark.parametrize("size", [(1, 1), (3, 5), (7, 11), (24, 18), (45, 60)])
def test_values_of_torch(cells: tuple[int, int], size: tuple[int, int]) -> None:
    maps = torch.randn(2, 4, *size, dtype=torch.float64)
    expected = nn.AdaptiveAvgPool2d(cells)(maps)
    torch.testing.assert_close(AdaptivePooling(*cells)(maps), expected)


def test_poolings_inside_a_model_are_replaced() -> None:
    poolings = [nn.AdaptiveAvgPool2d(size) for size in (6, (2, 3), 1, (None, 2))]
    model = nn.Sequential(nn.Sequential(*poolings[:2]), *poolings[2:], nn.ReLU())
    maps = torch.randn(1, 2, 9, 7)
    before = [pooling(maps) for pooling in poolings]
    use_adaptive_pooling(model)
    for pooling, expected in zip(poolings, before, strict=True):
        torch.testing.assert_close(pooling(maps), expected)
    assert ["forward" in vars(pooling) for pooling in poolings] == [True, True, False, False]
