"""Regions where a confident model contradicts the labels."""

import pytest
import torch

from softiou.evaluation.schema import Suspect
from softiou.evaluation.suspects import suspect_regions


def test_regions_by_hand() -> None:
    target = torch.zeros(40, 60, dtype=torch.int64)
    preds = torch.zeros_like(target)
    confidence = torch.full((40, 60), 0.95)
    preds[2:12, 3:23] = 1  # 200 pixels, sure
    preds[20:28, 30:40] = 2  # 80 pixels, sure
    preds[30:40, 0:20] = 1  # unsure
    confidence[30:40, 0:20] = 0.85
    preds[15:19, :] = 1  # 4 pixels narrow: an edge
    preds[30:40, 45:60] = 2  # ignored
    target[30:40, 45:60] = 255
    found = suspect_regions(target, preds, confidence, 3)
    assert [(one["target"], one["preds"], one["pixels"], one["box"]) for one in found] == [
        (0, 1, 200, [2, 3, 12, 23]),
        (0, 2, 80, [20, 30, 28, 40]),
    ]
    assert found[0]["confidence"] == pytest.approx(95)
    assert Suspect(**found[1]).weight == pytest.approx(0.95 * 80)


def test_region_of_several_classes_is_named_by_its_largest_pair() -> None:
    target = torch.zeros(20, 20, dtype=torch.int64)
    target[:, 10:] = 1
    preds = torch.full_like(target, 2)
    preds[:5, 10:] = 0
    (found,) = suspect_regions(target, preds, torch.ones(20, 20), 3)
    assert (found["target"], found["preds"], found["pixels"]) == (0, 2, 400)


def test_confidence_ranks_before_size_and_few_are_kept() -> None:
    target = torch.zeros(10, 80, dtype=torch.int64)
    preds, confidence = torch.zeros_like(target), torch.full((10, 80), 0.91)
    for n in range(7):
        preds[:, 11 * n : 11 * n + 8] = 1
    confidence[:, 33:41] = 1
    found = suspect_regions(target, preds, confidence, 2)
    assert len(found) == 5
    assert found[0]["box"] == [0, 33, 10, 41]


def test_nothing_is_suspect_where_model_and_labels_agree() -> None:
    target = torch.ones(8, 8, dtype=torch.int64)
    assert suspect_regions(target, target, torch.ones(8, 8), 2) == []
