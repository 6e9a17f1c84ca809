"""What holds for every kind of target, whatever it knows and however it stores it."""

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.random import Generator
from torch import Tensor

from reference import target_loops
from reference.target_loops import Known
from softiou.overlap import OverlapStatistics, overlap_statistics
from softiou.targets import (
    ConfidentTarget,
    DenseTarget,
    GaussianTarget,
    HardTarget,
    MixedTarget,
    RegionTarget,
    SmoothedTarget,
    SparseTarget,
    Target,
    TeacherTarget,
    VotesTarget,
)
from softiou.targets.base import pack, tensors_of, unpack
from softiou.tiles import tiles

IGNORE, STRANGE = 255, 100
IMPLS = ("torch", "chunked")
Shape = tuple[int, ...]


# The kinds


@dataclass(frozen=True)
class Subject:
    """A target, and what the slow reference knows of the same pixels."""

    target: Target
    known: Known
    independent: bool = False

    @property
    def num_classes(self) -> int:
        return int(self.known.y.shape[1])

    @property
    def activation(self) -> str:
        return "sigmoid" if self.independent or self.num_classes == 1 else "softmax"


@dataclass(frozen=True)
class Wish:
    """What a subject has to look like: (N, *S), C, and whether labels may be no class."""

    rng: Generator
    shape: Shape
    num_classes: int
    strange: bool


def draw_labels(wish: Wish, shape: Shape | None = None) -> np.ndarray:
    """Labels of which some are to be ignored, in patches so that there are borders and insides."""
    choices = [*range(max(wish.num_classes, 2))] * 2 + [IGNORE] + [STRANGE] * wish.strange
    dtype = wish.rng.choice(["uint8", "int16", "int32", "int64"])
    return wish.rng.choice(choices, shape or wish.shape).astype(dtype)


def draw_probs(wish: Wish, shape: Shape | None = None) -> np.ndarray:
    """Probabilities (N, C, *S)."""
    N, *space = shape or wish.shape
    y = wish.rng.dirichlet(np.full(wish.num_classes, 0.5), (N, *space))
    return np.ascontiguousarray(np.moveaxis(y, -1, 1))


def hard(wish: Wish) -> Subject:
    labels = draw_labels(wish)
    known = target_loops.hard(labels, wish.num_classes, IGNORE)
    return Subject(HardTarget(torch.from_numpy(labels), IGNORE), known)


def dense(wish: Wish) -> Subject:
    ignored = wish.rng.random((wish.shape[0], 1, *wish.shape[1:])) < 0.2
    values = np.where(ignored, IGNORE, draw_probs(wish))
    known = target_loops.dense(values, IGNORE)
    return Subject(DenseTarget(torch.from_numpy(values), IGNORE), known)


def independent(wish: Wish) -> Subject:
    full = (wish.shape[0], wish.num_classes, *wish.shape[1:])
    values = np.where(wish.rng.random(full) < 0.2, IGNORE, wish.rng.random(full))
    if wish.rng.random() < 0.5:
        values = np.where(values == IGNORE, IGNORE, values > 0.5).astype(np.int64)
    known = target_loops.dense(values, IGNORE, independent=True)
    target = DenseTarget(torch.from_numpy(values), IGNORE, independent=True)
    return Subject(target, known, independent=True)


def smoothed(wish: Wish, width: int | None = None) -> Subject:
    labels, epsilon = draw_labels(wish), float(wish.rng.random())
    target = SmoothedTarget(torch.from_numpy(labels), epsilon, width, IGNORE)
    settings: dict[str, Any] = {"epsilon": epsilon, "width": width, "ignore_index": IGNORE}
    return Subject(target, target_loops.smoothed(labels, wish.num_classes, **settings))


def boundary(wish: Wish) -> Subject:
    return smoothed(wish, width=int(wish.rng.integers(1, 4)))


def gaussian(wish: Wish) -> Subject:
    labels = draw_labels(wish)
    sigma, width = float(wish.rng.uniform(0.3, 3)), int(wish.rng.integers(1, 4))
    target = GaussianTarget(torch.from_numpy(labels), sigma, width, IGNORE)
    settings: dict[str, Any] = {"sigma": sigma, "width": width, "ignore_index": IGNORE}
    return Subject(target, target_loops.gaussian(labels, wish.num_classes, **settings))


def votes(wish: Wish) -> Subject:
    N, *space = wish.shape
    masks = draw_labels(wish, (N, int(wish.rng.integers(1, 4)), *space))
    known = target_loops.votes(masks, wish.num_classes, IGNORE)
    return Subject(VotesTarget(torch.from_numpy(masks), IGNORE), known)


def sparse(wish: Wish, quantised: bool = False) -> Subject:
    N, *space = wish.shape
    K = int(wish.rng.integers(1, 4))
    choices = [*range(wish.num_classes)] * 4 + [STRANGE] * wish.strange
    indices = wish.rng.choice(choices, (N, K, *space)).astype(wish.rng.choice(["uint8", "int64"]))
    shares = np.moveaxis(wish.rng.dirichlet(np.full(K + 1, 0.5), (N, *space)), -1, 1)[:, :K]
    weights, stored = shares, shares
    if quantised:
        stored = np.floor(shares * 255).astype(np.uint8)
        weights = stored / 255
    rounding = min(K, 4) / 510 + 1e-6 if quantised else 1e-6
    known = target_loops.sparse(indices, weights, wish.num_classes, rounding=rounding)
    stored = np.ascontiguousarray(stored)
    return Subject(SparseTarget(torch.from_numpy(indices), torch.from_numpy(stored)), known)


def sparse_uint8(wish: Wish) -> Subject:
    return sparse(wish, quantised=True)


def teacher(wish: Wish) -> Subject:
    N, *space = wish.shape
    logits = wish.rng.normal(0, 3, (N, wish.num_classes, *space))
    temperature = float(wish.rng.uniform(0.5, 4))
    target = TeacherTarget(torch.from_numpy(logits), temperature=temperature)
    return Subject(target, target_loops.teacher(logits, temperature=temperature))


def teacher_at_a_stride(wish: Wish, align_corners: bool = False) -> Subject:
    N, H, W = wish.shape
    source = wish.rng.integers(1, 5, 2)
    logits = wish.rng.normal(0, 3, (N, wish.num_classes, *source))
    temperature = float(wish.rng.uniform(0.5, 4))
    settings: dict[str, Any] = {"temperature": temperature, "align_corners": align_corners}
    target = TeacherTarget(torch.from_numpy(logits), (H, W), **settings)
    return Subject(target, target_loops.teacher(logits, (H, W), **settings))


def teacher_with_corners(wish: Wish) -> Subject:
    return teacher_at_a_stride(wish, align_corners=True)


def teacher_in_part(wish: Wish) -> Subject:
    """Heard here and there."""
    logits = wish.rng.normal(0, 3, (wish.shape[0], wish.num_classes, *wish.shape[1:]))
    valid = wish.rng.random(wish.shape) < 0.6
    target = TeacherTarget(torch.from_numpy(logits), valid=torch.from_numpy(valid))
    return Subject(target, target_loops.teacher(logits, valid=valid))


def teacher_at_a_stride_in_part(wish: Wish) -> Subject:
    N, H, W = wish.shape
    logits = wish.rng.normal(0, 3, (N, wish.num_classes, *wish.rng.integers(1, 5, 2)))
    valid = wish.rng.random(wish.shape) < 0.6
    target = TeacherTarget(torch.from_numpy(logits), (H, W), valid=torch.from_numpy(valid))
    return Subject(target, target_loops.teacher(logits, (H, W), valid=valid))


def confident(wish: Wish, kind: Callable[[Wish], Subject] = dense) -> Subject:
    """Some pixels are not, some classes are left out."""
    inner, alone = kind(wish), wish.num_classes == 1
    settings: dict[str, Any] = {
        "threshold": float(wish.rng.uniform(0, 0.7)),
        "temperature": float(wish.rng.uniform(0.3, 3)),
        "keep": None if alone or inner.independent else int(wish.rng.integers(1, 5)),
        "independent": inner.independent,
    }
    target = ConfidentTarget(inner.target, **settings)
    return Subject(target, target_loops.confident(inner.known, **settings), inner.independent)


def confident_independent(wish: Wish) -> Subject:
    return confident(wish, independent)


def confident_votes(wish: Wish) -> Subject:
    """Many of which are tied."""
    return confident(wish, votes)


def confident_labels(wish: Wish) -> Subject:
    return confident(wish, boundary)


def mixed(wish: Wish) -> Subject:
    """A pixel that one part ignores is left to the others."""
    parts = [kind(wish) for kind in (hard, dense, boundary)]
    shares = [float(share) for share in wish.rng.uniform(0, 2, 3)]
    target = MixedTarget(tuple(shares), tuple(part.target for part in parts))
    known = target_loops.mixed(list(zip(shares, [part.known for part in parts], strict=True)))
    return Subject(target, known)


def pasted(wish: Wish, inside: Subject | None = None, outside: Subject | None = None) -> Subject:
    """Labels both."""
    inside, outside = inside or boundary(wish), outside or hard(wish)
    region = wish.rng.random(wish.shape) < 0.5
    target = RegionTarget(inside.target, outside.target, torch.from_numpy(region))
    return Subject(target, target_loops.pasted(inside.known, outside.known, region))


def pasted_probs(wish: Wish) -> Subject:
    """One that ignores, and one that does not."""
    return pasted(wish, hard(wish), teacher(wish))


def nested(wish: Wish) -> Subject:
    """A mixture that is pasted into a smoothed one."""
    return pasted(wish, mixed(wish), smoothed(wish))


KINDS: dict[str, Callable[[Wish], Subject]] = {
    kind.__name__: kind
    for kind in (
        hard,
        dense,
        independent,
        smoothed,
        boundary,
        gaussian,
        votes,
        sparse,
        sparse_uint8,
        teacher,
        teacher_at_a_stride,
        teacher_with_corners,
        teacher_in_part,
        teacher_at_a_stride_in_part,
        confident,
        confident_independent,
        confident_votes,
        confident_labels,
        mixed,
        pasted,
        pasted_probs,
        nested,
    )
}
PICTURES = ("teacher_at_a_stride", "teacher_with_corners", "teacher_at_a_stride_in_part")
MARKABLE = (
    *("hard", "dense", "independent", "smoothed", "votes", "sparse", "sparse_uint8"),
    *("confident", "confident_independent", "confident_votes"),
)
OF_ONE_CLASS = (
    *("hard", "dense", "independent", "gaussian", "votes"),
    *("confident", "confident_independent", "confident_votes"),
)

every_kind = pytest.mark.parametrize("kind", KINDS)
few = settings(max_examples=30)


@st.composite
def subjects(draw: st.DrawFn, kind: str, *, strange: bool = True) -> Subject:
    """Any target of a kind."""
    dimensions = 2 if kind in PICTURES else draw(st.integers(1, 3))
    longest = {1: 12, 2: 5, 3: 3}[dimensions]
    space = draw(st.lists(st.integers(1, longest), min_size=dimensions, max_size=dimensions))
    wish = Wish(
        rng=np.random.default_rng(draw(st.integers(0, 2**32 - 1))),
        shape=(draw(st.integers(1, 2)), *space),
        num_classes=draw(st.integers(1 if kind in OF_ONE_CLASS else 2, 4)),
        strange=strange,
    )
    return KINDS[kind](wish)


def subject_of(kind: str, shape: Shape = (2, 4, 5), num_classes: int = 3) -> Subject:
    """One target of a kind, of labels that are classes or ignored."""
    return KINDS[kind](Wish(np.random.default_rng(0), shape, num_classes, strange=False))


def counts_of(target: Target, num_classes: int) -> Tensor:
    """Bool (N, C, *S), of a target as a whole."""
    N, *space = target.shape
    counts = target.dense(num_classes, torch.float64).valid
    full = (N, num_classes, *space)
    return torch.ones(full, dtype=torch.bool) if counts is None else counts.expand(full)


def rebuilt(target: Target, change: Callable[[Tensor], Tensor]) -> Target:
    """The same target with its tensors changed."""
    tensors: list[Tensor] = []
    text = pack(target, tensors)
    found = unpack(json.loads(text), [change(tensor) for tensor in tensors], target.shape[1:])
    assert isinstance(found, Target)
    return found


def statistics_of(
    target: Target | Tensor, logits: Tensor, subject: Subject, **options: Any
) -> OverlapStatistics:
    return overlap_statistics(
        logits,
        target,
        activation=subject.activation,
        cross_entropy=True,
        maxima=True,
        **{"validate": False, **options},
    )


def results_of(*arguments: Any, **options: Any) -> dict[str, Tensor]:
    """All sums, and the gradient of an arbitrary function of them."""
    target, logits, subject = arguments
    logits = logits.detach().requires_grad_()
    s = statistics_of(target, logits, subject, **options)
    assert s.cross_entropy is not None
    factors = torch.linspace(0.5, 1.5, s.P.numel(), dtype=s.P.dtype).view(s.P.shape)
    loss = (factors * (s.P + s.D**2 - s.M)).sum() + 0.5 * s.cross_entropy.sum()
    (gradient,) = torch.autograd.grad(loss, logits)
    names = ("P", "Y", "D", "M", "weight", "p_max", "y_max", "cross_entropy")
    sums = {name: getattr(s, name).detach() for name in names}
    return {**sums, "gradient": gradient}


def logits_for(subject: Subject, dtype: torch.dtype = torch.float64) -> Tensor:
    generator = torch.Generator().manual_seed(1)
    shape = subject.known.y.shape
    return 2 * torch.randn(shape, generator=generator, dtype=torch.float64).to(dtype)


# The slow reference


@every_kind
@few
@given(st.data())
def test_agrees_with_loops(kind: str, data: st.DataObject) -> None:
    subject = data.draw(subjects(kind))
    counts = counts_of(subject.target, subject.num_classes).numpy()
    np.testing.assert_array_equal(counts, subject.known.counts)
    y = subject.target.dense(subject.num_classes, torch.float64).y.numpy()
    assert y.shape == subject.known.y.shape
    np.testing.assert_allclose(np.where(counts, y, 0.0), subject.known.y, rtol=0, atol=1e-12)


@every_kind
@few
@given(st.data())
def test_compiled_code_agrees_with_the_definition(kind: str, data: st.DataObject) -> None:
    """In tiles of any size, wherever pixels are left out or weighted; other spaces are chunked."""
    subject = data.draw(subjects(kind))
    generator = torch.Generator().manual_seed(data.draw(st.integers(0, 99)))
    shape = subject.target.shape
    options: dict[str, Any] = {
        "label_smoothing": data.draw(st.sampled_from([0.0, 0.0, 0.3])),
        "focal_gamma": data.draw(st.sampled_from([0.0, 0.0, 2.0])),
        "valid": torch.rand(shape, generator=generator) < 0.7 if data.draw(st.booleans()) else None,
        "weights": torch.rand(shape, generator=generator) if data.draw(st.booleans()) else None,
    }
    single = rebuilt(subject.target, lambda x: x.float() if x.is_floating_point() else x)
    logits = logits_for(subject, torch.float32)
    expected = results_of(single, logits.double(), subject, impl="torch", **options)
    found = results_of(single, logits, subject, tile=data.draw(st.integers(1, 9)), **options)
    for name, value in expected.items():
        torch.testing.assert_close(found[name].double(), value, rtol=3e-5, atol=3e-5, msg=name)


# Properties


@every_kind
@few
@given(st.data())
def test_tiles_put_together_are_the_whole(kind: str, data: st.DataObject) -> None:
    subject = data.draw(subjects(kind))
    target, C = subject.target, subject.num_classes
    N, *space = target.shape
    whole = target.dense(C, torch.float64)
    y = torch.full((N, C, *space), torch.nan, dtype=torch.float64)
    counts = torch.zeros(N, C, *space, dtype=torch.bool)
    for tile in tiles(target.shape, data.draw(st.integers(1, 1 + whole.y.numel() // C))):
        read = target.read(tile, C, torch.float64).dense(C, torch.float64)
        assert read.y.shape == (C, tile.pixels)
        tile.within(y).copy_(read.y.view_as(tile.within(y)))
        known = torch.ones(tile.pixels, dtype=torch.bool) if read.valid is None else read.valid
        assert known.shape in {(tile.pixels,), (C, tile.pixels)}
        known = known.expand(C, tile.pixels)
        tile.within(counts).copy_(known.view_as(tile.within(counts)))
    assert torch.equal(counts, counts_of(target, C))
    torch.testing.assert_close(y, whole.y, rtol=0, atol=1e-14)


@every_kind
@few
@given(st.data())
def test_probabilities_are_probabilities(kind: str, data: st.DataObject) -> None:
    subject = data.draw(subjects(kind))
    for dtype, slack in ((torch.float64, 1e-14), (torch.float32, 1e-6)):
        y = subject.target.dense(subject.num_classes, dtype).y
        counts = counts_of(subject.target, subject.num_classes)
        assert y.dtype == dtype
        assert ((y >= -slack) & (y <= 1 + slack))[counts].all()
        if not subject.independent and subject.num_classes > 1:
            mass = y.sum(1)[counts[:, 0]]
            torch.testing.assert_close(mass, torch.ones_like(mass), rtol=0, atol=2 * slack)


@every_kind
@few
@given(st.data())
def test_travels_as_text_and_tensors(kind: str, data: st.DataObject) -> None:
    subject = data.draw(subjects(kind))
    tensors: list[Tensor] = []
    text = pack(subject.target, tensors)
    again = unpack(json.loads(text), tensors, subject.target.shape[1:])
    assert type(again) is type(subject.target)
    back: list[Tensor] = []
    assert pack(again, back) == text  # the same kinds, values and numbers of tensors
    assert all(one is other for one, other in zip(tensors, back, strict=True))
    assert repr(again) == repr(subject.target)


@every_kind
@pytest.mark.parametrize("impl", IMPLS)
@few
@given(st.data())
def test_the_loss_is_that_of_the_dense_form(impl: str, kind: str, data: st.DataObject) -> None:
    """Written out, with what it ignores left out by `valid` or, entry by entry, by a mark."""
    subject = data.draw(subjects(kind))
    counts, y = torch.from_numpy(subject.known.counts), torch.from_numpy(subject.known.y)
    logits, tile = logits_for(subject), data.draw(st.integers(1, 30))
    found = results_of(subject.target, logits, subject, impl=impl, tile=tile)
    if subject.independent:
        written: Any = DenseTarget(torch.where(counts, y, -1.0), -1, independent=True)
        expected = results_of(written, logits, subject, impl="torch")
    else:
        expected = results_of(y, logits, subject, valid=counts[:, 0], impl="torch")
    torch.testing.assert_close(found, expected, rtol=1e-11, atol=1e-11)
    assert (found["gradient"][~counts] == 0).all()


@pytest.mark.parametrize("kind", MARKABLE)
@pytest.mark.parametrize("impl", IMPLS)
@few
@given(st.data())
def test_ignoring_equals_valid(impl: str, kind: str, data: st.DataObject) -> None:
    """A mark in the target does what `valid` does; whatever else stands there does not matter."""
    subject = data.draw(subjects(kind))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    left_out = torch.from_numpy(rng.random(subject.target.shape) < 0.4)

    def mark(x: Tensor) -> Tensor:
        where = left_out if x.ndim == left_out.ndim else left_out.unsqueeze(1)
        return x.masked_fill(where, IGNORE)

    logits = logits_for(subject)
    marked = results_of(rebuilt(subject.target, mark), logits, subject, impl=impl)
    valid = results_of(subject.target, logits, subject, valid=~left_out, impl=impl)
    torch.testing.assert_close(marked, valid, rtol=1e-12, atol=1e-12)


@every_kind
@pytest.mark.parametrize("impl", IMPLS)
@few
@given(st.data())
def test_valid_and_weights_work(impl: str, kind: str, data: st.DataObject) -> None:
    subject = data.draw(subjects(kind))
    rng = np.random.default_rng(data.draw(st.integers(0, 2**32 - 1)))
    shape = subject.target.shape
    valid = torch.from_numpy(rng.random(shape) < 0.6)
    weights = torch.from_numpy(rng.choice([0.0, 0.5, 2.0], shape))
    counts, y = torch.from_numpy(subject.known.counts), torch.from_numpy(subject.known.y)
    w = torch.where(counts & valid.unsqueeze(1), weights.unsqueeze(1), 0.0)
    logits = logits_for(subject)
    s = statistics_of(subject.target, logits, subject, valid=valid, weights=weights, impl=impl)
    p = logits.sigmoid() if subject.activation == "sigmoid" else logits.softmax(1)
    for found, entries in ((s.P, p), (s.Y, y), (s.D, (p - y).abs()), (s.M, p * y)):
        expected = (w * entries).flatten(2).sum(2)
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-11)


@every_kind
@few
@given(st.data())
def test_the_layout_in_memory_does_not_matter(kind: str, data: st.DataObject) -> None:
    subject = data.draw(subjects(kind))
    C = subject.num_classes
    strided = rebuilt(subject.target, lambda x: torch.stack([x, x.roll(1)], -1)[..., 0])
    reversed_ = rebuilt(subject.target, lambda x: x.movedim(-1, 0).contiguous().movedim(0, -1))
    y = torch.where(counts_of(subject.target, C), subject.target.dense(C, torch.float64).y, 0.0)
    for other in (strided, reversed_):
        assert torch.equal(counts_of(other, C), counts_of(subject.target, C))
        found = torch.where(counts_of(other, C), other.dense(C, torch.float64).y, 0.0)
        torch.testing.assert_close(found, y, rtol=0, atol=1e-14)


@every_kind
def test_the_implementation_for_this_machine_agrees(kind: str) -> None:
    """Compiled tiles in float32, unless there is no compiler."""
    subject = subject_of(kind, (2, 9, 7))
    single = rebuilt(subject.target, lambda x: x.float() if x.is_floating_point() else x)
    logits = logits_for(subject, torch.float32)
    found, expected = (
        results_of(single, logits, subject, impl=impl, tile=tile)
        for impl, tile in (("auto", 4), ("torch", None))
    )
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


@every_kind
def test_reading_changes_nothing(kind: str) -> None:
    subject = subject_of(kind)
    tensors = tensors_of(subject.target)
    before = [tensor.clone() for tensor in tensors]
    for impl in IMPLS:
        results_of(subject.target, logits_for(subject), subject, impl=impl, tile=3)
    assert all(torch.equal(one, other) for one, other in zip(before, tensors, strict=True))


# Nothing valid


@every_kind
@pytest.mark.parametrize("impl", IMPLS)
def test_nothing_valid_gives_zeros(impl: str, kind: str) -> None:
    subject = subject_of(kind)
    valid = torch.zeros(subject.target.shape, dtype=torch.bool)
    found = results_of(subject.target, logits_for(subject), subject, valid=valid, impl=impl)
    for value in found.values():
        assert (value == 0).all()


@every_kind
def test_no_images_are_a_target_without_images(kind: str) -> None:
    subject = subject_of(kind)
    empty = rebuilt(subject.target, lambda x: x[:0])
    assert empty.shape == (0, *subject.target.shape[1:])
    dense = empty.dense(3, torch.float64)
    assert dense.y.shape == (0, 3, *empty.shape[1:])
    assert dense.y.dtype == torch.float64
    for impl in IMPLS:
        found = results_of(empty, logits_for(subject)[:0], subject, impl=impl)
        assert found["P"].shape == (0, 3)


# Dtypes


@every_kind
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_read_in_float32(kind: str, dtype: torch.dtype) -> None:
    subject = subject_of(kind)
    half = rebuilt(subject.target, lambda x: x.to(dtype) if x.is_floating_point() else x)
    same = rebuilt(half, lambda x: x.float() if x.is_floating_point() else x)
    if kind == "sparse":  # what is rounding depends on the dtype
        half, same = (
            rebuilt(t, lambda x: x * 0.9 if x.is_floating_point() else x) for t in (half, same)
        )
        same = rebuilt(half, lambda x: x.float() if x.is_floating_point() else x)
    found, expected = half.dense(3, torch.float32), same.dense(3, torch.float32)
    assert found.y.dtype == torch.float32
    assert torch.equal(counts_of(half, 3), counts_of(same, 3))
    assert torch.equal(found.y, expected.y)
    for impl in IMPLS:
        s = statistics_of(half, logits_for(subject, dtype), subject, impl=impl)
        assert s.Y.dtype == torch.float32
        y = torch.where(counts_of(half, 3), expected.y, 0.0)
        torch.testing.assert_close(s.Y, y.flatten(2).sum(2), rtol=0, atol=1e-5)


@every_kind
def test_float32_is_close_to_float64(kind: str) -> None:
    subject = subject_of(kind)
    single = rebuilt(subject.target, lambda x: x.float() if x.is_floating_point() else x)
    y = single.dense(3, torch.float32).y.double().numpy()
    found = np.where(subject.known.counts, y, 0.0)
    np.testing.assert_allclose(found, subject.known.y, rtol=0, atol=1e-6)


# Compiled code


@every_kind
def test_compiles_in_one_graph(kind: str) -> None:
    subject = subject_of(kind)
    torch.compiler.reset()

    def distance(logits: Tensor) -> Tensor:
        return statistics_of(subject.target, logits, subject, impl="chunked").D

    logits = logits_for(subject)
    compiled = torch.compile(distance, fullgraph=True, backend="eager")
    torch.testing.assert_close(compiled(logits), distance(logits))


# Contents, under validate


@every_kind
@few
@given(st.data())
def test_right_contents_pass(kind: str, data: st.DataObject) -> None:
    subject = data.draw(subjects(kind, strange=False))
    subject.target.validate(subject.num_classes)
    logits = logits_for(subject)
    checked, unchecked = (
        statistics_of(subject.target, logits, subject, validate=validate)
        for validate in (True, False)
    )
    assert torch.equal(checked.D, unchecked.D)


def broken(kind: str, tensor: int, change: Callable[[Tensor], None]) -> Target:
    """A target of a kind with the pixel (0, ..., 2, 3) of one of its tensors changed."""

    def changed(x: Tensor) -> Tensor:
        x = x.clone()
        change(x[0, ..., 2, 3])
        return x

    tensors: list[Tensor] = []
    target = subject_of(kind).target
    text = pack(target, tensors)
    tensors[tensor] = changed(tensors[tensor])
    return unpack(json.loads(text), tensors, target.shape[1:])  # type: ignore[no-any-return]


NO_CLASS = r"`target` to hold class indices in \[0, 2\] or ignore_index=255, but found \[77\]"
MISTAKES: list[tuple[str, int, Callable[[Tensor], Any], str]] = [
    ("hard", 0, lambda x: x.fill_(77), NO_CLASS),
    ("smoothed", 0, lambda x: x.fill_(77), NO_CLASS),
    ("boundary", 0, lambda x: x.fill_(77), NO_CLASS),
    ("gaussian", 0, lambda x: x.fill_(77), NO_CLASS),
    ("votes", 0, lambda x: x[-1:].fill_(77), NO_CLASS),
    ("dense", 0, lambda x: x.fill_(0.5), r"sum to 1 over the classes, .* with the sum 1.5"),
    ("dense", 0, lambda x: x[:1].fill_(torch.nan), r"`target` to be finite, but found NaN"),
    ("dense", 0, lambda x: x[:1].fill_(-0.5), r"`target` to be in \[0.0, 1.0\], but got -0.5"),
    ("independent", 0, lambda x: x[:1].fill_(2), r"`target` to be in \[0.0, 1.0\], but got 2.0"),
    ("sparse", 0, lambda x: x[:1].fill_(77), r"`indices` to be classes in \[0, 2\], .* \[77\]"),
    ("sparse", 1, lambda x: x[:1].fill_(-0.5), r"`weights` to be at least 0 .* \[-0.5"),
    ("sparse", 1, lambda x: x[:1].fill_(1.5), r"a sum of at most 1 over K, .* with \[1.5"),
    ("sparse", 1, lambda x: x[:1].fill_(torch.nan), r"`weights` to be at least 0 .* \[nan"),
    ("sparse_uint8", 0, lambda x: x[:1].fill_(77), r"`indices` to be classes .* found \[77\]"),
    ("teacher", 0, lambda x: x[:1].fill_(torch.nan), r"`logits` to be finite, but found NaN"),
    ("teacher", 0, lambda x: x[:1].fill_(-torch.inf), r"teacher's `logits` to be finite"),
    ("confident", 0, lambda x: x.fill_(0.5), r"sum to 1 over the classes"),
    ("confident_labels", 0, lambda x: x.fill_(77), NO_CLASS),
    ("mixed", 0, lambda x: x.fill_(77), NO_CLASS),
    ("mixed", 1, lambda x: x.fill_(0.5), r"sum to 1 over the classes"),
    ("mixed", 2, lambda x: x.fill_(77), NO_CLASS),
    ("nested", 0, lambda x: x.fill_(77), r"found \[77\]"),
]


@pytest.mark.parametrize(("kind", "tensor", "change", "message"), MISTAKES)
@pytest.mark.parametrize("impl", IMPLS)
def test_mistakes_raise_and_are_named(
    impl: str, kind: str, tensor: int, change: Callable[[Tensor], Any], message: str
) -> None:
    subject = subject_of(kind)
    target = broken(kind, tensor, change)
    if isinstance(target, RegionTarget):
        target = replace(target, region=torch.ones_like(target.region))
    logits = logits_for(subject)
    with pytest.raises(ValueError, match=message):
        statistics_of(target, logits, subject, validate=True, impl=impl)
    elsewhere = torch.ones(target.shape, dtype=torch.bool)
    elsewhere[0, 2, 3] = False
    statistics_of(target, logits, subject, validate=True, valid=elsewhere, impl=impl)
    statistics_of(target, logits, subject, impl=impl)  # not looked at


@pytest.mark.parametrize("kind", ["teacher_at_a_stride", "teacher_at_a_stride_in_part"])
def test_a_teacher_at_a_stride_is_checked_everywhere(kind: str) -> None:
    subject = subject_of(kind)
    target = rebuilt(
        subject.target, lambda x: torch.full_like(x, torch.inf) if x.is_floating_point() else x
    )
    nowhere = torch.zeros(target.shape, dtype=torch.bool)
    with pytest.raises(ValueError, match=r"teacher's `logits` to be finite"):
        statistics_of(target, logits_for(subject), subject, validate=True, valid=nowhere)


# Another number of classes


@pytest.mark.parametrize("kind", ["dense", "confident", "teacher", *PICTURES])
@pytest.mark.parametrize("impl", IMPLS)
@pytest.mark.parametrize("num_classes", [2, 4])
def test_other_classes_than_the_logits_raise(impl: str, kind: str, num_classes: int) -> None:
    logits = torch.zeros(2, num_classes, 4, 5)
    message = rf"to have {num_classes} classes, .*got 3|teacher has 3 classes .* {num_classes}:"
    with pytest.raises(ValueError, match=message):
        overlap_statistics(logits, subject_of(kind).target, impl=impl)
