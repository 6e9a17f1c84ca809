from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from softiou.overlap import overlap_statistics
from softiou.targets import HardTarget, MixedTarget, TeacherTarget, teacher
from softiou.tiles import tiles

# Values by hand


def test_by_hand() -> None:
    logits = torch.tensor([[[3.0, 9.0], [1.0, 1.0]]]).log()
    target = TeacherTarget(logits)
    assert target.shape == (1, 2)
    found = target.dense(2, torch.float32)
    torch.testing.assert_close(found.y, torch.tensor([[[0.75, 0.9], [0.25, 0.1]]]))
    assert found.valid is None


def test_temperature_by_hand() -> None:
    """At temperature 2, odds of 9 become 3."""
    target = TeacherTarget(torch.tensor([[[9.0], [1.0]]]).log(), temperature=2.0)
    torch.testing.assert_close(
        target.dense(2, torch.float32).y.flatten(), torch.tensor([0.75, 0.25])
    )


@pytest.mark.parametrize(
    ("align_corners", "odds"),
    [(False, [1, 2, 8, 16]), (True, [1, 16 ** (1 / 3), 16 ** (2 / 3), 16])],
)
def test_at_a_stride_by_hand(align_corners: bool, odds: list[float]) -> None:
    """Logits are interpolated, not probabilities: the logarithms of the odds are on a line."""
    logits = torch.tensor([[[[1.0, 16.0]], [[1.0, 1.0]]]], dtype=torch.float64).log()
    target = TeacherTarget(logits, size=(1, 4), align_corners=align_corners)
    assert target.shape == (1, 1, 4)
    y = target.dense(2, torch.float64).y
    torch.testing.assert_close(y[0, 0, 0] / y[0, 1, 0], torch.tensor(odds, dtype=torch.float64))


def test_where_it_is_heard_by_hand() -> None:
    logits, valid = torch.tensor([[[3.0, 9.0], [1.0, 1.0]]]).log(), torch.tensor([[False, True]])
    found = TeacherTarget(logits, valid=valid).dense(2, torch.float32)
    assert found.valid is not None
    assert found.valid.tolist() == [[[False, True]]]
    torch.testing.assert_close(found.y[0, :, 1], torch.tensor([0.9, 0.1]))


# Torch itself


@st.composite
def strides(draw: st.DrawFn) -> tuple[tuple[int, int], tuple[int, int]]:
    """(h, w) and (H, W): whole factors up and down, any sizes, and sizes of 1."""
    h, w = draw(st.integers(1, 6)), draw(st.integers(1, 6))
    factor = draw(st.sampled_from([1, 2, 3, 4, 8]))
    up, free = (h * factor, w * factor), (draw(st.integers(1, 13)), draw(st.integers(1, 13)))
    pairs = [((h, w), up), (up, (h, w)), ((h, w), free), ((h, w), (1, 1)), ((1, 1), free)]
    return draw(st.sampled_from(pairs))


def expected_probs(
    logits: Tensor, size: tuple[int, int], align_corners: bool, temperature: float
) -> Tensor:
    scores = F.interpolate(logits, size, mode="bilinear", align_corners=align_corners)
    return (scores / temperature).softmax(1)


@given(strides(), st.booleans(), st.floats(0.5, 5), st.integers(1, 100), st.integers(0, 2**32 - 1))
def test_equals_torch(
    sizes: tuple[tuple[int, int], tuple[int, int]],
    align_corners: bool,
    temperature: float,
    pixels: int,
    seed: int,
) -> None:
    source, size = sizes
    rng = np.random.default_rng(seed)
    logits = torch.from_numpy(rng.normal(0, 3, (2, 3, *source)))
    target = TeacherTarget(logits, size, temperature, align_corners)
    expected = expected_probs(logits, size, align_corners, temperature)
    whole = target.dense(3, torch.float64).y
    torch.testing.assert_close(whole, expected, rtol=0, atol=1e-12)
    for tile in tiles(target.shape, pixels):
        y = target.read(tile, 3, torch.float64).y
        torch.testing.assert_close(y, tile.of_each(expected), rtol=0, atol=1e-12)


# Properties


def test_the_size_of_the_image_comes_from_the_loss() -> None:
    student, logits = torch.randn(2, 3, 6, 8), torch.randn(2, 3, 3, 2)
    labels = torch.randint(0, 3, (2, 6, 8))
    for impl in ("torch", "chunked"):
        found, given_size = (
            overlap_statistics(student, TeacherTarget(logits, size), impl=impl)
            for size in (None, (6, 8))
        )
        assert torch.equal(found.D, given_size.D)
        mixture = MixedTarget((0.5, 0.5), (HardTarget(labels), TeacherTarget(logits)))
        mean = 0.5 * F.one_hot(labels, 3).movedim(-1, 1) + 0.5 * expected_probs(
            logits, (6, 8), False, 1.0
        )
        one, other = (overlap_statistics(student, t, impl=impl) for t in (mixture, mean))
        torch.testing.assert_close(one.D, other.D)


@pytest.mark.parametrize("impl", ["torch", "chunked", "auto"])
def test_a_part_that_is_not_heard_is_left_out_of_the_loss(impl: str) -> None:
    student, logits = torch.randn(2, 3, 6, 8), torch.randn(2, 3, 3, 4)
    valid = torch.rand(2, 6, 8) < 0.5
    found = overlap_statistics(student, teacher(logits, valid=valid), impl=impl)
    expected = overlap_statistics(student, teacher(logits), valid=valid, impl=impl)
    torch.testing.assert_close(found.D, expected.D)


def test_valid_tells_the_size() -> None:
    """Where student and teacher both have low-resolution logits."""
    student, logits = torch.randn(2, 3, 3, 4), torch.randn(2, 3, 3, 2)
    valid = torch.rand(2, 6, 8) < 0.5
    found = overlap_statistics(student, teacher(logits, valid=valid), upsample="bilinear")
    expected = overlap_statistics(
        student, teacher(logits, size=(6, 8)), valid=valid, upsample="bilinear"
    )
    torch.testing.assert_close(found.D, expected.D)


def test_unheard_pixels_of_a_mixture_are_left_to_the_others() -> None:
    labels, valid = torch.tensor([[0, 1]]), torch.tensor([[True, False]])
    heard = TeacherTarget(torch.zeros(1, 2, 2), valid=valid)
    y = MixedTarget((0.5, 0.5), (HardTarget(labels), heard)).dense(2, torch.float32).y
    assert y.tolist() == [[[0.75, 0], [0.25, 1]]]


def test_the_same_size_is_not_interpolated() -> None:
    logits = torch.randn(2, 3, 4, 5)
    for align_corners in (False, True):
        target = TeacherTarget(logits, (4, 5), align_corners=align_corners)
        torch.testing.assert_close(target.dense(3, torch.float32).y, logits.softmax(1))


@pytest.mark.parametrize("space", [(7,), (2, 3), (2, 3, 4)])
def test_any_space_at_full_resolution(space: tuple[int, ...]) -> None:
    logits = torch.randn(2, 3, *space)
    for size in (None, space):
        y = TeacherTarget(logits, size).dense(3, torch.float32).y
        torch.testing.assert_close(y, logits.softmax(1))


def test_a_constant_added_to_the_logits_changes_nothing() -> None:
    logits = torch.randn(1, 3, 2, 2, dtype=torch.float64)
    one, other = (
        TeacherTarget(x, (5, 3)).dense(3, torch.float64).y for x in (logits, logits + 100)
    )
    torch.testing.assert_close(one, other)


@pytest.mark.parametrize("impl", ["torch", "auto"])
@pytest.mark.parametrize("size", [None, (6, 8)])
def test_the_teacher_gets_no_gradient(impl: str, size: tuple[int, int] | None) -> None:
    student = torch.randn(1, 3, 6, 8, requires_grad=True)
    logits = torch.randn(1, 3, 3, 4, requires_grad=True)
    loss = overlap_statistics(student, TeacherTarget(logits, size), impl=impl).D.sum()
    gradients: tuple[Any, ...] = torch.autograd.grad(loss, (student, logits), allow_unused=True)
    assert gradients[0].abs().sum() > 0
    assert gradients[1] is None


# Dtypes


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
@pytest.mark.parametrize("size", [(4, 5), (9, 13)])
def test_half_precision_logits_are_softened_in_float32(
    dtype: torch.dtype, size: tuple[int, int]
) -> None:
    logits = (5 * torch.randn(1, 3, 4, 5)).to(dtype)
    y = TeacherTarget(logits, size, 3.0).dense(3, torch.float32).y
    expected = expected_probs(logits.double(), size, False, 3.0)
    torch.testing.assert_close(y.double(), expected, rtol=0, atol=1e-6)


def test_huge_logits_are_finite() -> None:
    logits = torch.tensor([[[1e30, -1e30], [-1e30, 0.0]]])
    y = TeacherTarget(logits).dense(2, torch.float32).y
    assert y.tolist() == [[[1, 0], [0, 1]]]


# Errors


@pytest.mark.parametrize(
    "logits", [torch.zeros(2, 3), torch.zeros(1, 2, 3, dtype=torch.long), torch.zeros(4)]
)
def test_something_else_than_logits_raises(logits: Tensor) -> None:
    with pytest.raises(ValueError, match=r"`logits` of the teacher to be floating \(N, C, \*S\)"):
        TeacherTarget(logits)


@pytest.mark.parametrize("temperature", [0.0, -1.0, float("nan")])
def test_a_temperature_of_zero_raises(temperature: float) -> None:
    with pytest.raises(ValueError, match=r"`temperature` to be greater than 0, but got"):
        TeacherTarget(torch.zeros(1, 2, 3), temperature=temperature)


@pytest.mark.parametrize(
    ("logits", "size"),
    [
        (torch.zeros(1, 2, 3), (6,)),
        (torch.zeros(1, 2, 3, 3, 3), (6, 6, 6)),
        (torch.zeros(1, 2, 3, 3), (6,)),
        (torch.zeros(1, 2, 3, 3), (6, 6, 6)),
    ],
)
def test_other_than_pictures_are_not_interpolated(logits: Tensor, size: Any) -> None:
    message = r"Expected the teacher's `logits`, which are interpolated"
    with pytest.raises(ValueError, match=message):
        TeacherTarget(logits, size)
    with pytest.raises(ValueError, match=message):  # the size is that of the images
        overlap_statistics(torch.zeros(1, 2, *size), TeacherTarget(logits))


def test_other_classes_than_the_student_raise() -> None:
    logits = torch.zeros(1, 3, 2, 2)
    for size in (None, (4, 4)):
        with pytest.raises(ValueError, match=r"teacher has 3 classes and the student 5: distillat"):
            TeacherTarget(logits, size).dense(5, torch.float32)


def test_another_number_of_images_raises() -> None:
    with pytest.raises(ValueError, match=r"shape \(N, \*S\) = \(2, 4, 4\), but got \(1, 4, 4\)"):
        overlap_statistics(torch.zeros(2, 3, 4, 4), TeacherTarget(torch.zeros(1, 3, 2, 2)))


def test_a_valid_that_covers_something_else_raises() -> None:
    logits, student = torch.zeros(2, 3, 2, 2), torch.zeros(2, 3, 4, 4)
    message = r"`valid` to have shape \(N, \*S\) = \(2, 4, 4\), but got \(2, 2, 2\)"
    with pytest.raises(ValueError, match=message):
        overlap_statistics(student, TeacherTarget(logits, valid=torch.ones(2, 2, 2) > 0))
    with pytest.raises(ValueError, match=r"`valid` to have shape .*, but got \(2, 1, 4, 4\)"):
        overlap_statistics(student, teacher(logits, valid=torch.ones(2, 1, 4, 4) > 0))
    with pytest.raises(
        TypeError, match=r"`valid` to be bool, True for valid pixels, but got dtype torch.float32"
    ):
        overlap_statistics(student, TeacherTarget(logits, valid=torch.ones(2, 4, 4)))


# Contents, under validate


def test_mistakes_outside_of_valid_are_not_looked_for() -> None:
    logits = torch.zeros(1, 2, 2)
    logits[0, 1, 0] = torch.nan
    target = TeacherTarget(logits)
    target.validate(2, torch.tensor([[False, True]]))
    for valid in (None, torch.tensor([[True, False]])):
        with pytest.raises(ValueError, match=r"teacher's `logits` to be finite"):
            target.validate(2, valid)


def test_what_is_not_heard_is_not_looked_at() -> None:
    logits = torch.tensor([[[torch.nan, 0.0, torch.inf], [0.0, 0.0, 0.0]]])
    target = TeacherTarget(logits, valid=torch.tensor([[False, True, True]]))
    target.validate(2, torch.tensor([[True, True, False]]))
    with pytest.raises(ValueError, match=r"teacher's `logits` to be finite"):
        target.validate(2)
