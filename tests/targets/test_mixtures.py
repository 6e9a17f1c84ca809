import math
from typing import Any

import pytest
import torch
from torch import Tensor

from softiou.overlap import overlap_statistics
from softiou.targets import (
    DenseTarget,
    HardTarget,
    HardTile,
    MixedTarget,
    RegionTarget,
    SmoothedTarget,
    SoftTile,
    Target,
)
from softiou.tiles import Tile

NAN = math.nan
ROW = Tile(0, (slice(0, 3),))


def hard(*labels: int, ignore_index: int | None = 255) -> HardTarget:
    return HardTarget(torch.tensor([labels]), ignore_index)


def dense(*first: float, **options: Any) -> DenseTarget:
    """Two classes, of which the first has these probabilities."""
    y = torch.tensor(first, dtype=torch.float64)
    return DenseTarget(torch.stack([y, 1 - y]).unsqueeze(0), **options)


def found(target: Target, num_classes: int = 2) -> tuple[Tensor, Any]:
    read = target.dense(num_classes, torch.float64)
    return read.y[0], None if read.valid is None else read.valid[0].tolist()


# Mixtures by hand


def test_the_mean_by_hand() -> None:
    y, counts = found(MixedTarget((1.0, 3.0), (hard(0, 1), dense(0.2, 0.6))))
    expected = torch.tensor([[0.4, 0.45], [0.6, 0.55]], dtype=torch.float64)
    torch.testing.assert_close(y, expected)
    assert counts == [[True, True]]


def test_what_one_part_ignores_is_left_to_the_others() -> None:
    target = MixedTarget((0.5, 0.5), (hard(0, 255, 255, 1), hard(1, 1, 255, 255)))
    y, counts = found(target)
    assert counts == [[True, True, False, True]]
    assert y[:, [0, 1, 3]].tolist() == [[0.5, 0, 0], [0.5, 1, 1]]


def test_what_is_ignored_may_hold_anything() -> None:
    values = torch.tensor([[[0.5, NAN], [0.5, NAN]]], dtype=torch.float64)
    unknown = RegionTarget(DenseTarget(values), hard(255, 255), torch.tensor([[True, False]]))
    y, counts = found(MixedTarget((0.5, 0.5), (unknown, hard(0, 1))))
    assert y.tolist() == [[0.75, 0], [0.25, 1]]
    assert counts == [[True, True]]
    marked = DenseTarget(torch.tensor([[[-1.0, 0.5], [-1.0, 0.5]]]), -1)
    y, counts = found(MixedTarget((0.5, 0.5), (marked, hard(0, 1))))
    assert y.tolist() == [[1, 0.25], [0, 0.75]]


def test_a_part_without_a_share_says_nothing() -> None:
    nothing = DenseTarget(torch.full((1, 2, 2), NAN))
    y, counts = found(MixedTarget((0.0, 0.5), (nothing, hard(1, 255))))
    assert y[:, 0].tolist() == [0, 1]
    assert counts == [[True, False]]


def test_independent_classes_are_mixed_entry_by_entry() -> None:
    values = torch.tensor([[[1.0, 255.0], [255.0, 0.5]]], dtype=torch.float64)
    target = MixedTarget(
        (1.0, 1.0), (DenseTarget(values, 255, True), DenseTarget(values.flip(1), 255, True))
    )
    y, counts = found(target)
    assert counts == [[True, True], [True, True]]
    assert y.tolist() == [[1.0, 0.5], [1.0, 0.5]]
    y, counts = found(MixedTarget((1.0, 3.0), (DenseTarget(values, 255, True), hard(0, 255))))
    assert counts == [[True, False], [True, True]]
    assert [y[0, 0].item(), y[1, 0].item(), y[1, 1].item()] == [1.0, 0.0, 0.5]


def test_one_class_by_hand() -> None:
    target = MixedTarget((1.0, 1.0), (hard(0, 1, 255), DenseTarget(torch.full((1, 1, 3), 0.5))))
    y, counts = found(target, num_classes=1)
    assert y.tolist() == [[0.25, 0.75, 0.5]]
    assert counts == [[True, True, True]]


# Regions by hand


def test_pasted_by_hand() -> None:
    region = torch.tensor([[True, False, False]])
    y, counts = found(RegionTarget(dense(0.3, 0.3, 0.3), hard(1, 0, 255), region))
    assert y[:, :2].tolist() == [[0.3, 1], [0.7, 0]]
    assert counts == [[True, True, False]]
    y, counts = found(RegionTarget(hard(255, 0, 255), dense(0.3, 0.3, 0.3), region))
    assert y[:, 1:].tolist() == [[0.3, 0.3], [0.7, 0.7]]
    assert counts == [[False, True, True]]


def test_what_is_outside_may_hold_anything() -> None:
    region = torch.tensor([[True, False]])
    y, counts = found(RegionTarget(dense(0.25, NAN), dense(NAN, 0.5), region))
    assert y.tolist() == [[0.25, 0.5], [0.75, 0.5]]
    assert counts is None


def test_pasted_labels_stay_labels() -> None:
    inside = SmoothedTarget(torch.tensor([[1, 1, 1]]), 0.5)
    target = RegionTarget(inside, hard(0, 255, 0), torch.tensor([[True, False, False]]))
    read = target.read(ROW, 2, torch.float64)
    assert isinstance(read, HardTile)
    assert read.index.tolist() == [1, 0, 0]
    assert read.valid is not None
    assert read.valid.tolist() == [True, False, True]
    assert read.epsilon is not None
    assert read.epsilon.tolist() == [0.5, 0, 0]
    other = RegionTarget(target.outside, inside, torch.tensor([[True, False, False]]))
    read = other.read(ROW, 2, torch.float64)
    assert isinstance(read, HardTile)
    assert read.epsilon is not None
    assert read.epsilon.tolist() == [0, 0.5, 0.5]


def test_pasted_hard_labels_are_not_smoothed() -> None:
    target = RegionTarget(hard(0, 0, 0), hard(1, 1, 1), torch.tensor([[True, False, True]]))
    read = target.read(ROW, 2, torch.float64)
    assert isinstance(read, HardTile)
    assert read.epsilon is None
    assert read.index.tolist() == [0, 1, 0]


def test_labels_and_probabilities_become_probabilities() -> None:
    target = RegionTarget(hard(0, 0, 0), dense(0.5, 0.5, 0.5), torch.tensor([[True, False, True]]))
    assert isinstance(target.read(ROW, 2, torch.float64), SoftTile)


def test_the_classes_of_one_side_may_be_ignored_one_by_one() -> None:
    values = torch.tensor([[[0.25, 255.0], [255.0, 0.5]]], dtype=torch.float64)
    region = torch.tensor([[True, False]])
    y, counts = found(RegionTarget(DenseTarget(values, 255, True), hard(1, 1), region))
    assert counts == [[True, True], [False, True]]
    assert [y[0, 0].item(), y[0, 1].item(), y[1, 1].item()] == [0.25, 0, 1]


# Properties


def test_cutting_is_the_loss_of_the_two_parts() -> None:
    """With a region, the statistics are the sum of those inside and outside."""
    logits = torch.randn(2, 3, 5, 4, dtype=torch.float64)
    labels, probs = torch.randint(0, 3, (2, 5, 4)), torch.randn_like(logits).softmax(1)
    region = torch.rand(2, 5, 4) < 0.5
    target = RegionTarget(HardTarget(labels), DenseTarget(probs), region)
    for impl in ("torch", "chunked"):
        both = overlap_statistics(logits, target, impl=impl)
        inside = overlap_statistics(logits, labels, valid=region, impl=impl)
        outside = overlap_statistics(logits, probs, valid=~region, impl=impl)
        for name in ("P", "Y", "D", "M", "weight"):
            parts = getattr(inside, name) + getattr(outside, name)
            torch.testing.assert_close(getattr(both, name), parts)


def test_the_cross_entropy_of_a_mixture_is_the_mixture_of_cross_entropies() -> None:
    logits = torch.randn(2, 3, 7, dtype=torch.float64)
    one, other = (DenseTarget(torch.randn_like(logits).softmax(1)) for _ in range(2))
    for impl in ("torch", "chunked"):
        mixture, first, second = (
            overlap_statistics(logits, target, cross_entropy=True, impl=impl).cross_entropy
            for target in (MixedTarget((1.0, 3.0), (one, other)), one, other)
        )
        assert mixture is not None
        assert first is not None
        assert second is not None
        torch.testing.assert_close(mixture, 0.25 * first + 0.75 * second)


def test_shares_matter_in_proportion_alone() -> None:
    parts = (hard(0, 255, 1), dense(0.2, 0.3, 0.4))
    one, other = (found(MixedTarget(shares, parts)) for shares in ((0.1, 0.3), (5.0, 15.0)))
    torch.testing.assert_close(one[0], other[0])
    assert one[1] == other[1]


def test_a_mixture_of_one_is_that_one() -> None:
    y, counts = found(MixedTarget((0.7,), (dense(0.2, 0.3),)))
    torch.testing.assert_close(y, dense(0.2, 0.3).values[0])
    assert counts == [[True, True]]


def test_a_region_of_everything_or_nothing_is_one_of_the_two() -> None:
    inside, outside = dense(0.2, 0.3), hard(0, 1)
    full = torch.ones(1, 2, dtype=torch.bool)
    assert torch.equal(found(RegionTarget(inside, outside, full))[0], inside.values[0])
    assert found(RegionTarget(inside, outside, ~full))[0].tolist() == [[1, 0], [0, 1]]


# Errors


@pytest.mark.parametrize(
    ("shares", "parts", "message"),
    [
        ((), (), r"a share for each of the parts, but got 0 and 0"),
        ((0.5,), (hard(0), hard(1)), r"a share for each of the parts, but got 1 and 2"),
        ((0.5, -0.5), (hard(0), hard(1)), r"`shares` to be at least 0.0, but got -0.5"),
        ((0.5, NAN), (hard(0), hard(1)), r"`shares` to be at least 0.0, but got nan"),
        ((0.5, math.inf), (hard(0), hard(1)), r"`shares` to be finite, but got \(0.5, inf\)"),
        ((0.0, 0.0), (hard(0), hard(1)), r"`shares` to have a positive sum, but got \(0.0, 0.0\)"),
    ],
)
def test_shares_that_are_none_raise(shares: Any, parts: Any, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        MixedTarget(shares, parts)


def test_parts_of_other_shapes_raise() -> None:
    message = r"mixed targets to have the same shape \(N, \*S\), but got \[\(1, 2\), \(1, 3\)\]"
    region = torch.zeros(1, 2, dtype=torch.bool)
    for target in (
        MixedTarget((0.5, 0.5), (hard(0, 1), hard(0, 1, 1))),
        RegionTarget(hard(0, 1), hard(0, 1, 1), region),
    ):
        with pytest.raises(ValueError, match=message):
            overlap_statistics(torch.zeros(1, 3, 2), target)


def test_a_region_that_is_none_raises() -> None:
    inside, outside, logits = hard(0, 1), hard(1, 1), torch.zeros(1, 3, 2)
    with pytest.raises(TypeError, match=r"`region` to be bool, True .* but got dtype torch.int64"):
        overlap_statistics(logits, RegionTarget(inside, outside, torch.zeros(1, 2).long()))
    with pytest.raises(ValueError, match=r"`region` to have shape .* = \(1, 2\), but got \(2,\)"):
        overlap_statistics(logits, RegionTarget(inside, outside, torch.zeros(2).bool()))


# Contents, under validate


def test_a_region_is_checked_where_it_is_used() -> None:
    region = torch.tensor([[True, False]])
    RegionTarget(hard(0, 9), hard(9, 0), region).validate(2)
    for target in (hard(9, 0), hard(0, 9)):
        with pytest.raises(ValueError, match=r"found \[9\]"):
            RegionTarget(target, target, region).validate(2)
    RegionTarget(hard(9, 9), hard(0, 0), region).validate(2, torch.tensor([[False, True]]))
    with pytest.raises(ValueError, match=r"found \[9\]"):
        RegionTarget(hard(9, 9), hard(0, 0), region).validate(2, torch.tensor([[True, False]]))
