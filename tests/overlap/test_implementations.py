"""Every implementation of the pass against the slow float64 loops, and against each other."""

import ctypes
import math
from collections.abc import Callable
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from reference import overlap_loops
from reference.cases import Case, cases
from softiou import targets
from softiou._native import warn_once
from softiou.losses import JaccardMetricLoss, TverskyLoss
from softiou.overlap import IMPLS, OverlapStatistics, native, operators, overlap_statistics, triton
from softiou.overlap.job import Job
from softiou.overlap.operators import IMPLEMENTATIONS
from softiou.targets import SoftTile, Target
from softiou.tiles import Tile, whole

SUMS = ("P", "Y", "D", "M", "p_max", "y_max", "weight", "cross_entropy")
NAN, INF = math.nan, math.inf
TILED = ("chunked", "native")
every_tiled = pytest.mark.parametrize("impl", TILED)


def value_and_gradient(
    logits: Tensor, target: Any, seed: int = 0, **options: Any
) -> tuple[OverlapStatistics, Tensor]:
    """Statistics, and the gradient of a random linear function of them."""
    mixed = options.get("activation") != "none"
    logits = logits.detach().clone(memory_format=torch.preserve_format).requires_grad_()
    defaults = {"cross_entropy": mixed, "maxima": True, "validate": False}
    s = overlap_statistics(logits, target, **{**defaults, **options})
    generator = torch.Generator().manual_seed(seed)
    total = logits.new_zeros((), dtype=torch.float64)
    for x in (s.P, s.D, s.M, s.cross_entropy):
        if x is not None:
            weights = torch.randn(x.shape, generator=generator, dtype=torch.float64)
            total = total + (weights * x.double()).sum()
    (gradient,) = torch.autograd.grad(total, logits)
    return s, gradient


def assert_agree(
    one: tuple[OverlapStatistics, Tensor],
    other: tuple[OverlapStatistics, Tensor],
    *,
    rtol: float = 1e-5,
    atol: float = 1e-5,
) -> None:
    for name in SUMS:
        found, expected = getattr(one[0], name), getattr(other[0], name)
        assert (found is None) == (expected is None)
        if found is not None:
            torch.testing.assert_close(found.double(), expected.double(), rtol=rtol, atol=atol)
    torch.testing.assert_close(one[1].double(), other[1].double(), rtol=rtol, atol=atol)


def scene(
    shape: tuple[int, ...], dtype: torch.dtype = torch.float32, *, ignore: bool = True
) -> tuple[Tensor, Tensor]:
    logits = 3 * torch.randn(shape).to(dtype)
    target = torch.randint(0, shape[1], (shape[0], *shape[2:]))
    if ignore:
        target[torch.rand(target.shape) < 0.2] = 255
    return logits, target


# The slow reference, in single precision and for tiles that divide nothing


@pytest.mark.parametrize("impl", ["torch", "chunked"])
@settings(max_examples=200)
@given(case=cases(), tile=st.integers(1, 9))
def test_agrees_with_loops(impl: str, case: Case, tile: int) -> None:
    check_against_loops(case, impl, tile)


@settings(max_examples=300)
@given(case=cases(), tile=st.integers(1, 9))
def test_native_agrees_with_loops(case: Case, tile: int) -> None:
    check_against_loops(case, "native", tile)


def check_against_loops(case: Case, impl: str, tile: int) -> None:
    data = case.reference()
    logits, target = case.tensors(torch.float32)
    if target.is_floating_point():
        target = target.float()
    mixed = case.activation != "none"
    found = overlap_statistics(
        logits,
        target,
        **case.settings(),
        **case.maps(),
        cross_entropy=mixed,
        maxima=True,
        impl=impl,
        tile=tile,
    )
    for name, expected in overlap_loops.statistics(data).items():
        np.testing.assert_allclose(getattr(found, name).numpy(), expected, rtol=1e-5, atol=2e-5)
    if mixed:
        total, weight = overlap_loops.cross_entropy(data)
        assert found.cross_entropy is not None
        np.testing.assert_allclose(found.cross_entropy.numpy(), total, rtol=1e-5, atol=1e-4)
        np.testing.assert_allclose(found.weight.numpy(), weight, rtol=1e-6)


@settings(max_examples=200)
@given(case=cases(), tile=st.integers(1, 9), seed=st.integers(0, 99))
def test_gradient_of_chunked_is_that_of_the_definition(case: Case, tile: int, seed: int) -> None:
    logits, target = case.tensors()
    options = {**case.settings(), **case.maps(), "seed": seed}
    plain = value_and_gradient(logits, target, impl="torch", **options)
    found = value_and_gradient(logits, target, impl="chunked", tile=tile, **options)
    assert_agree(found, plain, rtol=1e-9, atol=1e-10)


@settings(max_examples=200)
@given(case=cases(), tile=st.integers(1, 9), seed=st.integers(0, 99))
def test_gradient_of_native_is_that_of_the_definition(case: Case, tile: int, seed: int) -> None:
    logits, target = case.tensors(torch.float32)
    if target.is_floating_point():
        target = target.float()
    options = {**case.settings(), **case.maps(), "seed": seed}
    plain = value_and_gradient(logits.double(), target, impl="torch", **options)
    found = value_and_gradient(logits, target, impl="native", tile=tile, **options)
    assert_agree(found, plain, rtol=2e-5, atol=2e-5)


# Shapes, layouts, dtypes


@every_tiled
@pytest.mark.parametrize("num_classes", [2, 3, 19, 150])
@pytest.mark.parametrize("space", [(35,), (7, 11), (3, 5, 4), (1, 1), (40, 70)])
def test_any_space_and_number_of_classes(impl: str, num_classes: int, space: Any) -> None:
    logits, target = scene((2, num_classes, *space))
    options: dict[str, Any] = {"ignore_index": 255}
    plain = value_and_gradient(logits.double(), target, impl="torch", **options)
    for tile in (None, 16):
        assert_agree(value_and_gradient(logits, target, impl=impl, tile=tile, **options), plain)


LAYOUTS: dict[str, Callable[[Tensor], Tensor]] = {
    "channels last": lambda x: x.to(memory_format=torch.channels_last),
    "transposed": lambda x: x.mT.contiguous().mT,
    "every second": lambda x: x.repeat_interleave(2, -1)[..., ::2],
    "cut out": lambda x: F.pad(x, (2, 3, 1, 2))[..., 1:-2, 2:-3],
    "expanded": lambda x: x[:1].expand_as(x),
}


@every_tiled
@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("soft", [False, True])
def test_memory_layout_does_not_matter(impl: str, layout: str, soft: bool) -> None:
    logits, target = scene((2, 5, 9, 14))
    if soft:
        target = torch.randn(2, 5, 9, 14).softmax(1)
    valid, weights = torch.rand(2, 9, 14) < 0.8, torch.rand(2, 9, 14)
    other = LAYOUTS[layout](logits)
    plain = value_and_gradient(
        other.double(), target, impl="torch", ignore_index=255, valid=valid, weights=weights
    )
    strided = [x.mT.contiguous().mT for x in (target, valid, weights)]
    found = value_and_gradient(
        other, strided[0], impl=impl, ignore_index=255, valid=strided[1], weights=strided[2]
    )
    assert_agree(found, plain)
    if layout in ("channels last", "transposed"):
        assert found[1].stride() == other.stride()


@every_tiled
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
@pytest.mark.parametrize("kind", ["hard", "dense", "smoothed"])
def test_half_precision_of_a_big_image(impl: str, dtype: torch.dtype, kind: str) -> None:
    """The error against float64 is at most twice that of the plain path in the same dtype."""
    logits, hard = scene((1, 3, 512, 512), dtype, ignore=False)
    target: Any = {
        "hard": hard,
        "dense": torch.randn(1, 3, 512, 512).softmax(1),
        "smoothed": targets.boundary(hard),
    }[kind]
    loss = JaccardMetricLoss(cross_entropy=0.25)

    def run(logits: Tensor, impl: str) -> tuple[Tensor, Tensor]:
        loss.impl = impl
        logits = logits.detach().requires_grad_()
        value = loss(logits, target)
        (gradient,) = torch.autograd.grad(value * 2**14, logits)
        return value.detach(), gradient

    exact, exact_gradient = run(logits.double(), "torch")
    plain, plain_gradient = run(logits, "torch")
    found, gradient = run(logits, impl)
    assert (found.dtype, gradient.dtype) == (torch.float32, dtype)
    assert abs(found - exact) <= 2 * abs(plain - exact) + 1e-7
    error, allowed = ((g.double() - exact_gradient).abs() for g in (gradient, plain_gradient))
    assert error.mean() <= 2 * allowed.mean()
    assert error.max() <= 2 * allowed.max()


@every_tiled
def test_single_precision_of_a_big_image(impl: str) -> None:
    logits, target = scene((2, 19, 300, 300))
    exact, plain, found = (
        value_and_gradient(z, target, ignore_index=255, impl=i)
        for z, i in ((logits.double(), "torch"), (logits, "torch"), (logits, impl))
    )
    for name in ("P", "Y", "D", "M", "cross_entropy"):
        a, b, c = (getattr(s, name).double() for s, _ in (exact, plain, found))
        assert (c - a).abs().max() <= 2 * (b - a).abs().max() + 1e-6 * a.abs().max(), name
    assert (found[1] - exact[1]).abs().max() <= 2 * (plain[1] - exact[1]).abs().max()


def test_float64_is_not_for_native() -> None:
    logits, target = scene((1, 3, 8), torch.float64)
    with pytest.raises(ValueError, match=r"computes in float32, .* Use 'auto' or 'chunked'"):
        overlap_statistics(logits, target, impl="native")
    assert overlap_statistics(logits, target).P.dtype == torch.float64


@pytest.mark.parametrize("num_classes", [1, 2])
@pytest.mark.parametrize("dtype", [torch.float32, torch.bfloat16])
@pytest.mark.parametrize("odd", ["none", "ignored", "ignored class", "no class", "strided"])
@pytest.mark.parametrize("cross_entropy", [False, True])
def test_two_outcomes_are_read_in_place(
    num_classes: int, dtype: torch.dtype, odd: str, cross_entropy: bool
) -> None:
    """Tiles in which every label counts, beside tiles with one that does not."""
    generator = torch.Generator().manual_seed(3)
    logits = 40 * torch.randn(2, num_classes, 6, 50, generator=generator).to(dtype)
    labels = torch.randint(0, 2, (2, 6, 50), generator=generator)
    if odd == "ignored":
        labels[0, 2, 7] = labels[1, 5] = 255
    if odd == "no class":
        labels[0, 3, 49], labels[1, 0, 0] = 2, -(2**40)
    if odd == "strided":
        labels = labels.repeat_interleave(2, -1)[..., ::2]
    options: dict[str, Any] = {
        "activation": "sigmoid" if num_classes == 1 else "softmax",
        "ignore_index": {"ignored": 255, "ignored class": 0}.get(odd),
        "cross_entropy": cross_entropy,
        "maxima": False,
    }
    native = value_and_gradient(logits, labels, impl="native", tile=16, **options)
    plain = value_and_gradient(logits.float(), labels, impl="torch", **options)
    tolerance = 1e-5 if dtype == torch.float32 else 1e-2
    for name in ("P", "Y", "D", "M", "weight", "cross_entropy"):
        expected = getattr(plain[0], name)
        if expected is not None:
            torch.testing.assert_close(getattr(native[0], name), expected, rtol=1e-5, atol=1e-5)
    torch.testing.assert_close(native[1].float(), plain[1], rtol=tolerance, atol=tolerance)


@every_tiled
@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32])
def test_labels_of_any_dtype(impl: str, dtype: torch.dtype) -> None:
    logits, target = scene((2, 2, 6, 7), ignore=False)
    plain = value_and_gradient(logits.double(), target, impl="torch")
    assert_agree(value_and_gradient(logits, target.to(dtype), impl=impl), plain)


@every_tiled
@pytest.mark.parametrize("label", [-1, 3, 99, 255, 2**31 + 1, -(2**40)])
def test_labels_outside_the_classes_are_never_read_out_of_bounds(impl: str, label: int) -> None:
    logits, target = scene((2, 3, 5, 8), ignore=False)
    valid = torch.rand(2, 5, 8) < 0.7
    wrong = torch.where(valid, target, label)
    plain = value_and_gradient(logits.double(), target, impl="torch", valid=valid)
    found = value_and_gradient(logits, wrong, impl=impl)
    assert_agree(found, plain)
    assert torch.equal(found[1].movedim(1, -1)[~valid], torch.zeros(int((~valid).sum()), 3))
    with pytest.raises(ValueError, match=r"class indices in \[0, 2\]"):
        overlap_statistics(logits, wrong, impl=impl, validate=True)


@every_tiled
@pytest.mark.parametrize("garbage", [NAN, INF, -INF, 1e30])
@pytest.mark.parametrize("kind", ["hard", "dense", "smoothed"])
def test_what_does_not_count_is_never_looked_at(impl: str, garbage: float, kind: str) -> None:
    logits, hard = scene((2, 3, 6, 40), ignore=False)
    valid = torch.rand(2, 6, 40) < 0.6
    soft = torch.randn(2, 3, 6, 40).softmax(1)
    clean: Any = {"hard": hard, "dense": soft, "smoothed": targets.smooth(hard, 0.3)}[kind]
    plain = value_and_gradient(logits.double(), clean, impl="torch", valid=valid)
    dirty_logits = torch.where(valid.unsqueeze(1), logits, garbage)
    dirty: Any = torch.where(valid.unsqueeze(1), soft, garbage) if kind == "dense" else clean
    weights = torch.where(valid, 1.0, garbage)
    found = value_and_gradient(dirty_logits, dirty, impl=impl, valid=valid, weights=weights)
    assert_agree(found, plain)
    assert found[1].movedim(1, -1)[~valid].abs().sum() == 0


@every_tiled
def test_extreme_logits(impl: str) -> None:
    logits = torch.tensor([[[1e4, -1e4, 3e38, -INF], [-1e4, 1e4, -3e38, 0.0], [0, 0, 0, 1.0]]])
    target = torch.tensor([[1, 1, 0, 2]])
    plain = value_and_gradient(logits.double(), target, impl="torch")
    assert torch.isfinite(plain[1]).all()
    assert_agree(value_and_gradient(logits, target, impl=impl), plain)


@every_tiled
def test_nan_that_counts_is_not_hidden(impl: str) -> None:
    logits, target = scene((1, 3, 20), ignore=False)
    logits[0, 1, 7] = NAN
    assert overlap_statistics(logits, target, impl=impl).P.isnan().any()


@every_tiled
@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 3, 0, 4)])
def test_empty_batches(impl: str, shape: tuple[int, ...]) -> None:
    s, gradient = value_and_gradient(
        torch.zeros(shape), torch.zeros(shape[0], *shape[2:], dtype=torch.long), impl=impl
    )
    assert s.P.shape == (shape[0], 3)
    assert (s.P.sum() + s.weight.sum()).item() == 0
    assert gradient.shape == shape


# Determinism


def bits(x: Tensor) -> bytes:
    return ctypes.string_at(x.contiguous().data_ptr(), x.numel() * x.element_size())


@every_tiled
@pytest.mark.parametrize("upsample", [None, "bilinear"])
def test_runs_are_equal_to_the_last_bit(impl: str, upsample: str | None) -> None:
    logits, target = scene((3, 19, 96, 80))
    if upsample:
        logits = logits[..., ::4, ::4].contiguous()
    runs = [
        value_and_gradient(logits, target, ignore_index=255, impl=impl, upsample=upsample)
        for _ in range(3)
    ]
    for s, gradient in runs[1:]:
        assert bits(gradient) == bits(runs[0][1])
        for name in SUMS:
            assert bits(getattr(s, name).detach()) == bits(getattr(runs[0][0], name).detach())


@pytest.mark.parametrize("upsample", [None, "bilinear"])
def test_native_does_not_depend_on_the_number_of_threads(upsample: str | None) -> None:
    logits, target = scene((2, 19, 64, 96))
    if upsample:
        logits = logits[..., ::3, ::5].contiguous()
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 5):
            torch.set_num_threads(threads)
            found.append(
                value_and_gradient(
                    logits, target, ignore_index=255, impl="native", upsample=upsample
                )
            )
    finally:
        torch.set_num_threads(before)
    for s, gradient in found[1:]:
        assert bits(gradient) == bits(found[0][1])
        assert bits(s.D.detach()) == bits(found[0][0].D.detach())


# Low-resolution logits

SIZES = [(32, 48), (13, 29), (8, 12), (5, 7), (31, 12), (8, 1), (1, 1), (64, 13)]


@every_tiled
@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("align_corners", [False, True])
@pytest.mark.parametrize("kind", ["hard", "dense", "smoothed"])
def test_low_resolution_equals_interpolate_and_loss(
    impl: str, size: tuple[int, int], align_corners: bool, kind: str
) -> None:
    """Up and down, at any ratio: in value and in gradient."""
    logits = 3 * torch.randn(2, 3, 8, 12)
    hard = torch.randint(0, 3, (2, *size))
    hard[torch.rand(hard.shape) < 0.2] = 255
    target: Any = {
        "hard": hard,
        "dense": torch.randn(2, 3, *size).softmax(1),
        "smoothed": targets.boundary(hard, width=1),
    }[kind]
    low = logits.double().requires_grad_()
    large = F.interpolate(low, size, mode="bilinear", align_corners=align_corners)
    options: dict[str, Any] = {"ignore_index": 255, "cross_entropy": True}
    s = overlap_statistics(large, target, impl="torch", **options)
    assert s.cross_entropy is not None
    (expected,) = torch.autograd.grad((s.P + 2 * s.D - 3 * s.M).sum() + s.cross_entropy.sum(), low)
    z = logits.requires_grad_()
    found = overlap_statistics(
        z, target, impl=impl, upsample="bilinear", align_corners=align_corners, tile=40, **options
    )
    assert found.cross_entropy is not None
    for name in ("P", "Y", "D", "M", "weight", "cross_entropy"):
        a, b = getattr(found, name).double(), getattr(s, name)
        torch.testing.assert_close(a, b, rtol=1e-5, atol=1e-5)
    (gradient,) = torch.autograd.grad(
        (found.P + 2 * found.D - 3 * found.M).sum() + found.cross_entropy.sum(), z
    )
    torch.testing.assert_close(gradient.double(), expected, rtol=2e-5, atol=2e-5)


@every_tiled
@pytest.mark.parametrize("source", [(1, 1), (1, 6), (6, 1), (2, 2)])
def test_small_sources(impl: str, source: tuple[int, int]) -> None:
    logits, target = torch.randn(2, 3, *source), torch.randint(0, 3, (2, 9, 7))
    options: dict[str, Any] = {"upsample": "bilinear"}
    plain = value_and_gradient(logits.double(), target, impl="torch", **options)
    assert_agree(value_and_gradient(logits, target, impl=impl, **options), plain)


@every_tiled
@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_low_resolution_in_half_precision_and_channels_last(impl: str, dtype: torch.dtype) -> None:
    logits = torch.randn(2, 5, 9, 10).to(dtype).to(memory_format=torch.channels_last)
    target = torch.randint(0, 5, (2, 36, 40))
    plain = value_and_gradient(logits.float(), target, impl="torch", upsample="bilinear")
    found = value_and_gradient(logits, target, impl=impl, upsample="bilinear")
    assert found[1].dtype == dtype
    assert found[1].stride() == logits.stride()
    torch.testing.assert_close(found[0].D, plain[0].D)
    eps = torch.finfo(dtype).eps
    torch.testing.assert_close(found[1].float(), plain[1], rtol=eps, atol=eps)


def test_upsampling_is_for_pictures() -> None:
    with pytest.raises(ValueError, match=r"Expected `logits` of shape \(N, C, h"):
        overlap_statistics(torch.zeros(1, 2, 4), torch.zeros(1, 8).long(), upsample="bilinear")
    with pytest.raises(ValueError, match=r"`upsample` to be one of None, 'bilinear'"):
        overlap_statistics(torch.zeros(1, 2, 4), torch.zeros(1, 4).long(), upsample="nearest")


def test_the_size_of_the_images_is_found_where_it_is_known() -> None:
    logits, low = torch.randn(1, 2, 4, 4), torch.randn(1, 2, 2, 3)
    teacher, hard = targets.teacher(low), torch.zeros(1, 8, 12).long()
    valid = torch.ones(1, 8, 12, dtype=torch.bool)
    named = targets.teacher(low, size=(8, 12))
    expected = overlap_statistics(logits, named, upsample="bilinear")
    found = overlap_statistics(logits, teacher, upsample="bilinear", valid=valid)
    torch.testing.assert_close(found.D, expected.D)
    mixture = targets.mix((1.0, teacher), (0.0, hard))
    found = overlap_statistics(logits, mixture, upsample="bilinear")
    torch.testing.assert_close(found.D, expected.D)
    with pytest.raises(ValueError, match=r"Set it: targets.teacher\(logits, size=\(H, W\)\)"):
        overlap_statistics(logits, teacher, upsample="bilinear")


def test_other_resolutions_are_no_accident() -> None:
    with pytest.raises(ValueError, match=r"Resize the target to the logits"):
        overlap_statistics(torch.zeros(1, 2, 4, 4), torch.zeros(1, 8, 8).long())


# Several targets share one softmax


@pytest.mark.parametrize("impl", ["torch", "chunked", "native"])
@pytest.mark.parametrize("low", [False, True])
def test_several_weighted_targets_are_the_sum_of_their_losses(impl: str, low: bool) -> None:
    logits = torch.randn(2, 4, 6, 10, requires_grad=True)
    size = (24, 40) if low else (6, 10)
    hard = torch.randint(0, 4, (2, *size))
    hard[0, :2] = 255
    soft = torch.randn(2, 4, *size).softmax(1)
    loss = JaccardMetricLoss(
        cross_entropy=0.25, ignore_index=255, upsample="bilinear" if low else None, impl=impl
    )
    pairs: list[tuple[float, Any]] = [(0.5, hard), (0.3, soft), (0.2, targets.smooth(hard, 0.2))]
    found = loss.parts(logits, pairs)
    separate = [loss.parts(logits, target) for _, target in pairs]
    for name in ("loss", "overlap", "cross_entropy"):
        expected = sum(w * parts[name] for (w, _), parts in zip(pairs, separate, strict=True))
        torch.testing.assert_close(found[name], expected)
    (gradient,) = torch.autograd.grad(found["loss"], logits)
    expected = sum(
        w * torch.autograd.grad(parts["loss"], logits)[0]
        for (w, _), parts in zip(pairs, separate, strict=True)
    )
    torch.testing.assert_close(gradient, expected, rtol=1e-4, atol=1e-7)


@pytest.mark.parametrize("target", [[], [torch.zeros(1, 4).long()], "mask"])
def test_targets_that_are_no_pairs_raise(target: Any) -> None:
    with pytest.raises(TypeError, match=r"a list of pairs \(weight, target\)"):
        JaccardMetricLoss()(torch.zeros(1, 2, 4), target)


# Choosing an implementation


def test_auto_is_native_on_the_cpu(monkeypatch: pytest.MonkeyPatch) -> None:
    called: list[str] = []

    def spy(name: str) -> Any:
        own = IMPLEMENTATIONS[name]

        def gather(job: Any) -> Any:
            called.append(name)
            return own.gather(job)

        return type(own)(gather, own.gradient, own.unsupported_reason)

    for name in list(IMPLEMENTATIONS):
        monkeypatch.setitem(IMPLEMENTATIONS, name, spy(name))
    logits, target = scene((1, 3, 8), ignore=False)
    overlap_statistics(logits, target)
    overlap_statistics(logits.sigmoid(), target, activation="none")
    overlap_statistics(logits, targets.votes(target.unsqueeze(1)))
    overlap_statistics(logits, targets.confident(target))
    overlap_statistics(logits.unsqueeze(2), targets.confident(target.unsqueeze(1)))
    assert called == ["native", "native", "native", "chunked", "native"]


def test_a_missing_triton_is_said_in_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    logits: Any = SimpleNamespace(device=torch.device("cuda"), shape=(1, 3, 4))
    job = Job(logits, (), (4,))
    monkeypatch.setattr(triton, "triton", None)
    warn_once.cache_clear()
    with pytest.warns(UserWarning, match=r"^Triton is not installed, .*: pip install triton$"):
        operators._choose(job)
    assert operators._choose(job) is IMPLEMENTATIONS["chunked"]  # not again


def test_auto_does_without_a_compiler(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "load_library", lambda *_: "There is no C compiler.")
    logits, target = scene((1, 3, 8))
    warn_once.cache_clear()
    with pytest.warns(UserWarning, match=r"3 to 7 times slower: There is no C compiler."):
        assert overlap_statistics(logits, target).weight.item() > 0
    overlap_statistics(logits, target)  # warns once
    with pytest.raises(
        ValueError, match=r"impl='native' does not support this: There is no C compiler."
    ):
        overlap_statistics(logits, target, impl="native")


@pytest.mark.parametrize(
    ("options", "reason"),
    [
        ({"target": targets.confident(torch.zeros(1, 4).long())}, r"need two spatial dimensions"),
        ({"target": targets.gaussian(torch.zeros(1, 4).long())}, r"need two spatial dimensions"),
        ({"target": torch.zeros(1, 4, dtype=torch.uint16)}, r"need two spatial dimensions"),
    ],
)
def test_native_says_what_it_cannot_do(options: dict[str, Any], reason: str) -> None:
    target = options.pop("target", torch.zeros(1, 4).long())
    with pytest.raises(ValueError, match=reason):
        overlap_statistics(torch.zeros(1, 3, 4), target, impl="native", **options)


KINDS: dict[str, Callable[[Tensor, Tensor], Any]] = {
    "hard": lambda hard, soft: hard,
    "unsigned": lambda hard, soft: hard.to(torch.uint16),
    "dense": lambda hard, soft: soft,
    "smoothed": lambda hard, soft: targets.smooth(hard, 0.3),
    "boundary": lambda hard, soft: targets.boundary(hard, width=2),
    "votes": lambda hard, soft: targets.votes(torch.stack([hard, hard.flip(2)], 1)),
    "sparse": lambda hard, soft: targets.sparse(*soft.topk(2, 1)[::-1]),
    "teacher": lambda hard, soft: targets.teacher(
        soft[:, :, ::3, ::2].mul(9), size=(24, 30), temperature=2.0
    ),
    "mixed": lambda hard, soft: targets.mix((0.3, hard), (0.7, soft)),
    "pasted": lambda hard, soft: targets.paste(hard, soft, hard % 2 == 0),
    "pair": lambda hard, soft: [(0.5, hard), (0.5, targets.teacher(soft[:, :, ::2, ::2]))],
}


@every_tiled
@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("source", [(24, 30), (6, 8), (5, 7)])
@pytest.mark.parametrize("masked", [False, True])
def test_every_kind_of_target_at_every_resolution(
    impl: str, kind: str, source: tuple[int, int], masked: bool
) -> None:
    """The loss and its gradient are those of the definition in float64."""
    logits = 3 * torch.randn(3, 4, *source)
    hard = torch.randint(0, 4, (3, 24, 30))
    hard[torch.rand(hard.shape) < 0.2] = 255
    target = KINDS[kind](hard, torch.randn(3, 4, 24, 30).softmax(1))
    maps: dict[str, Any] = {}
    if masked:
        maps = {"valid": torch.rand(3, 24, 30) < 0.7, "weights": torch.rand(3, 24, 30)}
    loss = JaccardMetricLoss(
        cross_entropy=0.25, ignore_index=255, upsample="bilinear", tile=50, per="image"
    )

    def run(logits: Tensor, impl: str) -> tuple[Tensor, Tensor]:
        loss.impl = impl
        logits = logits.requires_grad_()
        value = loss(logits, target, **maps)
        return value.double().detach(), torch.autograd.grad(value, logits)[0].double()

    expected = run(logits.double(), "torch")
    torch.testing.assert_close(run(logits, impl), expected, rtol=2e-5, atol=2e-7)


def test_native_refuses_memory_that_is_no_grid() -> None:
    logits = torch.zeros(2, 4, 3, 3, 2).permute(0, 4, 2, 1, 3)  # (N, C, D, H, W), D and H swapped
    target = torch.zeros(2, 3, 4, 3).long()
    with pytest.raises(ValueError, match=r"cannot be viewed as rows and columns"):
        overlap_statistics(logits, target, impl="native")
    assert overlap_statistics(logits, target).weight.tolist() == [36, 36]


@pytest.mark.parametrize("impl", ["auto", "torch", "chunked", "native"])
def test_what_does_not_fit_raises_in_every_implementation(impl: str) -> None:
    logits = torch.zeros(2, 3, 4, 8)
    few = targets.DenseTarget(torch.ones(2, 1, 4, 8))
    for target in (few, targets.mix((1.0, few))):
        with pytest.raises(ValueError, match=r"to have 3 classes.*\(2, 1, 4, 8\)"):
            overlap_statistics(logits, target, impl=impl)
    values = torch.rand(2, 3, 4, 8)
    values[:, 1] = 255
    single = targets.DenseTarget(values, 255, independent=True)
    if impl != "native":
        with pytest.raises(ValueError, match=r"to ignore all classes of a pixel together"):
            overlap_statistics(logits, single, impl=impl)
    with pytest.raises(ValueError, match=r"to ignore all classes of a pixel together"):
        overlap_statistics(logits, targets.paste(single, single, values[:, 0] > 0), impl=impl)


@pytest.mark.parametrize("impl", ["auto", "torch", "chunked", "native"])
@pytest.mark.parametrize("place", ["target", "inside", "valid", "weights"])
def test_another_device_raises(impl: str, place: str) -> None:
    """A pointer to the memory of a GPU must never reach code of the CPU."""
    logits, here = torch.zeros(1, 2, 4, 4), torch.zeros(1, 4, 4).long()
    there = here.to("meta")
    target: Any = {"target": there, "inside": targets.mix((1.0, there))}.get(place, here)
    maps: dict[str, Any] = {"valid": there.bool()} if place == "valid" else {}
    maps |= {"weights": there.float()} if place == "weights" else {}
    with pytest.raises(ValueError, match=r"to be on cpu, as the logits are, .* on meta. Move it"):
        overlap_statistics(logits, target, impl=impl, **maps)


@pytest.mark.parametrize("impl", ["torch", "chunked"])
def test_mixtures_of_independent_probabilities(impl: str) -> None:
    """For a sigmoid they need not sum to one, and entries are ignored one by one."""
    logits, one, other = (torch.randn(2, 3, 8) for _ in range(3))
    one, other = one.sigmoid(), other.sigmoid()
    options: dict[str, Any] = {"activation": "sigmoid", "impl": impl, "validate": True}
    mixture = targets.mix((0.5, one), (0.5, other))
    found = overlap_statistics(logits, mixture, **options)
    expected = overlap_statistics(logits, (one + other) / 2, **options)
    torch.testing.assert_close(found.D, expected.D)
    one[0, 1, 3] = 255
    found = overlap_statistics(logits, targets.mix((1.0, one)), ignore_index=255, **options)
    assert found.weight.tolist() == [23, 24]


def test_unknown_implementations_raise() -> None:
    assert set(IMPLS) == {"auto", "torch", *IMPLEMENTATIONS}
    with pytest.raises(ValueError, match=r"`impl` to be one of 'auto', 'torch', .* got 'cuda'"):
        overlap_statistics(torch.zeros(1, 2, 4), torch.zeros(1, 4).long(), impl="cuda")
    with pytest.raises(ValueError, match=r"`tile` to be at least 1"):
        overlap_statistics(torch.zeros(1, 2, 4), torch.zeros(1, 4).long(), tile=0)


# Gradients: first order, of the logits alone


@every_tiled
def test_a_second_backward_says_so(impl: str) -> None:
    logits = torch.randn(1, 3, 8, requires_grad=True)
    loss = JaccardMetricLoss(impl=impl)(logits, torch.zeros(1, 8).long())
    (gradient,) = torch.autograd.grad(loss, logits, create_graph=True)
    with pytest.raises(RuntimeError, match=r"first order only.*impl='torch'"):
        torch.autograd.grad(gradient.sum(), logits)


def test_the_definition_has_gradients_of_any_order() -> None:
    logits = torch.randn(1, 3, 8, dtype=torch.float64, requires_grad=True)
    loss = JaccardMetricLoss(impl="torch", cross_entropy=0.5)
    target = torch.randint(0, 3, (1, 8))
    assert torch.autograd.gradgradcheck(lambda z: loss(z, target), (logits,))


@every_tiled
def test_targets_that_want_gradients(impl: str) -> None:
    logits = torch.randn(1, 3, 8, requires_grad=True)
    soft = torch.rand(1, 3, 8).softmax(1).requires_grad_()
    with pytest.raises(ValueError, match=r"the target or the weights: detach them"):
        JaccardMetricLoss(impl=impl)(logits, soft)
    JaccardMetricLoss()(logits, soft).backward()
    assert soft.grad is not None


@every_tiled
def test_one_backward_of_two_losses(impl: str) -> None:
    """Statistics that only some of the loss uses: the others have no gradient."""
    logits, target = scene((2, 3, 9), ignore=False)
    logits.requires_grad_()
    s = overlap_statistics(logits, target, impl=impl, cross_entropy=True)
    for part in (s.P, s.D, s.cross_entropy):
        assert part is not None
        (found,) = torch.autograd.grad(part.sum(), logits, retain_graph=True)
        assert torch.isfinite(found).all()
    assert torch.autograd.grad(s.P.sum(), logits)[0].abs().max() < 1e-6  # of a softmax: constant


@every_tiled
def test_faults_of_others_are_not_ours(impl: str) -> None:
    """Focal form at a perfect prediction, dead gradient of the log form, one pixel, below zero."""
    perfect = torch.full((1, 2, 32), -1e3)
    perfect[:, 0] = 1e3
    perfect.requires_grad_()
    zeros = torch.zeros(1, 32, dtype=torch.long)
    forms: list[dict[str, Any]] = [{"gamma": 0.5}, {"gamma": 2.0}, {"log": True}, {}]
    for options in forms:
        loss = TverskyLoss(impl=impl, smooth=0.0, **options)
        value = loss(perfect, zeros)
        assert value.item() == 0
        assert torch.isfinite(torch.autograd.grad(value, perfect)[0]).all()
    missed = torch.zeros(1, 2, 32)
    missed[:, 0] = 20.0
    missed.requires_grad_()
    (gradient,) = torch.autograd.grad(TverskyLoss(log=True, impl=impl)(missed, zeros + 1), missed)
    assert (gradient[:, 1] < 0).all()
    lonely = torch.full((1, 32), 255)
    lonely[0, 3] = 1
    value = JaccardMetricLoss(impl=impl, ignore_index=255)(missed, lonely)
    assert 0 < value.item() < 1
    nothing = JaccardMetricLoss(impl=impl, ignore_index=255)(missed, torch.full((1, 32), 255))
    assert nothing.item() == 0
    assert torch.autograd.grad(nothing, missed)[0].abs().sum() == 0


# Defects that a review found


@pytest.mark.parametrize("impl", ["auto", "torch", "chunked", "native"])
@pytest.mark.parametrize("source", [(0, 0), (0, 4), (4, 0)])
def test_nothing_is_interpolated_from_nothing(impl: str, source: tuple[int, int]) -> None:
    hard = torch.zeros(1, 8, 8).long()
    with pytest.raises(ValueError, match=r"cannot be interpolated to .*leave out empty images"):
        overlap_statistics(torch.zeros(1, 3, *source), hard, upsample="bilinear", impl=impl)
    with pytest.raises(ValueError, match=r"size \(4, 4\) cannot be interpolated to \(0, 8\)"):
        overlap_statistics(torch.zeros(1, 3, 4, 4), hard[:, :0], upsample="bilinear", impl=impl)


@every_tiled
def test_a_band_of_ones_own(impl: str) -> None:
    logits, hard = scene((2, 3, 6, 9), ignore=False)
    band = torch.rand(2, 6, 9) < 0.3
    found = overlap_statistics(logits, targets.SmoothedTarget(hard, 0.5, band=band), impl=impl)
    y = F.one_hot(hard, 3).movedim(-1, 1).float()
    y = torch.where(band.unsqueeze(1), 0.5 * y + 0.5 / 3, y)
    torch.testing.assert_close(found.D, overlap_statistics(logits, y, impl="torch").D)
    for wrong in (band[:1], band.long()):
        with pytest.raises((ValueError, TypeError), match=r"`band` to"):
            targets.SmoothedTarget(hard, 0.5, band=wrong)


@dataclass(frozen=True)
class Careless(Target):
    """A user's target that answers in a dtype, or a shape, of its own."""

    values: Tensor
    dtype: str

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.values.shape[0], *self.values.shape[2:])

    def read(self, tile: Tile, num_classes: int, dtype: torch.dtype) -> SoftTile:
        return SoftTile(tile.of_each(self.values).to(getattr(torch, self.dtype)))

    def validate(self, num_classes: int, valid: Tensor | None = None) -> None:
        raise NotImplementedError


@every_tiled
@pytest.mark.parametrize("dtype", ["float64", "float16", "float32"])
def test_targets_of_any_dtype(impl: str, dtype: str) -> None:
    logits, soft = torch.randn(2, 3, 8, 8), torch.randn(2, 3, 8, 8).softmax(1)
    found = overlap_statistics(logits, Careless(soft, dtype), impl=impl)
    expected = overlap_statistics(logits, soft, impl="torch")
    torch.testing.assert_close(found.D, expected.D, rtol=1e-3, atol=1e-3)


def test_targets_that_answer_wrongly_raise() -> None:
    wide = Careless(torch.rand(2, 4, 8, 8), "float32")
    with pytest.raises(ValueError, match=r"Careless.read to return probabilities of shape"):
        overlap_statistics(torch.randn(2, 3, 8, 8), wide, impl="native")
    with pytest.raises(TypeError, match=r"`valid` to be bool"):
        SoftTile(torch.rand(2, 3), torch.ones(3))


@every_tiled
def test_what_is_kept_from_call_to_call_knows_no_device(impl: str) -> None:
    logits, hard = torch.randn(1, 3, 5, 6), torch.zeros(1, 17, 19).long()
    with torch.device("meta"):
        teacher = targets.teacher(torch.empty(1, 3, 5, 6), size=(17, 19))
        teacher.read(next(iter(whole((1, 17, 19)))), 3, torch.float32)
    assert overlap_statistics(logits, hard, upsample="bilinear", impl=impl).weight.item() == 323


@every_tiled
def test_a_teacher_below_the_resolution_of_the_logits(impl: str) -> None:
    logits = torch.randn(1, 3, 64, 64)
    teacher = targets.teacher(torch.randn(1, 3, 4, 4), size=(8, 8))
    options: dict[str, Any] = {"upsample": "bilinear"}
    plain = value_and_gradient(logits.double(), teacher, impl="torch", **options)
    assert_agree(value_and_gradient(logits, teacher, impl=impl, **options), plain)


def test_a_student_that_is_its_teacher_stays() -> None:
    """The metric losses have their minimum there. (In C both softmaxes round in their own ways.)"""
    logits = torch.randn(2, 19, 16, 16)
    z = logits.clone().requires_grad_()
    value = JaccardMetricLoss(impl="chunked")(z, targets.teacher(logits))
    assert value.item() == pytest.approx(0, abs=1e-6)
    (gradient,) = torch.autograd.grad(value, z)
    assert gradient.abs().max() < 1e-9
    assert JaccardMetricLoss()(logits, targets.teacher(logits)).item() == pytest.approx(0, abs=1e-6)


def test_a_teacher_wants_no_gradient() -> None:
    """Forgetting `no_grad` must not choose the large and slow way."""
    logits = torch.randn(1, 3, 8, requires_grad=True)
    teacher = targets.teacher(torch.randn(1, 3, 8, requires_grad=True))
    JaccardMetricLoss(impl="chunked")(logits, teacher).backward()
    soft = torch.rand(1, 3, 8).softmax(1).requires_grad_()
    with torch.no_grad():
        JaccardMetricLoss(impl="chunked")(logits, soft)


def test_weights_that_want_gradients_get_them() -> None:
    logits, target = scene((1, 3, 8))
    weights = torch.rand(1, 8, requires_grad=True)
    JaccardMetricLoss()(logits, target, weights=weights).backward()
    assert weights.grad is not None
    assert weights.grad.abs().max() > 0
    with pytest.raises(ValueError, match=r"the target or the weights: detach them"):
        JaccardMetricLoss(impl="chunked")(logits, target, weights=weights)


def test_the_default_dtype_does_not_matter() -> None:
    logits, target = torch.randn(1, 3, 4, 4), torch.randint(0, 3, (1, 9, 9))
    expected = value_and_gradient(logits, target, impl="native", upsample="bilinear")
    torch.set_default_dtype(torch.float64)
    try:
        found = value_and_gradient(logits, target, impl="native", upsample="bilinear")
    finally:
        torch.set_default_dtype(torch.float32)
    assert torch.equal(found[1], expected[1])


@every_tiled
def test_bytes_of_255_are_true(impl: str) -> None:
    logits, target = scene((1, 3, 8, 8), ignore=False)
    valid = torch.full((1, 8, 8), 255, dtype=torch.uint8).view(torch.bool)
    assert overlap_statistics(logits, target, valid=valid, impl=impl).weight.item() == 64


@every_tiled
def test_an_ignore_index_that_the_dtype_cannot_hold(impl: str) -> None:
    soft = torch.randn(1, 3, 8, 8).softmax(1)
    soft[..., :4] = 257
    soft = soft.bfloat16()
    expected = overlap_statistics(torch.randn(1, 3, 8, 8), soft, ignore_index=257, impl="torch")
    found = overlap_statistics(torch.randn(1, 3, 8, 8), soft, ignore_index=257, impl=impl)
    assert found.weight.tolist() == expected.weight.tolist()


@pytest.mark.parametrize("tile", [None, 3, 8])
def test_weight_of_independent_entries_does_not_depend_on_the_tile(tile: int | None) -> None:
    values = torch.rand(1, 2, 16)
    values[0, 0, 12] = 255
    target = targets.DenseTarget(values, 255, independent=True)
    probs = torch.rand(1, 2, 16)
    found = overlap_statistics(probs, target, activation="none", impl="chunked", tile=tile)
    assert found.weight.item() == 31


def test_a_pasted_region_tells_the_size() -> None:
    teacher = targets.teacher(torch.randn(1, 3, 4, 4))
    mixture = targets.paste(teacher, teacher, torch.rand(1, 8, 8) < 0.5)
    found = overlap_statistics(torch.randn(1, 3, 2, 2), mixture, upsample="bilinear")
    assert found.weight.item() == 64
    sized = targets.teacher(torch.randn(1, 3, 4, 4), size=[8, 8])  # type: ignore[arg-type]
    assert sized.shape == (1, 8, 8)


def test_no_classes_raise() -> None:
    with pytest.raises(ValueError, match=r"`logits` to have at least one class"):
        overlap_statistics(torch.zeros(1, 0, 4), torch.zeros(1, 4).long())


def test_an_empty_batch_and_chosen_classes() -> None:
    logits = torch.zeros(0, 3, 4, requires_grad=True)
    loss = JaccardMetricLoss(per="image", classes=[0, 1])(logits, torch.zeros(0, 4).long())
    assert loss.item() == 0
