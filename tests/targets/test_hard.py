from typing import Any

import pytest
import torch

from softiou.overlap import overlap_statistics
from softiou.targets import HardTarget, HardTile, SoftTile, Target
from softiou.tiles import Tile

SIGNED = [torch.int8, torch.int16, torch.int32, torch.int64]


def counts(target: Target, num_classes: int) -> list[bool]:
    """What counts, flattened."""
    valid = target.dense(num_classes, torch.float32).valid
    assert valid is not None
    return [bool(c) for c in valid.flatten()]


# Values by hand


def test_by_hand() -> None:
    target = HardTarget(torch.tensor([[2, 0, 255, 3]]), ignore_index=255)
    assert target.shape == (1, 4)
    y = target.dense(3, torch.float32).y
    assert y[..., :2].tolist() == [[[0, 1], [0, 0], [1, 0]]]
    assert y.dtype == torch.float32
    assert counts(target, 3) == [True, True, False, False]


def test_one_class_takes_label_one_as_the_class() -> None:
    target = HardTarget(torch.tensor([[0, 1, 2]]))
    assert target.dense(1, torch.float64).y[..., :2].tolist() == [[[0, 1]]]
    assert counts(target, 1) == [True, True, False]


def test_labels_stay_labels() -> None:
    target = HardTarget(torch.tensor([[[2, 0, 255], [1, 9, 2]]], dtype=torch.uint8), 255)
    read = target.read(Tile(0, (slice(0, 2), slice(1, 3))), 3, torch.float32)
    assert isinstance(read, HardTile)
    assert read.epsilon is None
    assert read.index.dtype == torch.int64
    assert read.index.tolist() == [0, 0, 0, 2]  # 0 where the pixel does not count
    assert read.valid is not None
    assert read.valid.tolist() == [True, False, False, True]


def test_one_class_is_read_as_probabilities() -> None:
    read = HardTarget(torch.tensor([[1, 0]])).read(Tile(0, (slice(0, 2),)), 1, torch.float64)
    assert isinstance(read, SoftTile)
    assert read.y.tolist() == [[1.0, 0.0]]
    assert read.y.dtype == torch.float64


# Dtypes


@pytest.mark.parametrize("dtype", SIGNED)
@pytest.mark.parametrize("num_classes", [1, 2, 5])
def test_negative_labels_never_become_a_class(dtype: torch.dtype, num_classes: int) -> None:
    target = HardTarget(torch.tensor([[-1, -128, 1]], dtype=dtype))
    assert counts(target, num_classes) == [False, False, True]
    y = target.dense(num_classes, torch.float32).y
    assert y[..., 2].sum() == 1
    if num_classes == 1:
        assert y[..., :2].sum() == 0
    logits = torch.zeros(1, num_classes, 3)
    activation = "sigmoid" if num_classes == 1 else "softmax"
    for impl in ("torch", "chunked"):
        options: dict[str, Any] = {"activation": activation, "validate": False}
        s = overlap_statistics(logits, target, impl=impl, **options)
        assert s.Y.tolist() == [[float(c == min(num_classes - 1, 1)) for c in range(num_classes)]]


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.uint32, torch.uint64])
@pytest.mark.parametrize("ignore_index", [-1, 255, None])
def test_unsigned_labels_do_not_wrap_around(dtype: torch.dtype, ignore_index: int | None) -> None:
    """255 is no -1, and 256 classes have a class 255."""
    target = HardTarget(torch.tensor([[255, 0]], dtype=dtype), ignore_index)
    assert counts(target, 256) == [ignore_index != 255, True]
    if ignore_index != 255:
        assert target.dense(256, torch.float32).y[0, :, 0].nonzero().item() == 255


def test_uint8_labels_are_no_mask() -> None:
    """A uint8 tensor as an index selects like a mask in old torch: labels must not be one."""
    labels = torch.tensor([[1, 0, 1]], dtype=torch.uint8)
    y = HardTarget(labels).dense(2, torch.float32).y
    assert y.tolist() == [[[0, 1, 0], [1, 0, 1]]]


def test_bool_labels_are_zero_and_one() -> None:
    target = HardTarget(torch.tensor([[True, False]]))
    assert target.dense(2, torch.float32).y.tolist() == [[[0, 1], [1, 0]]]
    assert target.dense(1, torch.float32).y.tolist() == [[[1, 0]]]


# Errors


def test_floating_labels_raise() -> None:
    """Truncated to an integer, every probability below 1 would be class 0."""
    with pytest.raises(TypeError, match=r"`labels` to have an integer dtype, but got torch.float3"):
        HardTarget(torch.rand(1, 4))


def check(labels: list[int], num_classes: int = 3, **options: Any) -> None:
    activation = "softmax" if num_classes > 1 else "sigmoid"
    logits = torch.zeros(1, num_classes, len(labels))
    target = torch.tensor([labels])
    overlap_statistics(logits, target, activation=activation, validate=True, **options)


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, -1, 2], r"class indices in \[0, 2\] or ignore_index=255, but found \[-1\]"),
        ([3, 0, 99, 3], r"but found \[3, 99\]. Map the labels"),
    ],
)
def test_labels_outside_the_classes_raise_and_are_named(labels: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(labels, ignore_index=255)


def test_label_two_of_a_binary_problem_raises() -> None:
    with pytest.raises(ValueError, match=r"class indices in \[0, 1\], but found \[2\]"):
        check([0, 1, 2], num_classes=1)


def test_what_is_ignored_is_not_checked() -> None:
    check([0, 255, 2], ignore_index=255)
    check([0, 77, 2], valid=torch.tensor([[True, False, True]]))
    with pytest.raises(ValueError, match=r"class indices in \[0, 2\], but found \[255\]"):
        check([0, 255, 2])
