import math

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from softiou.overlap import overlap_statistics
from softiou.targets import (
    ConfidentTarget,
    DenseTarget,
    HardTarget,
    SmoothedTarget,
    Target,
    TeacherTarget,
    VotesTarget,
    confident,
)

IGNORE = 255


def dense(*pixels: list[float]) -> DenseTarget:
    """One image of a line of pixels, each with its probabilities."""
    return DenseTarget(torch.tensor(pixels, dtype=torch.float64).T.unsqueeze(0), IGNORE, None)


def read(target: Target, num_classes: int = 3) -> tuple[list[list[float]], list[bool]]:
    """The probabilities of each pixel of a line, and which of them count."""
    found = target.dense(num_classes, torch.float64)
    assert found.valid is not None
    return found.y[0].T.tolist(), found.valid[0, 0].tolist()


# Values by hand


def test_unsure_pixels_do_not_count() -> None:
    inner = dense([0.5, 0.25, 0.25], [0.4, 0.3, 0.3], [1, 0, 0], [IGNORE] * 3)
    y, counts = read(ConfidentTarget(inner, threshold=0.5))
    assert counts == [True, False, True, False]
    assert y[0] == [0.5, 0.25, 0.25]


def test_sharpened_by_hand() -> None:
    """At temperature 1/2 probabilities are squared."""
    ((found,), _) = read(ConfidentTarget(dense([0.5, 0.3, 0.2]), temperature=0.5))
    assert found == pytest.approx([0.25 / 0.38, 0.09 / 0.38, 0.04 / 0.38])


def test_kept_by_hand() -> None:
    y, counts = read(ConfidentTarget(dense([0.5, 0.3, 0.2], [0.1, 0.0, 0.9]), keep=2))
    assert y == [pytest.approx([0.625, 0.375, 0]), pytest.approx([0.1, 0, 0.9])]
    assert counts == [True, True]


def test_all_together_by_hand() -> None:
    """The threshold sees the target as it was, neither sharpened nor shortened."""
    inner = dense([0.5, 0.3, 0.2], [0.6, 0.3, 0.1])
    y, counts = read(ConfidentTarget(inner, threshold=0.6, temperature=0.5, keep=2))
    assert counts == [False, True]
    assert y[1] == pytest.approx([0.8, 0.2, 0])


def test_classes_as_probable_as_the_last_one_stay() -> None:
    votes = VotesTarget(torch.tensor([[[0, 0], [1, 0], [2, 1]]]))
    y, _ = read(ConfidentTarget(votes, keep=1))
    assert y == [pytest.approx([1 / 3] * 3), [1, 0, 0]]


def test_labels_by_hand() -> None:
    labels = torch.tensor([[0, 0, 1, IGNORE]])
    target = ConfidentTarget(SmoothedTarget(labels, 0.5, 1, IGNORE), threshold=0.9)
    assert target.shape == (1, 4)
    y, counts = read(target, 2)
    assert counts == [True, False, False, False]
    assert y[0] == [1, 0]


def test_independent_classes_are_a_question_each_by_hand() -> None:
    inner = DenseTarget(torch.tensor([[[0.9, 0.4], [0.2, 0.5]]]).double(), None, True)
    target = ConfidentTarget(inner, threshold=0.55, temperature=0.5, independent=True)
    found = target.dense(2, torch.float64)
    assert found.valid is not None
    assert found.valid.tolist() == [[[True, True], [True, False]]]
    expected = torch.tensor([[0.81 / 0.82, 0.16 / 0.52], [0.04 / 0.68, 0.5]])
    torch.testing.assert_close(found.y[0], expected.double(), rtol=0, atol=1e-6)


def test_one_class_is_yes_or_no() -> None:
    votes = VotesTarget(torch.tensor([[[0, 1, 0], [1, 1, 0], [1, 1, 0]]]))
    y, counts = read(ConfidentTarget(votes, threshold=0.7, temperature=0.5), 1)
    assert counts == [False, True, True]
    assert y == [pytest.approx([0.8]), [1], [0]]


def test_the_loss_says_whether_classes_are_independent() -> None:
    probs, logits = torch.rand(1, 3, 4), torch.randn(1, 3, 4)
    target = confident(probs, threshold=0.6, temperature=0.5)
    squares = probs**2 / (probs**2 + (1 - probs) ** 2)
    for impl in ("torch", "chunked"):
        found = overlap_statistics(logits, target, activation="sigmoid", impl=impl)
        sure = torch.maximum(probs, 1 - probs) >= 0.6
        expected = ((logits.sigmoid() - squares).abs() * sure).sum(-1)
        torch.testing.assert_close(found.D, expected)


def test_the_loss_completes_the_inner_target() -> None:
    logits, labels = torch.randn(2, 3, 4, 6), torch.full((2, 4, 6), IGNORE)
    found = overlap_statistics(logits, confident(labels), ignore_index=IGNORE)
    assert found.weight.eq(0).all()
    teacher = TeacherTarget(torch.randn(2, 3, 2, 3))
    assert confident(teacher).completed(None, (4, 6)).shape == (2, 4, 6)
    assert overlap_statistics(logits, confident(teacher)).D.shape == (2, 3)


# Properties


@st.composite
def probabilities(draw: st.DrawFn) -> Tensor:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    return torch.from_numpy(rng.dirichlet(np.full(4, 0.5), (2, 7))).movedim(-1, 1)


@given(probabilities())
def test_with_the_defaults_nothing_changes(probs: Tensor) -> None:
    for target in (DenseTarget(probs), HardTarget(probs.argmax(1))):
        found, expected = (t.dense(4, torch.float64) for t in (ConfidentTarget(target), target))
        assert torch.equal(found.y, expected.y)
        assert found.valid is not None
        assert found.valid.all()


@given(st.floats(0.2, 5), st.integers(0, 2**32 - 1))
def test_of_a_teacher_it_is_its_temperature(temperature: float, seed: int) -> None:
    logits = torch.from_numpy(np.random.default_rng(seed).normal(0, 3, (2, 4, 5)))
    found = ConfidentTarget(TeacherTarget(logits), temperature=temperature)
    expected = TeacherTarget(logits, temperature=temperature)
    one, other = (target.dense(4, torch.float64).y for target in (found, expected))
    torch.testing.assert_close(one, other)


@given(probabilities(), st.floats(0.2, 5), st.integers(1, 5))
def test_the_order_of_the_probabilities_stays(probs: Tensor, temperature: float, keep: int) -> None:
    target = ConfidentTarget(DenseTarget(probs), 0.0, temperature, keep)
    y = target.dense(4, torch.float64).y
    torch.testing.assert_close(y.sum(1), torch.ones(2, 7, dtype=torch.float64))
    assert ((y > 0).sum(1) <= keep).all()
    assert torch.equal(y.argmax(1), probs.argmax(1))
    assert (y.gather(1, probs.argsort(1)).diff(dim=1) >= 0).all()


@given(probabilities(), st.floats(0, 1), st.floats(0, 1))
def test_a_higher_threshold_leaves_less(probs: Tensor, low: float, high: float) -> None:
    few, many = (
        ConfidentTarget(DenseTarget(probs), threshold).dense(4, torch.float64).valid
        for threshold in (max(low, high), min(low, high))
    )
    assert few is not None
    assert many is not None
    assert (many | ~few).all()


def test_one_kept_class_is_the_pseudo_label() -> None:
    probs = torch.rand(2, 3, 5).softmax(1)
    y = ConfidentTarget(DenseTarget(probs), keep=1).dense(3, torch.float32).y
    assert torch.equal(y.argmax(1), probs.argmax(1))
    assert y.amax(1).eq(1).all()


@pytest.mark.parametrize("temperature", [1e-300, 1e-3, 1e3, 1e300])
def test_extreme_temperatures_are_finite(temperature: float) -> None:
    ((found, least), _) = read(
        ConfidentTarget(dense([0.6, 0.4, 0.0], [0.25, 0.25, 0.5]), temperature=temperature)
    )
    hot, cold = [0.5, 0.5, 0], [1, 0, 0]
    assert found == pytest.approx(cold if temperature < 1 else hot, abs=1e-3)
    assert least == pytest.approx([0, 0, 1] if temperature < 1 else [1 / 3] * 3, abs=1e-3)


def test_pixels_without_any_probability_stay_without() -> None:
    ((found,), _) = read(ConfidentTarget(dense([0, 0, 0]), temperature=0.5, keep=1))
    assert found == [0, 0, 0]


# Errors


@pytest.mark.parametrize("threshold", [-0.1, 1.1, math.nan])
def test_a_threshold_outside_zero_and_one_raises(threshold: float) -> None:
    with pytest.raises(ValueError, match=r"`threshold` to be in \[0.0, 1.0\], but got"):
        ConfidentTarget(dense([1, 0, 0]), threshold=threshold)


@pytest.mark.parametrize("temperature", [0.0, -1.0, math.nan, math.inf])
def test_a_temperature_of_zero_raises(temperature: float) -> None:
    with pytest.raises(ValueError, match=r"`temperature` to be finite and greater .* use keep=1"):
        ConfidentTarget(dense([1, 0, 0]), temperature=temperature)


def test_keeping_nothing_raises() -> None:
    with pytest.raises(ValueError, match=r"`keep` to be at least 1, but got 0"):
        ConfidentTarget(dense([1, 0, 0]), keep=0)


@pytest.mark.parametrize("impl", ["torch", "chunked"])
def test_keeping_some_of_independent_classes_raises(impl: str) -> None:
    target = confident(torch.rand(1, 3, 4), keep=2)
    with pytest.raises(ValueError, match=r"keep=2 needs classes that exclude each other"):
        overlap_statistics(torch.zeros(1, 3, 4), target, activation="sigmoid", impl=impl)
    with pytest.raises(ValueError, match=r"Remove `keep` for independent classes"):
        ConfidentTarget(VotesTarget(torch.zeros(1, 2, 3).long()), keep=1).dense(1, torch.float32)
