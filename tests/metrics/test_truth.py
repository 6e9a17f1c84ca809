from dataclasses import dataclass

import pytest
import torch
from torch import Tensor

from softiou.metrics.images import ImageSums
from softiou.metrics.truth import Truth, read_answers, read_truth
from softiou.targets import smooth


def test_labels_and_probabilities_tell_the_same_of_hard_truth() -> None:
    labels = torch.tensor([[0, 2, 1, 255]])
    one_hot = torch.nn.functional.one_hot(labels.clamp(max=2), 3).mT.float()
    one_hot[..., 3] = 255
    found = [
        read_truth(target, num_classes=3, space=(4,), ignore_index=255, valid=None)
        for target in (labels, one_hot)
    ]
    for truth in found:
        assert truth.counts.tolist() == [[True, True, True, False]]
        assert truth.top_labels()[:, :3].tolist() == [[0, 2, 1]]
        assert truth.of_class(2)[:, :3].tolist() == [[0, 1, 0]]
        assert truth.of_classes(torch.tensor([[0, 1, 1, 0]]))[:, :3].tolist() == [[1, 0, 1]]
        assert truth.of_class(0).dtype == torch.float64


def test_targets_are_written_out() -> None:
    valid = torch.tensor([[True, False]])
    truth = read_truth(
        smooth(torch.tensor([[0, 1]]), 0.5),
        num_classes=2,
        space=(2,),
        ignore_index=None,
        valid=valid,
    )
    assert truth.of_class(0).tolist() == [[0.75, 0.25]]
    assert truth.counts.tolist() == [[True, False]]


def test_labels_of_a_single_class_are_answers() -> None:
    truth = read_answers(
        torch.tensor([[0, 1, 255]]), shape=(1, 1, 3), ignore_index=None, valid=None
    )
    assert truth.answers().tolist() == [[[False, True, False]]]
    assert truth.counts.tolist() == [[[True, True, False]]]


def test_labels_are_no_answers_and_answers_have_no_label() -> None:
    counts = torch.ones(1, 2, dtype=torch.bool)
    with pytest.raises(RuntimeError, match="not answers"):
        Truth(torch.zeros(1, 2).long(), None, counts).answers()
    with pytest.raises(RuntimeError, match="no label"):
        Truth(None, torch.zeros(1, 1, 2), counts.unsqueeze(1)).top_labels()


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
