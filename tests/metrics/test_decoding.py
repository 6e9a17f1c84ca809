from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from softiou.metrics.decoding import DecodedTarget, decode_independent, decode_target
from softiou.metrics.image_sums import ImageSums
from softiou.targets import smooth


def test_labels_and_probabilities_tell_the_same_of_hard_truth() -> None:
    labels = torch.tensor([[0, 2, 1, 255]])
    one_hot = torch.nn.functional.one_hot(labels.clamp(max=2), 3).mT.float()
    one_hot[..., 3] = 255
    found = [
        decode_target(target, num_classes=3, space=(4,), ignore_index=255, valid=None)
        for target in (labels, one_hot)
    ]
    for truth in found:
        assert truth.valid.tolist() == [[True, True, True, False]]
        assert truth.top_labels()[:, :3].tolist() == [[0, 2, 1]]
        assert truth.of_class(2)[:, :3].tolist() == [[0, 1, 0]]
        assert truth.of_classes(torch.tensor([[0, 1, 1, 0]]))[:, :3].tolist() == [[1, 0, 1]]
        assert truth.of_class(0).dtype == torch.float64


def test_targets_are_written_out() -> None:
    valid = torch.tensor([[True, False]])
    truth = decode_target(
        smooth(torch.tensor([[0, 1]]), 0.5),
        num_classes=2,
        space=(2,),
        ignore_index=None,
        valid=valid,
    )
    assert truth.of_class(0).tolist() == [[0.75, 0.25]]
    assert truth.valid.tolist() == [[True, False]]


def test_labels_of_a_single_class_are_presences() -> None:
    truth = decode_independent(
        torch.tensor([[0, 1, 255]]), shape=(1, 1, 3), ignore_index=255, valid=None
    )
    assert truth.is_present().tolist() == [[[False, True, False]]]
    assert truth.valid.tolist() == [[[True, True, False]]]


def test_labels_and_independent_classes_are_told_apart() -> None:
    counts = torch.ones(1, 2, dtype=torch.bool)
    with pytest.raises(RuntimeError, match="not independent"):
        DecodedTarget(torch.zeros(1, 2).long(), None, counts).is_present()
    with pytest.raises(RuntimeError, match="no label"):
        DecodedTarget(None, torch.zeros(1, 1, 2), counts.unsqueeze(1)).top_labels()


@dataclass(frozen=True)
class Inner(ImageSums):
    a: Tensor
    b: Tensor | None = None


@dataclass(frozen=True)
class Outer(ImageSums):
    inner: Inner
    c: Tensor


def test_sums_within_sums_and_parts_that_are_not_there() -> None:
    sums = Outer(Inner(torch.tensor([1, 2])), torch.tensor([[3.0], [4.0]]))
    assert {k: v.tolist() for k, v in sums.tensors().items()} == {
        "inner_a": [1, 2],
        "c": [[3.0], [4.0]],
    }
    merged = sums.merge_images()
    assert merged.inner.b is None
    assert (merged.inner.a.tolist(), merged.c.tolist()) == ([3], [[7.0]])
