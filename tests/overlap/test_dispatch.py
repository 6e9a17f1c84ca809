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

from reference import overlap_loops
from reference.cases import Case, cases
from softiou import overlap
from softiou.overlap import OverlapStatistics
from softiou.targets import SoftTile, Target
from softiou.tiles import Tile

SUMS = ("P", "Y", "D", "M", "p_max", "y_max")
NAN, INF = math.nan, math.inf
DEFAULTS: dict[str, Any] = {}


@pytest.fixture(scope="module", params=["torch", "chunked"], autouse=True)
def _impl(request: pytest.FixtureRequest) -> None:
    """Run everything here with the definition and with tiles that divide nothing."""
    DEFAULTS.update(impl=request.param, tile=5)


def overlap_statistics(
    logits: Tensor, target: Tensor | Target, **options: Any
) -> OverlapStatistics:
    return overlap.overlap_statistics(logits, target, **{**DEFAULTS, "maxima": True, **options})


def gradient_of(loss: Tensor, of: Tensor) -> Tensor:
    (gradient,) = torch.autograd.grad(loss, of)
    return gradient


def gather(case: Case, *, cross_entropy: bool = False) -> OverlapStatistics:
    logits, target = case.tensors()
    return overlap_statistics(
        logits, target, **case.settings(), **case.maps(), cross_entropy=cross_entropy
    )


def assert_equal_statistics(one: OverlapStatistics, other: OverlapStatistics) -> None:
    for name in (*SUMS, "weight", "cross_entropy"):
        torch.testing.assert_close(getattr(one, name), getattr(other, name))


# Values by hand


def test_statistics_by_hand() -> None:
    p = torch.tensor([[[0.5, 1.0, 0.25], [0.5, 0.0, 0.75]]])
    y = torch.tensor([[[1.0, 0.5, 0.25], [0.0, 0.5, 0.75]]])
    s = overlap_statistics(p, y, activation="none")
    assert s.P.tolist() == [[1.75, 1.25]]
    assert s.Y.tolist() == [[1.75, 1.25]]
    assert s.D.tolist() == [[1.0, 1.0]]
    assert s.M.tolist() == [[0.5 + 0.5 + 0.0625, 0.5625]]
    assert s.p_max is not None
    assert s.y_max is not None
    assert s.p_max.tolist() == [[1.0, 0.75]]
    assert s.y_max.tolist() == [[1.0, 0.75]]
    assert s.weight.tolist() == [3.0]
    assert s.cross_entropy is None


def test_weights_by_hand() -> None:
    p, y = torch.tensor([[[0.5, 1.0]]]), torch.tensor([[1, 0]])
    s = overlap_statistics(p, y, activation="none", weights=torch.tensor([[4.0, 0.5]]))
    assert (s.P.item(), s.Y.item(), s.D.item(), s.M.item()) == (2.5, 4.0, 2.5, 2.0)
    assert s.weight.item() == 4.5


def test_weight_zero_leaves_a_pixel_out_of_the_maxima() -> None:
    p, y = torch.tensor([[[0.9, 0.1]]]), torch.tensor([[1, 0]])
    s = overlap_statistics(p, y, activation="none", weights=torch.tensor([[0.0, 1.0]]))
    assert s.p_max is not None
    assert s.y_max is not None
    assert s.p_max.item() == pytest.approx(0.1)
    assert s.y_max.item() == 0.0


def test_softmax_of_equal_logits_is_uniform() -> None:
    s = overlap_statistics(torch.full((1, 4, 8), 3.0), torch.zeros(1, 8, dtype=torch.uint8))
    assert s.P.tolist() == [[2.0] * 4]
    assert s.M.tolist() == [[2.0, 0.0, 0.0, 0.0]]


def test_binary_sigmoid_takes_label_one_as_the_class() -> None:
    logits = torch.tensor([[[0.0, 0.0, 100.0]]])
    s = overlap_statistics(logits, torch.tensor([[True, False, True]]), activation="sigmoid")
    assert (s.P.item(), s.Y.item(), s.D.item(), s.M.item()) == (2.0, 2.0, 1.0, 1.5)


def test_cross_entropy_by_hand() -> None:
    logits = torch.tensor([[[math.log(3.0)], [0.0]]])
    s = overlap_statistics(logits, torch.tensor([[0]]), cross_entropy=True)
    assert s.mean_cross_entropy().item() == pytest.approx(math.log(4 / 3))


# The slow reference


@given(cases())
def test_agrees_with_loops(case: Case) -> None:
    data = case.reference()
    expected = overlap_loops.statistics(data)
    mixed = case.activation != "none"
    found = gather(case, cross_entropy=mixed)
    for name in SUMS:
        np.testing.assert_allclose(getattr(found, name).numpy(), expected[name], atol=1e-12)
    if mixed:
        total, weight = overlap_loops.cross_entropy(data)
        assert found.cross_entropy is not None
        np.testing.assert_allclose(found.cross_entropy.numpy(), total, atol=1e-11)
        np.testing.assert_allclose(found.weight.numpy(), weight, atol=1e-12)


@given(cases(activations=("softmax", "sigmoid")))
def test_float32_agrees_with_loops(case: Case) -> None:
    logits, target = case.tensors(torch.float32)
    found = overlap_statistics(logits, target, **case.settings(), **case.maps())
    expected = overlap_loops.statistics(case.reference())
    for name in SUMS:
        assert getattr(found, name).dtype == torch.float32
        np.testing.assert_allclose(getattr(found, name).numpy(), expected[name], atol=1e-4)


# Cross-entropy equals torch's


def test_hard_cross_entropy_equals_torch() -> None:
    logits = torch.randn(3, 5, 4, 6, dtype=torch.float64)
    target = torch.randint(0, 5, (3, 4, 6))
    target[torch.rand(3, 4, 6) < 0.3] = 255
    s = overlap_statistics(logits, target, ignore_index=255, cross_entropy=True)
    expected = F.cross_entropy(logits, target, ignore_index=255)
    torch.testing.assert_close(s.mean_cross_entropy(), expected)


def test_soft_cross_entropy_equals_torch() -> None:
    logits = torch.randn(3, 5, 4, 6, dtype=torch.float64)
    target = torch.rand(3, 5, 4, 6, dtype=torch.float64).softmax(1)
    s = overlap_statistics(logits, target, cross_entropy=True)
    torch.testing.assert_close(s.mean_cross_entropy(), F.cross_entropy(logits, target))


@pytest.mark.parametrize("num_classes", [1, 3])
def test_sigmoid_cross_entropy_equals_torch(num_classes: int) -> None:
    logits = 10 * torch.randn(2, num_classes, 7, dtype=torch.float64)
    target = torch.rand(2, num_classes, 7, dtype=torch.float64)
    s = overlap_statistics(logits, target, activation="sigmoid", cross_entropy=True)
    expected = F.binary_cross_entropy_with_logits(logits, target)
    torch.testing.assert_close(s.mean_cross_entropy(), expected)


def test_weighted_cross_entropy_is_the_weighted_mean() -> None:
    logits = torch.randn(2, 3, 5, dtype=torch.float64)
    target, weights = torch.randint(0, 3, (2, 5)), torch.rand(2, 5, dtype=torch.float64)
    s = overlap_statistics(logits, target, weights=weights, cross_entropy=True)
    entries = F.cross_entropy(logits, target, reduction="none")
    torch.testing.assert_close(s.mean_cross_entropy(), (entries * weights).sum() / weights.sum())


def test_cross_entropy_of_huge_logits_is_finite() -> None:
    logits = torch.tensor([[[1e4], [-1e4]]], requires_grad=True)
    s = overlap_statistics(logits, torch.tensor([[1]]), cross_entropy=True)
    assert s.mean_cross_entropy().item() == 2e4
    assert gradient_of(s.mean_cross_entropy(), logits).flatten().tolist() == [1.0, -1.0]


def test_missing_cross_entropy_raises() -> None:
    s = overlap_statistics(torch.zeros(1, 2, 3), torch.zeros(1, 3, dtype=torch.long))
    with pytest.raises(
        ValueError, match=r"no cross-entropy; compute them with `cross_entropy=True`"
    ):
        s.mean_cross_entropy()


# Properties


@given(cases())
def test_bounds(case: Case) -> None:
    s = gather(case)
    slack = 1e-9
    assert ((s.P - s.Y).abs() - slack <= s.D).all()
    assert (s.P + s.Y + slack >= s.D).all()
    assert (torch.minimum(s.P, s.Y) + slack >= s.M).all()
    assert min(x.min().item() for x in (s.P, s.Y, s.D, s.M)) >= 0


@given(cases())
def test_halves_add_up_to_the_whole(case: Case) -> None:
    """Cut along the last dimension; the case is doubled so that there is something to cut."""
    mixed = case.activation != "none"
    logits, target = case.tensors()
    maps = case.maps()
    whole = [logits, target, *maps.values()]
    other = [None if x is None else x.flip(0) for x in whole]

    def statistics_of(
        logits: Tensor, target: Tensor, valid: Tensor | None, weights: Tensor | None
    ) -> OverlapStatistics:
        return overlap_statistics(
            logits, target, valid=valid, weights=weights, **case.settings(), cross_entropy=mixed
        )

    joined = [
        None if a is None or b is None else torch.cat([a, b], -1)
        for a, b in zip(whole, other, strict=True)
    ]
    added = statistics_of(*whole) + statistics_of(*other)  # type: ignore[arg-type]
    assert_equal_statistics(added, statistics_of(*joined))  # type: ignore[arg-type]


def test_adding_drops_a_cross_entropy_that_one_side_lacks() -> None:
    logits, target = torch.zeros(1, 2, 3), torch.zeros(1, 3, dtype=torch.long)
    with_it = overlap_statistics(logits, target, cross_entropy=True)
    without = overlap_statistics(logits, target)
    assert (with_it + without).cross_entropy is None
    assert (with_it + with_it).cross_entropy is not None


@given(cases())
def test_merged_images_are_one_large_image(case: Case) -> None:
    logits, target = case.tensors()
    mixed = case.activation != "none"

    def long_image(x: Tensor | None, *, classes: bool) -> Tensor | None:
        if x is None:
            return None
        if not classes:
            return x.reshape(1, -1)
        return x.flatten(2).transpose(0, 1).reshape(1, x.shape[1], -1)

    soft = target.ndim == logits.ndim
    maps: dict[str, Any] = {k: long_image(x, classes=False) for k, x in case.maps().items()}
    joined = overlap_statistics(
        long_image(logits, classes=True),  # type: ignore[arg-type]
        long_image(target, classes=soft),  # type: ignore[arg-type]
        **maps,
        **case.settings(),
        cross_entropy=mixed,
    )
    assert_equal_statistics(gather(case, cross_entropy=mixed).merge_images(), joined)


@given(cases(), st.randoms(use_true_random=False))
def test_order_of_images_and_pixels_does_not_matter(case: Case, random: Any) -> None:
    images, pixels = (
        np.array(random.sample(range(size), size))
        for size in (len(case.logits), math.prod(case.logits.shape[2:]))
    )
    one, other = gather(case), gather(case.permuted(images, pixels))
    for name in SUMS:
        torch.testing.assert_close(getattr(one, name)[images], getattr(other, name))


def test_order_of_classes_does_not_matter() -> None:
    order = torch.tensor([2, 0, 3, 1])
    logits, y = torch.randn(2, 4, 9), torch.rand(2, 4, 9).softmax(1)
    one = overlap_statistics(logits, y, cross_entropy=True)
    other = overlap_statistics(logits[:, order], y[:, order], cross_entropy=True)
    for name in SUMS:
        torch.testing.assert_close(getattr(one, name)[:, order], getattr(other, name))
    torch.testing.assert_close(one.cross_entropy, other.cross_entropy)


@given(cases(activations=("softmax",)))
def test_hard_equals_one_hot_soft(case: Case) -> None:
    logits, target = case.tensors()
    if target.ndim == logits.ndim:
        target = target.argmax(1)
    target = target.long() % case.num_classes
    y = F.one_hot(target, case.num_classes).movedim(-1, 1).float()
    hard, soft = (
        overlap_statistics(logits, t, **case.maps(), cross_entropy=True) for t in (target, y)
    )
    assert_equal_statistics(hard, soft)


@pytest.mark.parametrize(
    "dtype",
    [
        torch.bool,
        torch.uint8,
        torch.int8,
        torch.int16,
        torch.int32,
        torch.int64,
        torch.uint16,
        torch.uint32,
        torch.uint64,
    ],
)
def test_integer_dtypes_agree(dtype: torch.dtype) -> None:
    logits = torch.randn(2, 2, 6)
    target = torch.tensor([[0, 1, 1, 0, 1, 0], [1, 1, 0, 0, 0, 1]])
    assert_equal_statistics(
        overlap_statistics(logits, target.to(dtype), ignore_index=255, cross_entropy=True),
        overlap_statistics(logits, target, cross_entropy=True),
    )


# Ignoring a pixel is cutting it out

GARBAGE = [NAN, INF, -INF, 1e30]


@pytest.mark.parametrize("garbage", GARBAGE)
@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "none"])
@pytest.mark.parametrize("soft", [False, True])
def test_invalid_pixels_are_cut_out(garbage: float, activation: str, soft: bool) -> None:
    """In value and in gradient, whatever logits, target and weights hold there."""
    logits = torch.rand(2, 3, 10, dtype=torch.float64)
    target: Tensor = torch.randint(0, 3, (2, 10))
    if soft:
        target = torch.rand(2, 3, 10, dtype=torch.float64).softmax(1)
    weights = torch.rand(2, 10, dtype=torch.float64) + 0.1
    cut = torch.tensor([1, 4, 9])
    kept = torch.tensor([p for p in range(10) if p not in cut])
    valid = torch.ones(2, 10, dtype=torch.bool)
    valid[:, cut] = False
    small = logits[..., kept].clone().requires_grad_()
    logits[..., cut] = garbage
    weights_with_garbage = weights.clone()
    weights_with_garbage[..., cut] = garbage
    dirty = target.clone()
    dirty[..., cut] = garbage if soft else -7
    logits.requires_grad_()

    mixed = activation != "none"
    whole = overlap_statistics(
        logits,
        dirty,
        valid=valid,
        weights=weights_with_garbage,
        activation=activation,
        cross_entropy=mixed,
    )
    part = overlap_statistics(
        small,
        target[..., kept],
        weights=weights[..., kept],
        activation=activation,
        cross_entropy=mixed,
    )
    assert_equal_statistics(whole, part)

    def gradient(s: OverlapStatistics, of: Tensor) -> Tensor:
        loss = (s.P + 2 * s.Y + 3 * s.D + 4 * s.M).sum()
        return gradient_of(loss if s.cross_entropy is None else loss + s.cross_entropy.sum(), of)

    found = gradient(whole, logits)
    torch.testing.assert_close(found[..., kept], gradient(part, small))
    assert torch.equal(found[..., cut], torch.zeros(2, 3, 3, dtype=torch.float64))


@pytest.mark.parametrize("way", ["valid", "weights", "hard ignore_index", "soft ignore_index"])
def test_all_ways_to_ignore_agree(way: str) -> None:
    logits = torch.randn(2, 3, 8)
    logits[..., 5] = NAN
    labels = torch.randint(0, 3, (2, 8))
    kept = torch.arange(8) != 5
    expected = overlap_statistics(logits[..., kept], labels[..., kept], cross_entropy=True)
    marked = labels.clone()
    marked[..., 5] = 255
    probs = F.one_hot(labels, 3).movedim(-1, 1).float()
    probs[..., 5] = 255
    counts = kept.expand(2, 8)
    target, options = {
        "valid": (labels, {"valid": counts}),
        "weights": (labels, {"weights": counts.float()}),
        "hard ignore_index": (marked, {"ignore_index": 255}),
        "soft ignore_index": (probs, {"ignore_index": 255}),
    }[way]
    found = overlap_statistics(logits, target, cross_entropy=True, **options)  # type: ignore[arg-type]
    assert_equal_statistics(found, expected)


@pytest.mark.parametrize("label", [-1, 3, 77, 255])
def test_a_label_outside_the_classes_does_not_count(label: int) -> None:
    logits = torch.randn(1, 3, 4, requires_grad=True)
    s = overlap_statistics(
        logits, torch.tensor([[0, label, 2, 1]]), cross_entropy=True, validate=False
    )
    assert s.Y.tolist() == [[1.0, 1.0, 1.0]]
    assert s.weight.tolist() == [3.0]
    gradient = gradient_of(s.P.square().sum(), logits)
    assert gradient[..., 1].eq(0).all()
    assert gradient[..., 0].ne(0).all()


@pytest.mark.parametrize("label", [-1, 2, 255])
@pytest.mark.parametrize("num_classes", [1, 3])
def test_an_integer_outside_zero_and_one_does_not_count(label: int, num_classes: int) -> None:
    """Independent classes as 0/1 integers (N, C, *S), such as binary masks of 0 and 255."""
    logits = torch.zeros(1, num_classes, 3)
    target = torch.tensor([0, label, 1]).expand(1, num_classes, 3)
    s = overlap_statistics(logits, target, activation="sigmoid", cross_entropy=True, validate=False)
    assert s.Y.tolist() == [[1.0] * num_classes]
    assert s.P.tolist() == [[1.0] * num_classes]
    assert s.weight.tolist() == [2.0 * num_classes]


@pytest.mark.parametrize("name", ["all pixels", "all images but one"])
def test_nothing_valid_gives_zeros(name: str) -> None:
    logits = torch.randn(2, 3, 4, requires_grad=True)
    target = torch.full((2, 4), 255)
    if name == "all images but one":
        target[0] = 1
    s = overlap_statistics(logits, target, ignore_index=255, cross_entropy=True)
    assert s.cross_entropy is not None
    assert s.p_max is not None
    assert s.y_max is not None
    for x in (s.P, s.Y, s.D, s.M, s.p_max, s.y_max, s.weight, s.cross_entropy):
        assert x[1].eq(0).all()
    assert (s.weight[0] > 0) == (name == "all images but one")


@pytest.mark.parametrize("shape", [(0, 3, 4, 4), (2, 3, 0, 4)])
def test_an_empty_batch_has_empty_sums(shape: tuple[int, ...]) -> None:
    logits = torch.zeros(shape, requires_grad=True)
    target = torch.zeros(shape[0], *shape[2:], dtype=torch.long)
    s = overlap_statistics(logits, target, cross_entropy=True)
    assert s.P.shape == (shape[0], 3)
    merged = s.merge_images()
    assert merged.p_max is not None
    assert merged.P.tolist() == merged.p_max.tolist() == [[0.0, 0.0, 0.0]]
    assert s.mean_cross_entropy().item() == 0.0


# Precision, memory layout, gradients


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_half_precision_is_summed_in_float32(dtype: torch.dtype) -> None:
    """2^16 pixels: a number beyond float16, and sums that stand still at 2^8 in bfloat16."""
    logits = torch.zeros(1, 2, 256, 256, dtype=dtype, requires_grad=True)
    target = torch.zeros(1, 256, 256, dtype=torch.uint8)
    s = overlap_statistics(logits, target, cross_entropy=True, tile=4099)
    assert s.P.dtype == torch.float32
    assert s.P.tolist() == [[2.0**15, 2.0**15]]
    assert s.weight.item() == 2.0**16
    assert gradient_of(s.D.sum(), logits).dtype == dtype


def test_half_precision_target_is_read_in_float32() -> None:
    y = torch.full((1, 2, 4096), 0.5, dtype=torch.float16)
    s = overlap_statistics(torch.zeros(1, 2, 4096), y)
    assert s.Y.tolist() == [[2048.0, 2048.0]]
    assert s.Y.dtype == torch.float32


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16])
def test_autocast_does_not_reach_the_sums(dtype: torch.dtype) -> None:
    logits, target = torch.randn(1, 3, 64, 64), torch.randint(0, 3, (1, 64, 64))
    expected = overlap_statistics(logits, target, cross_entropy=True)
    with torch.autocast("cpu", dtype=dtype):
        found = overlap_statistics(logits, target, cross_entropy=True)
    assert found.P.dtype == torch.float32
    assert_equal_statistics(found, expected)


@dataclass(frozen=True)
class Confused(Target):
    """Hard labels of raters who take one class for another: y by a matrix product."""

    labels: Tensor
    confusion: Tensor

    @property
    def shape(self) -> tuple[int, ...]:
        return tuple(self.labels.shape)

    def read(self, tile: Tile, num_classes: int, dtype: torch.dtype) -> SoftTile:
        one_hot = F.one_hot(tile.of(self.labels), num_classes).to(dtype)
        return SoftTile((one_hot @ self.confusion.to(dtype)).T)

    def validate(self, num_classes: int, valid: Tensor | None = None) -> None:
        raise NotImplementedError


def test_autocast_does_not_reach_into_targets() -> None:
    target = Confused(torch.randint(0, 3, (1, 4, 4)), torch.rand(3, 3).softmax(1))
    expected = target.dense(3, torch.float32).y.sum((2, 3))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        found = overlap_statistics(torch.zeros(1, 3, 4, 4), target)
    torch.testing.assert_close(found.Y, expected, rtol=1e-6, atol=0)


@pytest.mark.parametrize("layout", ["channels last", "transposed", "strided"])
def test_memory_layout_does_not_matter(layout: str) -> None:
    logits, target = torch.randn(2, 3, 8, 8), torch.randint(0, 3, (2, 8, 8))
    plain = overlap_statistics(logits, target)
    if layout == "channels last":
        logits = logits.to(memory_format=torch.channels_last)
    elif layout == "transposed":
        logits, target = logits.mT.contiguous().mT, target.mT.contiguous().mT
    else:
        logits = torch.stack([logits, logits], -1)[..., 0]
        target = torch.stack([target, target], -1)[..., 1]
    assert not logits.is_contiguous()
    assert_equal_statistics(overlap_statistics(logits, target), plain)


@pytest.mark.parametrize("activation", ["softmax", "sigmoid", "none"])
def test_gradcheck(activation: str) -> None:
    logits = torch.rand(2, 3, 4, dtype=torch.float64, requires_grad=True)
    y = torch.rand(2, 3, 4, dtype=torch.float64).softmax(1)
    weights = torch.rand(2, 4, dtype=torch.float64)
    mixed = activation != "none"

    def sums(logits: Tensor) -> tuple[Tensor, ...]:
        s = overlap_statistics(
            logits, y, weights=weights, activation=activation, cross_entropy=mixed
        )
        return (s.P, s.D, s.M, *([] if s.cross_entropy is None else [s.cross_entropy]))

    # D has a kink at p = y; the step has to stay on one side of it.
    with torch.no_grad():
        p = {"softmax": logits.softmax(1), "sigmoid": logits.sigmoid(), "none": logits}[activation]
    assert (p - y).abs().min() > 1e-4
    assert torch.autograd.gradcheck(sums, (logits,))


def test_soft_targets_receive_gradients() -> None:
    y = torch.rand(1, 2, 5, dtype=torch.float64).softmax(1).requires_grad_()
    logits = torch.randn(1, 2, 5, dtype=torch.float64)

    def sums(y: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        s = overlap_statistics(logits, y, impl="auto", validate=False)
        return s.Y, s.D, s.M

    assert torch.autograd.gradcheck(sums, (y,))


# Errors


def test_softmax_over_one_class_raises_with_the_way_out() -> None:
    with pytest.raises(ValueError, match=r"softmax over one class.*Use activation='sigmoid'"):
        overlap_statistics(torch.zeros(2, 1, 4, 4), torch.zeros(2, 4, 4, dtype=torch.long))


def test_integer_logits_raise() -> None:
    with pytest.raises(TypeError, match=r"`logits` to have a floating dtype, but got torch.int64"):
        overlap_statistics(torch.zeros(1, 2, 4).long(), torch.zeros(1, 4, dtype=torch.long))


def test_logits_without_space_raise() -> None:
    with pytest.raises(ValueError, match=r"`logits` to have shape \(N, C, \*S\).*got \(2, 3\)"):
        overlap_statistics(torch.zeros(2, 3), torch.zeros(2, dtype=torch.long))


def test_unknown_activation_raises() -> None:
    with pytest.raises(ValueError, match=r"`activation` to be one of 'softmax', .* got 'relu'"):
        overlap_statistics(
            torch.zeros(1, 2, 3), torch.zeros(1, 3, dtype=torch.long), activation="relu"
        )


def test_cross_entropy_of_ready_probabilities_raises() -> None:
    with pytest.raises(ValueError, match=r"Expected logits for the cross-entropy"):
        overlap_statistics(
            torch.zeros(1, 2, 3),
            torch.zeros(1, 3, dtype=torch.long),
            activation="none",
            cross_entropy=True,
        )


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"valid": torch.ones(1, 4)}, TypeError, r"`valid` to be bool, .*got dtype torch.float32"),
        (
            {"valid": torch.ones(4, dtype=torch.bool)},
            ValueError,
            r"`valid` to have shape \(N, \*S\) = \(1, 4\), but got \(4,\)",
        ),
        (
            {"weights": torch.ones(1, 4, dtype=torch.long)},
            TypeError,
            r"`weights` to be floating, .*got dtype torch.int64",
        ),
        (
            {"weights": torch.ones(1, 4, dtype=torch.bool)},
            TypeError,
            r"`weights` to be floating, .*got dtype torch.bool",
        ),
        ({"weights": torch.ones(1, 2, 4)}, ValueError, r"`weights` to have shape .*\(1, 2, 4\)"),
    ],
)
def test_wrong_maps_raise(options: dict[str, Any], error: type[Exception], message: str) -> None:
    with pytest.raises(error, match=message):
        overlap_statistics(torch.zeros(1, 2, 4), torch.zeros(1, 4, dtype=torch.long), **options)


@pytest.mark.parametrize("weight", [-1.0, NAN, INF])
def test_bad_weights_raise_under_validate(weight: float) -> None:
    logits, target = torch.zeros(1, 2, 2), torch.zeros(1, 2, dtype=torch.long)
    weights = torch.tensor([[1.0, weight]])
    with pytest.raises(ValueError, match=r"`weights` to be finite and at least 0"):
        overlap_statistics(logits, target, weights=weights, validate=True)


@pytest.mark.parametrize("soft", [False, True])
def test_contents_are_validated_where_the_pixels_count(soft: bool) -> None:
    logits, valid = torch.zeros(1, 2, 2), torch.tensor([[True, False]])
    hard = torch.tensor([[1, 7]])
    target = torch.tensor([[[0.25, NAN], [0.75, 2.0]]]) if soft else hard
    own = overlap_statistics(logits, target, valid=valid, validate=True)
    assert own.Y.tolist() == ([[0.25, 0.75]] if soft else [[0.0, 1.0]])
    with pytest.raises(ValueError, match="`target` to"):
        overlap_statistics(logits, target, validate=True)


def test_a_class_that_cannot_be_costs_nothing_where_it_is_not_there() -> None:
    logits = torch.tensor([[[0.5, 1.0], [2.0, -1.0], [-INF, -INF]]], requires_grad=True)
    target = torch.tensor([[0, 1]])
    own = overlap_statistics(logits, target, cross_entropy=True).mean_cross_entropy()
    expected = F.cross_entropy(logits, target)
    torch.testing.assert_close(own, expected)
    torch.testing.assert_close(gradient_of(own, logits), gradient_of(expected, logits))
