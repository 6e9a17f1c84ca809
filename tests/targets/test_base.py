"""What every target inherits: dense, completed, and how it travels as text and tensors."""

import json
import math
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from softiou.overlap import overlap_statistics
from softiou.targets import HardTarget, HardTile, RegionTarget, SoftTile, Target, TeacherTarget
from softiou.targets.base import pack, tensors_of, unpack
from softiou.tiles import Tile

LABELS, OTHERS = torch.tensor([[0, 1]]), torch.tensor([[1, 1]])


@dataclass(frozen=True)
class Noted(Target):
    """A target of the user's own with fields of every kind; class 0 everywhere."""

    covers: tuple[int, ...]
    values: Any = None
    # What counts in each image: None for everything, or one answer a pixel or an entry.
    counts: tuple[Any, ...] = ()
    ignore_index: int | None = None
    size: tuple[int, ...] | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        return self.covers

    def read(self, tile: Tile, num_classes: int, dtype: torch.dtype) -> SoftTile:
        y = torch.zeros(num_classes, tile.pixels, dtype=dtype)
        y[0] = 1
        return SoftTile(y, self.counts[tile.image] if self.counts else None)

    def validate(self, num_classes: int, valid: Tensor | None = None) -> None:
        raise NotImplementedError


# Reads, by hand


def test_smoothed_labels_by_hand() -> None:
    counts = torch.tensor([True, False])
    read = HardTile(torch.tensor([1, 0]), counts, torch.tensor([0.3, 0.0]))
    found = read.dense(3, torch.float64)
    expected = torch.tensor([[0.1, 1.0], [0.8, 0.0], [0.1, 0.0]], dtype=torch.float64)
    torch.testing.assert_close(found.y, expected, rtol=0, atol=1e-7)
    assert found.valid is counts


def test_probabilities_are_dense_already() -> None:
    read = SoftTile(torch.rand(2, 3))
    assert read.dense(2, torch.float32) is read


# Dense, by hand


def test_dense_asks_once_for_each_image(monkeypatch: pytest.MonkeyPatch) -> None:
    asked, read = [], Noted.read

    def listen(self: Noted, tile: Tile, num_classes: int, dtype: torch.dtype) -> SoftTile:
        asked.append(tile)
        return read(self, tile, num_classes, dtype)

    monkeypatch.setattr(Noted, "read", listen)
    Noted((2, 3, 4)).dense(2, torch.float32)
    box = (slice(0, 3), slice(0, 4))
    assert asked == [Tile(0, box), Tile(1, box)]


def test_dense_where_everything_counts() -> None:
    found = Noted((2, 1, 3)).dense(2, torch.float64)
    assert found.valid is None
    assert found.y.tolist() == [[[[1, 1, 1]], [[0, 0, 0]]]] * 2
    assert found.y.dtype == torch.float64


YES, NO = torch.tensor([True, False]), torch.tensor([[True, False], [False, False]])


@pytest.mark.parametrize(
    ("counts", "expected"),
    [
        ((YES, ~YES), [[[True, False]], [[False, True]]]),
        ((None, YES), [[[True, True]], [[True, False]]]),
        ((YES, None), [[[True, False]], [[True, True]]]),
        ((NO, ~NO), [NO.tolist(), (~NO).tolist()]),
        ((NO, YES), [NO.tolist(), [[True, False]] * 2]),
        ((None, NO), [[[True, True]] * 2, NO.tolist()]),
    ],
)
def test_dense_joins_what_counts_in_each_image(
    counts: tuple[Any, ...], expected: list[Any]
) -> None:
    """Images may answer in different ways: None, by pixel, or by entry."""
    found = Noted((2, 2), counts=counts).dense(2, torch.float32)
    assert found.valid is not None
    assert found.valid.tolist() == expected


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 0), (2, 3, 0)])
def test_dense_of_nothing(shape: tuple[int, ...]) -> None:
    """Also of a target without a tensor that would tell the device."""
    for target in (Noted(shape), HardTarget(torch.zeros(shape, dtype=torch.long))):
        found = target.dense(5, torch.float64)
        assert found.y.shape == (shape[0], 5, *shape[1:])
        assert found.y.dtype == torch.float64
        assert found.valid is None


# Completed, by hand


def test_completed_fills_in_what_is_none() -> None:
    found = Noted((1, 2)).completed(255, (4, 5))
    assert found == Noted((1, 2), ignore_index=255, size=(4, 5))


def test_completed_keeps_what_is_given() -> None:
    target = Noted((1, 2), ignore_index=0, size=(1, 1))
    found = target.completed(255, (4, 5))
    assert found == target


def test_completed_without_anything_to_fill_in_is_the_same() -> None:
    target = HardTarget(LABELS)
    assert target.completed(None, (2,)) is target
    other = HardTarget(LABELS, 7)
    assert other.completed(255, (2,)) is other


OPEN, FILLED, OWN = HardTarget(LABELS), HardTarget(LABELS, 255), HardTarget(OTHERS, 3)


@pytest.mark.parametrize(
    ("values", "expected"),
    [
        (OPEN, FILLED),
        ((OPEN, OWN), (FILLED, OWN)),
        ((1, "text", None, OPEN), (1, "text", None, FILLED)),
        (((0.5, OPEN), (0.5, OWN)), ((0.5, FILLED), (0.5, OWN))),
        (Noted((1, 2), values=(OPEN,)), Noted((1, 2), (FILLED,), (), 255, (2,))),
    ],
)
def test_completed_reaches_the_targets_inside(values: Any, expected: Any) -> None:
    found = Noted((1, 2), values=values).completed(255, (2,))
    assert isinstance(found, Noted)
    assert repr(found.values) == repr(expected)


def test_completed_reaches_through_a_region() -> None:
    inside, outside = TeacherTarget(torch.zeros(1, 2, 2, 2)), HardTarget(torch.zeros(1, 4, 4).int())
    region = torch.zeros(1, 4, 4, dtype=torch.bool)
    found = RegionTarget(inside, outside, region).completed(255, (4, 4))
    assert isinstance(found, RegionTarget)
    assert isinstance(found.inside, TeacherTarget)
    assert isinstance(found.outside, HardTarget)
    assert (found.inside.size, found.outside.ignore_index) == ((4, 4), 255)
    assert found.region is region
    assert found.shape == (1, 4, 4)


# Text and tensors, by hand


def test_packed_by_hand() -> None:
    region = torch.tensor([[True, False]])
    tensors: list[Tensor] = []
    text = pack(RegionTarget(HardTarget(LABELS, 255), HardTarget(OTHERS), region), tensors)
    name = "softiou.targets.hard.HardTarget"
    assert json.loads(text) == {
        "target": "softiou.targets.mixtures.RegionTarget",
        "fields": [
            {"target": name, "fields": [{"tensor": 0}, 255]},
            {"target": name, "fields": [{"tensor": 1}, None]},
            {"tensor": 2},
        ],
    }
    for found, meant in zip(tensors, (LABELS, OTHERS, region), strict=True):
        assert found is meant


def test_numbers_go_on_from_the_tensors_that_are_there() -> None:
    tensors = [OTHERS]
    assert json.loads(pack(LABELS, tensors)) == {"tensor": 1}
    assert tensors[1] is LABELS


def test_tensors_of_a_nested_target() -> None:
    target = Noted((1, 2), values=(0.5, HardTarget(LABELS), (OTHERS, (LABELS,))))
    found = tensors_of(target)
    assert [id(tensor) for tensor in found] == [id(LABELS), id(OTHERS), id(LABELS)]


PLAIN_VALUES = [
    None,
    True,
    False,
    0,
    -1,
    2**40,
    0.1,
    -1e-30,
    1e300,
    math.inf,
    -math.inf,
    "",
    "two words",
    'quo"te',
    "back\\slash\\",
    'both\\"',
    "line\nbreak",
    "Jäger, 雪",
    (),
    (1, (2.5, None), ("a", (True,))),
]


@pytest.mark.parametrize("value", PLAIN_VALUES, ids=repr)
def test_plain_values_come_back(value: Any) -> None:
    tensors: list[Tensor] = []
    found = unpack(json.loads(pack(value, tensors)), tensors, ())
    assert found == value
    assert type(found) is type(value)
    assert tensors == []


def test_nan_comes_back() -> None:
    assert math.isnan(unpack(json.loads(pack(math.nan, [])), [], ()))


@pytest.mark.parametrize("value", PLAIN_VALUES, ids=repr)
@pytest.mark.parametrize("impl", ["torch", "chunked"])
def test_plain_values_do_not_disturb_the_loss(impl: str, value: Any) -> None:
    logits, labels = torch.randn(1, 2, 2), torch.zeros(1, 2, dtype=torch.long)
    found = overlap_statistics(logits, Noted((1, 2), value), impl=impl)
    torch.testing.assert_close(found.D, overlap_statistics(logits, labels, impl=impl).D)


# Errors


class Undecorated(Target):
    @property
    def shape(self) -> tuple[int, ...]:
        return (1, 2)

    def read(self, tile: Tile, num_classes: int, dtype: torch.dtype) -> SoftTile:
        raise NotImplementedError

    def validate(self, num_classes: int, valid: Tensor | None = None) -> None:
        raise NotImplementedError


def test_a_target_that_is_no_dataclass_raises() -> None:
    message = r"target Undecorated to be a dataclass. Decorate it with `@dataclass\(frozen=True\)`"
    with pytest.raises(TypeError, match=message):
        pack(Undecorated(), [])
    with pytest.raises(TypeError, match=message):
        overlap_statistics(torch.zeros(1, 3, 2), Undecorated())


@pytest.mark.parametrize("value", [[1, 2], {"a": 1}, torch.float32, {1}, 1j])
def test_a_field_that_cannot_travel_raises(value: Any) -> None:
    target = Noted((1, 2), values=(1, value))
    with pytest.raises(TypeError, match=r"fields of a target to be tensors.*but got <class"):
        pack(target, [])
