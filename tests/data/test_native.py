"""Masks and colours in C: the same as NumPy and torchvision."""

import numpy as np
import pytest
import torch
from torchvision.transforms import v2

from softiou._native import load_library
from softiou.data import native

pytestmark = pytest.mark.skipif(isinstance(load_library("data"), str), reason="no C library")


@pytest.mark.parametrize("bands", [1, 3])
def test_colours_are_those_of_torchvision_rounded_once(bands: int) -> None:
    image = torch.randint(100, 150, (20, 30, bands), dtype=torch.uint8).permute(2, 0, 1)
    for seed in range(20):
        torch.manual_seed(seed)
        found = native.jittered(image, 0.3)
        state = torch.get_rng_state()
        torch.manual_seed(seed)
        expected = v2.ColorJitter(0.3, 0.3, 0.3)(image.float() / 255) * 255
        assert torch.equal(torch.get_rng_state(), state)
        assert found.is_contiguous()
        unclipped = (expected > 0.01) & (expected < 254.99)
        assert (found - expected)[unclipped].abs().max() <= 0.501


def test_numbers_are_the_distinct_ones() -> None:
    for dtype in (np.uint8, np.int32):
        raw = np.array([[3, 0], [255, 3]], dtype)
        assert native.numbers_in(raw).tolist() == [0, 3, 255]
        assert native.numbers_in(raw[:, 1:]).tolist() == [0, 3]
