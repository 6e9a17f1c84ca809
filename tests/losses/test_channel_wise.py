import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from reference import channel_wise_loops
from softiou.losses import ChannelWiseDistillation, channel_wise_divergence

SPACES = ((1,), (7,), (3, 4), (2, 3, 2))


def gradient_of(loss: Tensor, of: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(loss, of)
    return gradient


def double(*shape: int) -> Tensor:
    return torch.randn(*shape, dtype=torch.float64)


@dataclass(frozen=True)
class Pair:
    """Logits of a student and a teacher in float64, where they count, and a temperature."""

    student: Tensor
    teacher: Tensor
    valid: Tensor | None
    temperature: float

    def divergence(self) -> Tensor:
        """(N, C)."""
        return divergence(self.student, self.teacher, self)


def divergence(student: Tensor, teacher: Tensor, pair: Pair) -> Tensor:
    return channel_wise_divergence(
        student, teacher, temperature=pair.temperature, valid=pair.valid, reduction="none"
    )


@st.composite
def pairs(draw: st.DrawFn, *, strides: bool = False) -> Pair:
    """Any space, with and without `valid`, of which images may have nothing."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    images, classes = draw(st.integers(1, 3)), draw(st.integers(1, 3))
    space = draw(st.sampled_from([(3, 4), (1, 5)] if strides else SPACES))
    stride = draw(st.sampled_from([(6, 8), (2, 2), (1, 1), (5, 3)])) if strides else space
    spread = draw(st.sampled_from([0.1, 3.0, 30.0]))
    student, teacher = (
        torch.from_numpy(rng.normal(0, spread, (images, classes, *size)))
        for size in (space, stride)
    )
    share = draw(st.sampled_from([None, 0.0, 0.4, 1.0]))
    valid = None if share is None else torch.from_numpy(rng.random((images, *space)) < share)
    return Pair(student, teacher, valid, draw(st.sampled_from([0.5, 1.0, 4.0, 20.0])))


# Values by hand


def test_by_hand() -> None:
    """Channel 0: phi^t = (3/4, 1/4), phi^s even. Channel 1: equal but for a constant."""
    student = torch.tensor([[[5.0, 5.0], [1.0, 2.0]]])
    teacher = torch.tensor([[[math.log(3.0), 0.0], [-4.0, -3.0]]])
    expected = 0.75 * math.log(1.5) + 0.25 * math.log(0.5)
    by = {
        reduction: channel_wise_divergence(student, teacher, temperature=1.0, reduction=reduction)
        for reduction in ("none", "sum", "mean")
    }
    torch.testing.assert_close(by["none"], torch.tensor([[expected, 0.0]]))
    assert by["sum"].item() == pytest.approx(expected)
    assert by["mean"].item() == pytest.approx(expected / 2)


def test_temperature_by_hand() -> None:
    """At temperature 2 odds of 9 become 3, and the divergence counts four times."""
    teacher = torch.tensor([[[9.0, 1.0]]]).log()
    found = channel_wise_divergence(torch.zeros(1, 1, 2), teacher, temperature=2.0)
    assert found.item() == pytest.approx(4 * (0.75 * math.log(1.5) + 0.25 * math.log(0.5)))


def test_the_other_direction_is_another_divergence() -> None:
    """KL(phi^t || phi^s), not KL(phi^s || phi^t)."""
    student, teacher = torch.tensor([[[3.0, 1.0]]]).log(), torch.zeros(1, 1, 2)
    found = channel_wise_divergence(student, teacher, temperature=1.0)
    assert found.item() == pytest.approx(0.5 * math.log(0.5 / 0.75) + 0.5 * math.log(0.5 / 0.25))


def test_gradient_by_hand() -> None:
    """T (phi^s - phi^t) / (N C)."""
    student, teacher = double(2, 3, 5).requires_grad_(), double(2, 3, 5)
    gradient = gradient_of(channel_wise_divergence(student, teacher, temperature=4.0), student)
    phi_s, phi_t = ((x.detach() / 4).softmax(2) for x in (student, teacher))
    torch.testing.assert_close(gradient, 4 * (phi_s - phi_t) / 6)


def test_module_calls_the_function() -> None:
    student, teacher = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 4, 4)
    valid = torch.rand(2, 4, 4) < 0.7
    found = ChannelWiseDistillation()(student, teacher)
    assert torch.equal(found, channel_wise_divergence(student, teacher))
    for temperature, reduction in ((1.0, "sum"), (2.0, "none")):
        module = ChannelWiseDistillation(temperature=temperature, reduction=reduction)
        expected = channel_wise_divergence(
            student, teacher, temperature=temperature, valid=valid, reduction=reduction
        )
        assert torch.equal(module(student, teacher, valid=valid), expected)
    assert list(ChannelWiseDistillation().state_dict()) == []


# The slow reference


@given(pairs() | pairs(strides=True))
def test_agrees_with_loops(pair: Pair) -> None:
    expected = channel_wise_loops.divergence(
        pair.student.numpy(),
        pair.teacher.numpy(),
        temperature=pair.temperature,
        valid=None if pair.valid is None else pair.valid.numpy(),
    )
    torch.testing.assert_close(pair.divergence(), torch.from_numpy(expected), rtol=1e-9, atol=1e-9)


# Properties


@given(pairs() | pairs(strides=True))
def test_never_negative(pair: Pair) -> None:
    assert (pair.divergence() >= -1e-11).all()  # T^2 = 400 times a rounding


@given(pairs(), st.integers(0, 2**32 - 1))
def test_zero_if_equal_up_to_a_constant(pair: Pair, seed: int) -> None:
    constant = np.random.default_rng(seed).normal(0, 10, (*pair.student.shape[:2], 1))
    student = (pair.teacher.flatten(2) + torch.from_numpy(constant)).view_as(pair.teacher)
    found = divergence(student, pair.teacher, pair)
    torch.testing.assert_close(found, torch.zeros_like(found), rtol=0, atol=1e-10)
    assert divergence(pair.teacher, pair.teacher, pair).eq(0).all()


@given(pairs())
def test_zero_only_if_equal(pair: Pair) -> None:
    """Pinsker: the divergence is at least half the squared distance of the distributions."""
    valid = torch.tensor(True) if pair.valid is None else pair.valid.flatten(1).unsqueeze(1)
    phi_s, phi_t = (
        (x.flatten(2) / pair.temperature).masked_fill(~valid, -math.inf).softmax(2).nan_to_num()
        for x in (pair.student, pair.teacher)
    )
    distance = (phi_s - phi_t).abs().sum(2)
    assert (pair.divergence() / pair.temperature**2 >= distance**2 / 2 - 1e-12).all()


@given(pairs() | pairs(strides=True), st.integers(0, 2**32 - 1))
def test_a_constant_of_a_channel_changes_nothing(pair: Pair, seed: int) -> None:
    rng = np.random.default_rng(seed)
    size = (*pair.student.shape[:2], *[1] * (pair.student.ndim - 2))
    a, b = (torch.from_numpy(rng.normal(0, 10, size)) for _ in range(2))
    found = divergence(pair.student + a, pair.teacher + b, pair)
    torch.testing.assert_close(found, pair.divergence(), rtol=1e-9, atol=1e-9)


@given(pairs(), st.randoms(use_true_random=False))
def test_order_of_images_classes_and_pixels_does_not_matter(pair: Pair, random: Any) -> None:
    student, teacher = pair.student.flatten(2), pair.teacher.flatten(2)
    images, classes, pixels = (random.sample(range(n), n) for n in student.shape)
    valid = None if pair.valid is None else pair.valid.flatten(1)[images][:, pixels]
    shuffled = [x[images][:, classes][:, :, pixels] for x in (student, teacher)]
    found = Pair(shuffled[0], shuffled[1], valid, pair.temperature).divergence()
    torch.testing.assert_close(found, pair.divergence()[images][:, classes], rtol=1e-9, atol=1e-9)


@given(pairs())
def test_the_reductions_are_those_of_the_matrix(pair: Pair) -> None:
    matrix = pair.divergence()
    for reduction, expected in (("sum", matrix.sum()), ("mean", matrix.mean())):
        found = channel_wise_divergence(
            pair.student,
            pair.teacher,
            temperature=pair.temperature,
            valid=pair.valid,
            reduction=reduction,
        )
        torch.testing.assert_close(found, expected)


@given(pairs(), st.sampled_from([1e-3, 1e-2, 1e2, 1e4]))
def test_any_temperature_is_finite(pair: Pair, temperature: float) -> None:
    student = pair.student.float().requires_grad_()
    loss = channel_wise_divergence(
        student, pair.teacher.float(), temperature=temperature, valid=pair.valid
    )
    assert math.isfinite(loss.item())
    assert torch.isfinite(gradient_of(loss, student)).all()


def test_a_high_temperature_compares_the_centred_logits() -> None:
    """T^2 KL -> half the variance over the pixels of the difference: the gradient does not fade."""
    student, teacher = double(1, 1, 50).requires_grad_(), double(1, 1, 50)
    loss = channel_wise_divergence(student, teacher, temperature=1e4)
    expected = (teacher - student.detach()).var(correction=0) / 2
    assert loss.item() == pytest.approx(expected.item(), rel=1e-3)
    difference = student.detach() - teacher
    centred = (difference - difference.mean()) / 50
    torch.testing.assert_close(gradient_of(loss, student), centred, rtol=1e-2, atol=1e-5)


# Pixels that do not count


@pytest.mark.parametrize("garbage", [0.0, 1e30, math.nan, math.inf, -math.inf])
def test_invalid_pixels_are_cut_out(garbage: float) -> None:
    student, teacher = double(2, 3, 10), double(2, 3, 10)
    cut, kept = [0, 6], [1, 2, 3, 4, 5, 7, 8, 9]
    small = student[..., kept].clone().requires_grad_()
    expected = channel_wise_divergence(small, teacher[..., kept])
    valid = torch.ones(2, 10, dtype=torch.bool)
    student[..., cut], teacher[..., cut], valid[:, cut] = garbage, garbage, False
    student.requires_grad_()
    found = channel_wise_divergence(student, teacher, valid=valid)
    torch.testing.assert_close(found, expected)
    gradient = gradient_of(found, student)
    torch.testing.assert_close(gradient[..., kept], gradient_of(expected, small))
    assert gradient[..., cut].eq(0).all()


def test_each_image_has_its_own_pixels() -> None:
    student, teacher = double(2, 2, 3, 4), double(2, 2, 3, 4)
    valid = torch.rand(2, 3, 4) < 0.6
    found = channel_wise_divergence(student, teacher, valid=valid, reduction="none")
    for n in range(2):
        alone = channel_wise_divergence(
            student[n][:, valid[n]][None], teacher[n][:, valid[n]][None], reduction="none"
        )
        torch.testing.assert_close(found[n], alone[0])


def test_all_valid_is_no_valid() -> None:
    student, teacher = torch.randn(2, 3, 4, 4), torch.randn(2, 3, 2, 2)
    everything = torch.ones(2, 4, 4, dtype=torch.bool)
    found = channel_wise_divergence(student, teacher, valid=everything)
    assert torch.equal(found, channel_wise_divergence(student, teacher))


# Strides


@pytest.mark.parametrize("size", [(3, 4), (24, 32), (5, 7), (1, 1)])
def test_a_teacher_at_another_stride_is_interpolated(size: tuple[int, int]) -> None:
    student, teacher = torch.randn(2, 3, 6, 8), torch.randn(2, 3, *size)
    large = F.interpolate(teacher, (6, 8), mode="bilinear", align_corners=False)
    for valid in (None, torch.rand(2, 6, 8) < 0.5):
        found = channel_wise_divergence(student, teacher, valid=valid)
        assert torch.equal(found, channel_wise_divergence(student, large, valid=valid))


def test_strides_by_hand() -> None:
    """Logits are interpolated, not phi: the logarithms of the odds are on a line."""
    teacher = torch.tensor([[[[1.0, 16.0]]]]).log()
    found = channel_wise_divergence(torch.zeros(1, 1, 1, 4), teacher, temperature=1.0)
    expected = sum(odds / 27 * math.log(4 * odds / 27) for odds in (1, 2, 8, 16))
    assert found.item() == pytest.approx(expected)


# Nothing valid


@pytest.mark.filterwarnings("ignore:Anomaly Detection")  # says that it is on
@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("garbage", [0.0, math.nan])
def test_nothing_valid_is_an_attached_zero(reduction: str, garbage: float) -> None:
    student = torch.full((2, 3, 4), garbage, requires_grad=True)
    valid = torch.zeros(2, 4, dtype=torch.bool)
    with torch.autograd.detect_anomaly(check_nan=True):
        loss = channel_wise_divergence(
            student, torch.full((2, 3, 4), garbage), valid=valid, reduction=reduction
        )
        assert loss.eq(0).all()
        assert gradient_of(loss.sum(), student).eq(0).all()


def test_an_image_without_a_valid_pixel_counts_in_the_mean() -> None:
    student, teacher = torch.randn(2, 3, 4, requires_grad=True), torch.randn(2, 3, 4)
    valid = torch.tensor([[True] * 4, [False] * 4])
    loss = channel_wise_divergence(student, teacher, valid=valid)
    torch.testing.assert_close(loss, channel_wise_divergence(student[:1], teacher[:1]) / 2)
    gradient = gradient_of(loss, student)
    assert gradient[0].ne(0).any()
    assert gradient[1].eq(0).all()


@pytest.mark.parametrize("shape", [(0, 3, 4), (2, 3, 0)])
def test_no_image_and_no_pixel_are_an_attached_zero(shape: tuple[int, ...]) -> None:
    student = torch.zeros(*shape, requires_grad=True)
    loss = channel_wise_divergence(student, torch.zeros(*shape))
    assert loss.item() == 0
    assert gradient_of(loss, student).shape == shape


# Gradients


@pytest.mark.parametrize("reduction", ["mean", "sum", "none"])
@pytest.mark.parametrize("masked", [False, True])
@pytest.mark.parametrize("size", [(3, 4), (2, 2)])
def test_gradcheck(reduction: str, masked: bool, size: tuple[int, int]) -> None:
    student, teacher = double(2, 2, 3, 4).requires_grad_(), double(2, 2, *size)
    valid = torch.rand(2, 3, 4) < 0.5 if masked else None
    loss = ChannelWiseDistillation(temperature=2.0, reduction=reduction)
    assert torch.autograd.gradcheck(lambda z: loss(z, teacher, valid), (student,))
    assert torch.autograd.gradgradcheck(lambda z: loss(z, teacher, valid), (student,))


@pytest.mark.parametrize("size", [(4, 4), (2, 2)])
def test_the_teacher_gets_no_gradient(size: tuple[int, int]) -> None:
    student = torch.randn(2, 3, 4, 4, requires_grad=True)
    teacher = torch.randn(2, 3, *size, requires_grad=True)
    loss = channel_wise_divergence(student, teacher)
    gradients: tuple[Any, ...] = torch.autograd.grad(loss, (student, teacher), allow_unused=True)
    assert gradients[0].abs().sum() > 0
    assert gradients[1] is None


def test_descent_makes_the_student_the_teacher() -> None:
    teacher = double(1, 2, 6)
    student = torch.zeros_like(teacher, requires_grad=True)
    loss = ChannelWiseDistillation()
    optimizer = torch.optim.SGD([student], lr=10.0)
    for _ in range(300):
        optimizer.zero_grad()
        loss(student, teacher).backward()
        optimizer.step()
    torch.testing.assert_close(
        student.detach(), teacher - teacher.mean(2, keepdim=True), rtol=0, atol=1e-6
    )


# Dtypes


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("size", [(128, 128), (32, 32)])
def test_half_precision_of_a_big_image(dtype: torch.dtype, size: tuple[int, int]) -> None:
    """The loss of rounded logits is as exact as that of the same numbers in float32."""
    student = torch.randn(2, 3, 128, 128).mul(3).to(dtype)
    teacher = torch.randn(2, 3, *size).mul(3).to(dtype)
    valid = torch.rand(2, 128, 128) < 0.8

    def value_and_gradient(inner: torch.dtype) -> tuple[Tensor, Tensor]:
        logits = student.to(inner).requires_grad_()
        value = channel_wise_divergence(logits, teacher.to(inner), valid=valid)
        # Scaled as a GradScaler does: the gradient of one pixel in 2^14 is tiny.
        return value, gradient_of(value * 2**14, logits)

    half, half_gradient = value_and_gradient(dtype)
    single, single_gradient = value_and_gradient(torch.float32)
    exact, exact_gradient = value_and_gradient(torch.float64)
    assert (half.dtype, half_gradient.dtype) == (torch.float32, dtype)
    assert (exact.dtype, exact_gradient.dtype) == (torch.float64, torch.float64)
    assert half.item() == single.item()
    assert single.item() == pytest.approx(exact.item(), rel=1e-5)
    assert torch.equal(half_gradient, single_gradient.to(dtype))
    torch.testing.assert_close(single_gradient.double(), exact_gradient, rtol=1e-3, atol=1e-4)


def test_dtype_follows_the_student() -> None:
    student, teacher = torch.randn(1, 2, 4, 4), torch.randn(1, 2, 2, 2)
    assert channel_wise_divergence(student, teacher.double()).dtype == torch.float32
    assert channel_wise_divergence(student.double(), teacher.half()).dtype == torch.float64


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast(dtype: torch.dtype) -> None:
    head, image = torch.nn.Conv2d(4, 3, 1), torch.randn(2, 4, 8, 8)
    loss = ChannelWiseDistillation()
    with torch.autocast("cpu", dtype=dtype):
        student, teacher = head(image), torch.randn(2, 3, 4, 4).to(dtype)
        inside = loss(student, teacher)
    assert student.dtype == dtype
    assert inside.dtype == torch.float32
    assert torch.equal(inside, loss(student, teacher))
    inside.backward()
    assert head.weight.grad is not None
    assert head.weight.grad.abs().max() > 0


def test_huge_logits_are_finite() -> None:
    student = torch.tensor([[[1e30, -1e30, 5.0]]], requires_grad=True)
    teacher = torch.tensor([[[1e30, 0.0, -1e30]]])
    for valid in (None, torch.tensor([[True, True, False]])):
        loss = channel_wise_divergence(student, teacher, valid=valid)
        assert loss.item() == 0
        assert torch.isfinite(gradient_of(loss, student)).all()


def test_memory_layout_does_not_matter() -> None:
    student, teacher = torch.randn(2, 3, 6, 8), torch.randn(2, 3, 6, 8)
    expected = channel_wise_divergence(student, teacher)
    last = [x.to(memory_format=torch.channels_last) for x in (student, teacher)]
    torch.testing.assert_close(channel_wise_divergence(*last), expected)


# torch.compile


@pytest.mark.filterwarnings("ignore")  # of the compiler's own making
@pytest.mark.parametrize("backend", ["aot_eager", pytest.param("inductor", marks=pytest.mark.slow)])
def test_compiled_loss_equals_eager(backend: str) -> None:
    student, teacher = torch.randn(2, 3, 8, 8, requires_grad=True), torch.randn(2, 3, 4, 4)
    valid = torch.rand(2, 8, 8) < 0.5
    loss = ChannelWiseDistillation()
    torch._dynamo.reset()
    found = torch.compile(loss, backend=backend, fullgraph=True)(student, teacher, valid)
    expected = loss(student, teacher, valid)
    torch.testing.assert_close(found, expected)
    torch.testing.assert_close(gradient_of(found, student), gradient_of(expected, student))


# Errors


@pytest.mark.parametrize(
    ("student", "teacher", "message"),
    [
        ((1, 5, 4), (1, 3, 4), r"teacher has 3 classes and the student 5: .* the same classes"),
        ((2, 3, 4, 4), (1, 3, 2, 2), r"`teacher_logits` of 2 images, .* but got 1 images"),
        ((1, 3, 4), (1, 3, 8), r"`teacher_logits` to have the student's shape \(1, 3, 4\)"),
        ((1, 3, 4, 4), (1, 3, 16), r"`teacher_logits` to have the student"),
        ((1, 3, 4, 4, 4), (1, 3, 2, 2, 2), r"`teacher_logits` to have the student"),
        ((3, 4), (1, 3, 4), r"`student_logits` to have shape \(N, C, \*S\).*got \(3, 4\)"),
        ((1, 3, 4), (3, 4), r"`teacher_logits` to have shape \(N, C, \*S\).*got \(3, 4\)"),
    ],
)
def test_shapes_that_do_not_match_raise(
    student: tuple[int, ...], teacher: tuple[int, ...], message: str
) -> None:
    with pytest.raises(ValueError, match=message):
        channel_wise_divergence(torch.zeros(student), torch.zeros(teacher))


def test_other_dtypes_raise() -> None:
    logits, labels = torch.zeros(1, 2, 4), torch.zeros(1, 2, 4, dtype=torch.long)
    with pytest.raises(TypeError, match=r"`student_logits` to have a floating dtype.*int64"):
        channel_wise_divergence(labels, logits)
    with pytest.raises(TypeError, match=r"`teacher_logits` to have a floating dtype.*int64"):
        channel_wise_divergence(logits, labels)


def test_a_teacher_on_another_device_raises() -> None:
    with pytest.raises(ValueError, match=r"`teacher_logits` to be on cpu, .* but got meta"):
        channel_wise_divergence(torch.zeros(1, 2, 4), torch.zeros(1, 2, 4, device="meta"))


def test_a_wrong_valid_raises() -> None:
    logits = torch.zeros(1, 2, 4, 4)
    with pytest.raises(TypeError, match=r"`valid` to be bool, .* but got dtype torch.float32"):
        channel_wise_divergence(logits, logits, valid=torch.ones(1, 4, 4))
    # At the size of the student, not of the teacher or the image.
    with pytest.raises(ValueError, match=r"`valid` to have shape \(N, \*S\) = \(1, 4, 4\)"):
        channel_wise_divergence(
            logits, torch.zeros(1, 2, 8, 8), valid=torch.ones(1, 8, 8, dtype=torch.bool)
        )


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"temperature": 0.0}, r"`temperature` to be finite and greater than 0, but got 0.0"),
        ({"temperature": -1.0}, r"`temperature` to be finite and greater than 0"),
        ({"temperature": math.nan}, r"`temperature` to be finite and greater than 0"),
        ({"temperature": math.inf}, r"`temperature` to be finite and greater than 0"),
        ({"reduction": "average"}, r"`reduction` to be one of 'mean', 'sum', 'none', but got"),
    ],
)
def test_wrong_settings_raise(settings: dict[str, Any], message: str) -> None:
    logits = torch.zeros(1, 2, 4)
    with pytest.raises(ValueError, match=message):
        channel_wise_divergence(logits, logits, **settings)
    with pytest.raises(ValueError, match=message):
        ChannelWiseDistillation(**settings)


def test_printed_module_shows_the_settings() -> None:
    text = repr(ChannelWiseDistillation(temperature=2.0, reduction="sum"))
    assert text == "ChannelWiseDistillation(temperature=2.0, reduction='sum')"
