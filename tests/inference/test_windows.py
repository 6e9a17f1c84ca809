"""Windows along an axis: where they lie and how they are blended."""

import math

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st

from softiou.inference.views import windows_along


@pytest.mark.parametrize(
    ("length", "window_px", "overlap", "starts"),
    [
        (10, 4, 0.5, (0, 2, 4, 6)),
        (10, 4, 0.0, (0, 4, 6)),  # the last one is shifted inside
        (10, 4, 0.25, (0, 3, 6)),
        (8, 4, 0.0, (0, 4)),
        (4, 4, 0.5, (0,)),
        (3, 4, 0.5, (0,)),  # smaller than the window
        (1, 1, 0.5, (0,)),
        (5, 2, 0.9, (0, 1, 2, 3)),  # a step of at least one pixel
    ],
)
def test_windows_lie_where_they_should(
    length: int, window_px: int, overlap: float, starts: tuple[int, ...]
) -> None:
    windows = windows_along(length, window_px, overlap)
    assert windows.starts == starts
    assert windows.length == min(window_px, length)
    assert windows.ends == (*starts[1:], length)


@given(st.integers(1, 300), st.integers(1, 120), st.floats(0, 0.95))
def test_every_pixel_is_seen_and_its_weights_sum_to_one(
    length: int, window_px: int, overlap: float
) -> None:
    windows = windows_along(length, window_px, overlap)
    total = torch.zeros(length)
    for start, end, weights in zip(windows.starts, windows.ends, windows.weights, strict=True):
        assert 0 <= start < end <= start + windows.length <= length
        total[start : start + windows.length] += weights
    torch.testing.assert_close(total, torch.ones(length), rtol=0, atol=1e-6)
    assert windows.weights.min() > 0
    assert list(windows.starts) == sorted(set(windows.starts))


def test_weights_by_hand() -> None:
    """Two windows of 4 over 6 pixels: sin^2 of 1/8, 3/8, 5/8 and 7/8 of pi, normalised."""
    weights = windows_along(6, 4, 0.5).weights
    low, high = (math.sin(math.pi * share) ** 2 for share in (1 / 8, 3 / 8))
    assert low + high == pytest.approx(1)
    torch.testing.assert_close(weights[0], torch.tensor([1, 1, high, low]))
    torch.testing.assert_close(weights[1], torch.tensor([low, high, 1, 1]))


def test_weights_are_highest_far_from_the_border() -> None:
    weights = windows_along(64, 16, 0.5).weights[2]
    assert weights.argmax() in (7, 8)
    torch.testing.assert_close(weights, weights.flip(0))
    assert (weights[:8].diff() > 0).all()
