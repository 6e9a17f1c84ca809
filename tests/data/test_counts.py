"""Counting the pixels of classes."""

import pytest
import torch

from softiou.data import DatasetDescription, base


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_classes_are_counted_in_pieces(monkeypatch: pytest.MonkeyPatch, dtype: torch.dtype) -> None:
    monkeypatch.setattr(base, "_PIECE_PX", 4)
    labels = torch.tensor([[[0, 2, 255], [2, 2, 0], [255, 255, 2]]], dtype=dtype)
    counts = base.count_classes(labels, DatasetDescription(("a", "b", "c", "d")))
    assert counts.tolist() == [2, 0, 4, 0]
