"""Hard and dense targets, and how a plain tensor is read as one of them."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from reference.cases import Case, cases
from softiou.losses import JaccardMetricLoss
from softiou.overlap import overlap_statistics
from softiou.targets import DenseTarget, HardTarget, Target, as_target

NAN, INF = math.nan, math.inf
SIGNED = [torch.int8, torch.int16, torch.int32, torch.int64]
INTEGERS = [torch.uint8, *SIGNED]


def counts(target: Target, num_classes: int) -> list[bool]:
    """What counts, flattened."""
    valid = target.valid(num_classes)
    assert valid is not None
    return [bool(c) for c in valid.flatten()]


def read(case: Case) -> Target:
    logits, target = case.tensors()
    return as_target(
        target,
        logits_shape=tuple(logits.shape),
        ignore_index=case.ignore_index,
        independent=case.activation == "sigmoid" or case.num_classes == 1,
    )


# Values by hand


def test_hard_by_hand() -> None:
    target = HardTarget(torch.tensor([[2, 0, 255, 3]]), ignore_index=255)
    assert target.shape == (1, 4)
    y = target.probs(3, torch.float32)
    assert y[..., :2].tolist() == [[[0, 1], [0, 0], [1, 0]]]
    assert y.dtype == torch.float32
    assert counts(target, 3) == [True, True, False, False]


def test_hard_of_one_class_takes_label_one_as_the_class() -> None:
    target = HardTarget(torch.tensor([[0, 1, 2]]))
    assert target.probs(1, torch.float64)[..., :2].tolist() == [[[0, 1]]]
    assert counts(target, 1) == [True, True, False]


def test_dense_by_hand() -> None:
    values = torch.tensor([[[0.25, 255.0, 255.0], [0.75, 255.0, 0.0]]])
    target = DenseTarget(values, ignore_index=255)
    assert target.shape == (1, 3)
    assert torch.equal(target.probs(2, torch.float32), values)
    assert counts(target, 2) == [True, False, True]  # one entry of 255 is a mistake, not a mark


def test_independent_classes_are_ignored_entry_by_entry() -> None:
    values = torch.tensor([[[0.25, 255.0], [255.0, 1.0]]])
    target = DenseTarget(values, ignore_index=255, independent=True)
    assert counts(target, 2) == [True, False, False, True]


def test_dense_without_ignore_index_counts_everywhere() -> None:
    assert DenseTarget(torch.rand(1, 2, 3)).valid(2) is None


def test_dense_comes_in_the_dtype_that_is_asked_for() -> None:
    values = torch.rand(1, 2, 3)
    assert DenseTarget(values.half()).probs(2, torch.float64).dtype == torch.float64


# The slow reference


@given(cases())
def test_agrees_with_loops(case: Case) -> None:
    data, target = case.reference(), read(case)
    shape = tuple(case.logits.shape)
    valid = target.valid(case.num_classes)
    valid = torch.ones(shape, dtype=torch.bool) if valid is None else valid.expand(shape)
    for given_map in (case.valid, None if case.weights is None else case.weights > 0):
        if given_map is not None:
            valid = valid & torch.from_numpy(given_map).unsqueeze(1)
    counted = valid.reshape(data.w.shape).numpy()
    np.testing.assert_array_equal(counted, data.w > 0)
    y = target.probs(case.num_classes, torch.float64).reshape(data.y.shape).numpy()
    np.testing.assert_array_equal(y[counted], data.y[counted])


# Properties


@pytest.mark.parametrize("dtype", SIGNED)
@pytest.mark.parametrize("num_classes", [1, 2, 5])
def test_negative_labels_never_become_a_class(dtype: torch.dtype, num_classes: int) -> None:
    target = HardTarget(torch.tensor([[-1, -128, 1]], dtype=dtype))
    assert counts(target, num_classes) == [False, False, True]
    assert target.probs(num_classes, torch.float32)[..., :2].sum() == 0


@pytest.mark.parametrize("dtype", [torch.uint8, torch.uint16, torch.uint32, torch.uint64])
@pytest.mark.parametrize("ignore_index", [-1, 255, None])
def test_unsigned_labels_do_not_wrap_around(dtype: torch.dtype, ignore_index: int | None) -> None:
    """255 is no -1, and 256 classes have a class 255."""
    target = HardTarget(torch.tensor([[255, 0]], dtype=dtype), ignore_index)
    assert counts(target, 256) == [ignore_index != 255, True]
    assert target.probs(256, torch.float32)[0, :, 0].nonzero().item() == 255


@pytest.mark.parametrize("ignore_index", [-1, 255])
def test_independent_integers_do_not_wrap_around(ignore_index: int) -> None:
    values = torch.tensor([[[1, 0, 255]]], dtype=torch.uint8)
    target = DenseTarget(values, ignore_index, independent=True)
    assert counts(target, 1) == [True, True, False]
    if ignore_index == -1:
        with pytest.raises(ValueError, match=r"in \[0.0, 1.0\], but got 255.0"):
            target.validate(1)
    else:
        target.validate(1)


def test_independent_integers_can_ignore_zero() -> None:
    """Positive and unlabelled: only what is marked counts."""
    values = torch.tensor([[[1, 0], [0, 1]]])
    target = as_target(values, logits_shape=(1, 2, 2), ignore_index=0, independent=True)
    assert counts(target, 2) == [True, False, False, True]


@pytest.mark.parametrize("dtype", [*INTEGERS, torch.bool])
def test_independent_integers_are_read_as_zero_and_one(dtype: torch.dtype) -> None:
    values = torch.tensor([[[1, 0], [1, 1]]], dtype=dtype)
    target = as_target(values, logits_shape=(1, 2, 2), independent=True)
    assert target.probs(2, torch.float32).tolist() == [[[1, 0], [1, 1]]]
    target.validate(2)


def test_uint8_labels_are_no_mask() -> None:
    """A uint8 tensor as an index selects like a mask in old torch: labels must not be one."""
    labels = torch.tensor([[1, 0, 1]], dtype=torch.uint8)
    assert HardTarget(labels).probs(2, torch.float32).tolist() == [[[0, 1, 0], [1, 0, 1]]]


# Reading plain tensors


@pytest.mark.parametrize("dtype", [*INTEGERS, torch.bool])
def test_integers_are_hard(dtype: torch.dtype) -> None:
    target = as_target(torch.zeros(2, 4, 4, dtype=dtype), logits_shape=(2, 3, 4, 4), ignore_index=7)
    assert isinstance(target, HardTarget)
    assert target.ignore_index == 7


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32, torch.float64])
def test_floats_are_dense(dtype: torch.dtype) -> None:
    target = as_target(torch.zeros(2, 3, 4, dtype=dtype), logits_shape=(2, 3, 4), ignore_index=7)
    assert isinstance(target, DenseTarget)
    assert (target.ignore_index, target.independent) == (7, False)


def test_a_target_is_handed_through() -> None:
    target = HardTarget(torch.zeros(2, 4, dtype=torch.long), ignore_index=3)
    assert as_target(target, logits_shape=(2, 3, 4), ignore_index=255) is target


@given(cases(activations=("softmax",)))
def test_a_target_means_what_its_tensor_means(case: Case) -> None:
    logits, tensor = case.tensors()
    kind: Any = DenseTarget if tensor.is_floating_point() else HardTarget
    loss = JaccardMetricLoss(cross_entropy=0.25, ignore_index=case.ignore_index)
    wrapped = JaccardMetricLoss(cross_entropy=0.25)(
        logits, kind(tensor, case.ignore_index), **case.maps()
    )
    assert torch.equal(wrapped, loss(logits, tensor, **case.maps()))


class Constant(Target):
    """A target of the user's own: every pixel is of one class, the first one is unknown."""

    def __init__(self, label: int, shape: tuple[int, ...]) -> None:
        self.label, self._shape = label, shape

    @property
    def shape(self) -> tuple[int, ...]:
        return self._shape

    def probs(self, num_classes: int, dtype: torch.dtype) -> Tensor:
        y = torch.zeros(self._shape[0], num_classes, *self._shape[1:], dtype=dtype)
        y[:, self.label] = 1
        y[..., 0] = NAN
        return y

    def valid(self, num_classes: int) -> Tensor | None:
        counts = torch.ones(self._shape[0], 1, *self._shape[1:], dtype=torch.bool)
        counts[..., 0] = False
        return counts

    def validate(self, num_classes: int, valid: Tensor | None = None) -> None:
        if self.label >= num_classes:
            raise ValueError(f"label {self.label} is no class")


def test_a_target_of_ones_own_is_enough() -> None:
    logits = torch.randn(2, 3, 5)
    labels = torch.full((2, 5), 2)
    labels[:, 0] = -1
    own = overlap_statistics(logits, Constant(2, (2, 5)), cross_entropy=True, validate=True)
    plain = overlap_statistics(logits, labels, cross_entropy=True)
    torch.testing.assert_close(own.D, plain.D)
    torch.testing.assert_close(own.cross_entropy, plain.cross_entropy)
    with pytest.raises(ValueError, match=r"label 3 is no class"):
        overlap_statistics(logits, Constant(3, (2, 5)), validate=True)


# Shapes that do not fit

HALF = torch.zeros(2, 4, 16)


@pytest.mark.parametrize(
    ("target", "way_out"),
    [
        (HALF.long(), r"got \(2, 4, 16\) of torch.int64. Resize the target"),
        (HALF, r"got \(2, 4, 16\) of torch.float32. Resize the target"),
        (torch.zeros(2, 1, 8, 8).long(), r"Drop the second dimension: target.squeeze\(1\)"),
        (torch.zeros(2, 8, 8), r"got \(2, 8, 8\) of torch.float32. Use target.long\(\)"),
        (torch.zeros(2, 3, 8, 8).long(), r"Make it floating .* or take `argmax\(1\)`"),
        (torch.zeros(2, 4, 8, 8), r"\(N, C, \*S\) = \(2, 3, 8, 8\) .* Resize the target"),
        (torch.zeros(1, 8, 8).long(), r"\(N, \*S\) = \(2, 8, 8\) \(integer\)"),
        (torch.zeros(8, 8).long(), r"got \(8, 8\)"),
    ],
)
def test_wrong_shapes_raise_with_the_way_out(target: Tensor, way_out: str) -> None:
    with pytest.raises(ValueError, match=way_out):
        overlap_statistics(torch.zeros(2, 3, 8, 8), target)


def test_binary_floats_without_a_class_dimension_raise() -> None:
    with pytest.raises(ValueError, match=r"Use target.unsqueeze\(1\)"):
        overlap_statistics(torch.zeros(2, 1, 8, 8), torch.zeros(2, 8, 8), activation="sigmoid")


def test_a_target_of_another_space_raises() -> None:
    with pytest.raises(ValueError, match=r"to cover \(N, \*S\) = \(2, 8\), but it covers \(2, 4\)"):
        overlap_statistics(torch.zeros(2, 3, 8), HardTarget(torch.zeros(2, 4).long()))


@pytest.mark.parametrize("num_classes", [1, 2, 4])
def test_a_dense_target_of_other_classes_raises(num_classes: int) -> None:
    """One class would be spread over all of them in silence."""
    target = DenseTarget(torch.ones(2, num_classes, 8))
    with pytest.raises(ValueError, match=rf"to have 3 classes.*\(2, {num_classes}, 8\)"):
        overlap_statistics(torch.zeros(2, 3, 8), target)


def test_something_else_raises() -> None:
    with pytest.raises(TypeError, match=r"tensor or a Target, but got <class 'list'>"):
        overlap_statistics(torch.zeros(1, 3, 2), [[0, 1]])  # type: ignore[arg-type]


@pytest.mark.parametrize("ignore_index", [0, 1])
def test_an_ignore_index_that_is_a_probability_raises(ignore_index: int) -> None:
    with pytest.raises(ValueError, match=rf"ignore_index={ignore_index} is also a probability"):
        as_target(
            torch.rand(1, 2, 3),
            logits_shape=(1, 2, 3),
            ignore_index=ignore_index,
            independent=True,
        )


def test_independent_classes_under_a_softmax_raise() -> None:
    target = DenseTarget(torch.rand(1, 3, 4), ignore_index=255, independent=True)
    with pytest.raises(ValueError, match=r"classes of a softmax are ignored together"):
        overlap_statistics(torch.zeros(1, 3, 4), target)


def test_ready_probabilities_of_independent_classes() -> None:
    values = torch.tensor([[[1.0, 255.0], [0.5, 0.0]]])
    target = DenseTarget(values, ignore_index=255, independent=True)
    s = overlap_statistics(torch.full((1, 2, 2), 0.5), target, activation="none")
    assert s.P.tolist() == [[0.5, 1.0]]
    assert s.Y.tolist() == [[1.0, 0.5]]
    assert s.weight.tolist() == [3.0]


# Contents, under validate


def check(target: Tensor, num_classes: int = 3, **options: Any) -> None:
    activation = "softmax" if num_classes > 1 else "sigmoid"
    space = target.shape[2:] if target.is_floating_point() else target.shape[1:]
    logits = torch.zeros(target.shape[0], num_classes, *space)
    overlap_statistics(logits, target, **{"activation": activation, "validate": True, **options})


@pytest.mark.parametrize(
    ("labels", "message"),
    [
        ([0, -1, 2], r"class indices in \[0, 2\] or ignore_index=255, but found \[-1\]"),
        ([3, 0, 99, 3], r"but found \[3, 99\]. Map the labels"),
    ],
)
def test_labels_outside_the_classes_raise_and_are_named(labels: list[int], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        check(torch.tensor([labels]), ignore_index=255)


def test_label_two_of_a_binary_problem_raises() -> None:
    with pytest.raises(ValueError, match=r"class indices in \[0, 1\] .* found \[2\]"):
        check(torch.tensor([[0, 1, 2]]), num_classes=1)


@pytest.mark.parametrize("value", [NAN, INF, -INF])
def test_a_target_that_is_not_finite_raises(value: float) -> None:
    target = torch.full((1, 3, 4), 1 / 3)
    target[0, 1, 2] = value
    with pytest.raises(ValueError, match=r"`target` to be finite, but found NaN or infinity"):
        check(target)


@pytest.mark.parametrize("value", [-0.25, 1.25])
def test_probabilities_outside_zero_and_one_raise(value: float) -> None:
    target = torch.tensor([value, 1 - value, 0.0]).view(1, 3, 1)
    with pytest.raises(ValueError, match=r"`target` to be in \[0.0, 1.0\], but got (-0.25|1.25)"):
        check(target)


def test_probabilities_that_do_not_sum_to_one_raise() -> None:
    with pytest.raises(ValueError, match=r"sum to 1 over the classes, .* with the sum 0.9. Divide"):
        check(torch.full((1, 3, 4), 0.3))


def test_what_is_ignored_is_not_checked() -> None:
    labels = torch.tensor([[0, 255, 2]])
    check(labels, ignore_index=255)
    target = torch.full((1, 3, 4), 1 / 3)
    target[..., 1] = 255
    check(target, ignore_index=255)
    with pytest.raises(ValueError, match=r"in \[0.0, 1.0\], but got 255.0"):
        check(target)


def test_independent_probabilities_need_no_sum() -> None:
    check(torch.rand(1, 3, 4), activation="sigmoid")
    check(torch.rand(1, 1, 4), num_classes=1)


@given(st.sampled_from([torch.float16, torch.bfloat16]), st.integers(2, 64))
def test_rounded_probabilities_pass(dtype: torch.dtype, num_classes: int) -> None:
    check(torch.randn(1, num_classes, 16).softmax(1).to(dtype), num_classes)


@given(cases())
def test_valid_batches_pass(case: Case) -> None:
    """Every target that is drawn is right but for labels that are no class."""
    logits, target = case.tensors()
    real = max(case.num_classes, 2)
    if target.ndim < logits.ndim and target.dtype != torch.bool:
        wrong = (target.long() < 0) | (target.long() >= real)
        if case.ignore_index is not None:
            wrong &= target.long() != case.ignore_index
        target = torch.where(wrong, 1, target.long())
    checked, unchecked = (
        overlap_statistics(logits, target, **case.settings(), **case.maps(), validate=validate)
        for validate in (True, False)
    )
    assert torch.equal(checked.D, unchecked.D)
