"""The compiled pass against the plain one, which is the definition."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from torch import Tensor

from softiou._native import load_library, warn_once
from softiou.metrics import (
    MeanIoU,
    PixelSums,
    SegmentationScores,
    classwise_bins,
    confidence_sums,
    confusion_counts,
    native,
    overlap_counts,
    pixel_sums,
)
from softiou.targets import HardTarget


@pytest.fixture(autouse=True)
def _needs_a_compiler() -> None:
    reason = load_library("metrics")
    if isinstance(reason, str):
        pytest.skip(reason)


@contextmanager
def plain_only() -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "unsupported_reason", lambda *_: "not in this test")
        yield


@contextmanager
def compiled_only() -> Iterator[None]:
    """The compiled pass is taken, whatever else it may be that agrees."""
    taken: list[bool] = []
    gather = native.gather

    def watched(*arguments: Any, **options: Any) -> native.Gathered | None:
        taken.append(True)
        return gather(*arguments, **options)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(native, "gather", watched)
        yield
    assert taken


def assert_same(found: PixelSums, expected: PixelSums) -> None:
    expected_tensors = expected.tensors()
    assert list(found.tensors()) == list(expected_tensors)
    for name, tensor in found.tensors().items():
        other = expected_tensors[name]
        assert (tensor.dtype, tensor.shape) == (other.dtype, other.shape), name
        if tensor.dtype == torch.int64:
            assert torch.equal(tensor, other), name
        else:
            rtol = rounding_of(expected.overlap.present.shape[1], name)
            torch.testing.assert_close(tensor, other, rtol=rtol, atol=1e-6, equal_nan=True)


def rounding_of(num_classes: int, name: str) -> float:
    """The largest relative error that a sum of terms of one sign can have.

    The Brier score and the likelihood are added up in float32: the C terms of a pixel one by one,
    then the 1024 pixels of a tile in at least 4 lanes; each addition is wrong by at most half a
    unit in the last place, 2^-24, and so are the few operations of a term. The rest is float64, but
    for the probabilities themselves.
    """
    in_float32 = name.endswith(("brier", "nll"))
    return (num_classes + 1024 / 4 + 8) * 2**-24 if in_float32 else 2e-6


LABELS = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)
FLOATS = (torch.float32, torch.bfloat16, torch.float16)


@st.composite
def cases(draw: st.DrawFn) -> dict[str, Any]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    N, C = draw(st.integers(0, 3)), draw(st.sampled_from([2, 3, 7, 100]))
    space = draw(st.sampled_from([(0,), (1,), (15,), (37, 5), (4, 1029), (3, 4, 5)]))
    generator = torch.Generator().manual_seed(int(rng.integers(2**31)))
    sharpness = draw(st.sampled_from([0.0, 1.0, 10.0]))
    logits = sharpness * torch.randn(N, C, *space, generator=generator)
    probs = logits.softmax(1)
    if draw(st.booleans()):  # ties, and values at the edges of bins
        drawn = probs.flatten(2).mT.flatten(0, 1).multinomial(15, True, generator=generator)
        shares = torch.nn.functional.one_hot(drawn, C).sum(1) / 15
        probs = shares.view(N, *space, C).movedim(-1, 1).contiguous()
    labels = draw(st.sampled_from(LABELS))
    target = torch.randint(0, C, (N, *space), generator=generator)
    if draw(st.booleans()):
        target = torch.where(torch.rand(target.shape) < 0.7, probs.argmax(1), target)
    ignored = draw(st.sampled_from([None, 0, 255 if labels == torch.uint8 else -1]))
    if ignored is not None:
        target = target.masked_fill(torch.rand(target.shape) < 0.2, ignored)
    valid = torch.rand((N, *space), generator=generator) < 0.8
    return {
        "probs": probs.to(draw(st.sampled_from(FLOATS))),
        "target": target.to(labels),
        "num_classes": C,
        "num_bins": draw(st.sampled_from([1, 2, 10, 15, 100])),
        "ignore_index": ignored,
        "valid": draw(st.sampled_from([None, valid])),
    }


@settings(max_examples=60)
@given(cases())
def test_compiled_is_plain(case: dict[str, Any]) -> None:
    with compiled_only():
        found = pixel_sums(**case)
    with plain_only():
        assert_same(found, pixel_sums(**case))
    parts = {"overlap": overlap_counts(case["probs"], case["target"], **without_bins(case))}
    calibration, classwise = confidence_sums(**case), classwise_bins(**case)
    assert_same(PixelSums(parts["overlap"], calibration, classwise), found)


def without_bins(case: dict[str, Any]) -> dict[str, Any]:
    return {name: case[name] for name in ("num_classes", "ignore_index", "valid")}


@settings(max_examples=30)
@given(cases(), st.sampled_from(LABELS))
def test_class_indices_count_as_in_plain(case: dict[str, Any], dtype: torch.dtype) -> None:
    preds = case["probs"].argmax(1).to(dtype)
    with compiled_only():
        found = overlap_counts(preds, case["target"], **without_bins(case))
    with plain_only():
        expected = overlap_counts(preds, case["target"], **without_bins(case))
    for name, tensor in expected.tensors().items():
        assert torch.equal(found.tensors()[name], tensor)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64, torch.bool, torch.float32])
@pytest.mark.parametrize("space", [(6,), (5, 7)])
def test_one_hot_predictions_of_any_dtype(dtype: torch.dtype, space: tuple[int, ...]) -> None:
    labels, target = torch.randint(0, 3, (2, 2, *space))
    one_hot = torch.nn.functional.one_hot(labels, 3).movedim(-1, 1)
    expected = overlap_counts(labels, target, num_classes=3)
    found = overlap_counts(one_hot.to(dtype), target, num_classes=3)
    for name, tensor in expected.tensors().items():
        assert torch.equal(found.tensors()[name], tensor)
    assert (overlap_counts(one_hot.to(dtype), labels, num_classes=3).iou().nan_to_num(1) == 1).all()
    pairs = confusion_counts(one_hot.to(dtype), target, num_classes=3)
    assert torch.equal(pairs.diagonal(dim1=1, dim2=2), expected.true_positives)
    for kind in (MeanIoU, SegmentationScores):
        metric, of_labels = kind(3), kind(3)
        metric.update(one_hot.to(dtype), target)
        of_labels.update(labels, target)
        torch.testing.assert_close(metric.compute(), of_labels.compute())


def test_shapes_are_checked_before_pointers_are_handed_over() -> None:
    probs, target = sample(2, 3, 8)
    for scores, valid in (
        (probs[:1], None),
        (probs.long(), None),  # one-hot or not, these are no labels
        (target.float(), None),
        (probs, torch.ones(2, 7, dtype=torch.bool)),
    ):
        with pytest.raises(RuntimeError, match=r"prediction .* for \(2, 8\)"):
            native.gather(scores, target, valid, num_classes=3, ignore_index=None)


def sample(*shape: int) -> tuple[Tensor, Tensor]:
    probs = (3 * torch.randn(*shape)).softmax(1)
    return probs, torch.randint(0, shape[1], (shape[0], *shape[2:]))


def test_memory_need_not_be_contiguous() -> None:
    probs, target = sample(2, 5, 20, 30)
    valid = torch.rand(2, 20, 30) < 0.5
    expected = pixel_sums(probs, target, num_classes=5, valid=valid)
    strided = probs.to(memory_format=torch.channels_last)
    turned = target.mT.contiguous().mT, valid.mT.contiguous().mT
    with compiled_only():
        assert_same(pixel_sums(strided, turned[0], num_classes=5, valid=turned[1]), expected)
    wide = torch.rand(2, 5, 20, 60)
    wide[..., ::2] = probs
    assert_same(pixel_sums(wide[..., ::2], target, num_classes=5, valid=valid), expected)


def test_logits_and_nan_have_the_argmax_of_torch() -> None:
    logits = 100 * torch.randn(2, 4, 50)
    logits[0, 1, :20] = torch.nan
    logits[0, 3, 10:30] = torch.nan
    logits[1, :, :5] = -torch.inf
    target = torch.randint(0, 4, (2, 50))
    with compiled_only():
        found = overlap_counts(logits, target, num_classes=4)
    expected = overlap_counts(logits.argmax(1), target, num_classes=4)
    assert torch.equal(found.predicted, expected.predicted)
    assert torch.equal(found.true_positives, expected.true_positives)


@pytest.mark.parametrize("c", [0, 2])
def test_nan_shows_in_its_image_alone(c: int) -> None:
    probs, target = sample(2, 3, 40)
    target[1, 7] = c
    probs[1, c, 7] = torch.nan
    with compiled_only():
        found = pixel_sums(probs, target, num_classes=3)
    with plain_only():
        assert_same(found, pixel_sums(probs, target, num_classes=3))
    sums = found.calibration
    for score in (sums.brier_score(), sums.log_loss(), sums.equal_width().error()):
        assert score.isnan().tolist() == [False, True]
    assert int(found.overlap.predicted[1].sum()) == 40


def test_pixels_that_do_not_count_may_hold_nan() -> None:
    probs, target = sample(1, 3, 40)
    expected = pixel_sums(probs[..., 5:], target[:, 5:], num_classes=3)
    probs[..., :5] = torch.nan
    target[:, :5] = 255
    assert_same(pixel_sums(probs, target, num_classes=3, ignore_index=255), expected)


def test_threads_do_not_change_the_sums() -> None:
    probs, target = sample(1, 4, 200, 201)
    before, found = torch.get_num_threads(), []
    try:
        for threads in (1, 2, 3):
            torch.set_num_threads(threads)
            found.append(pixel_sums(probs, target, num_classes=4).tensors())
    finally:
        torch.set_num_threads(before)
    for name, tensor in found[0].items():
        assert torch.equal(tensor, found[1][name])
        assert torch.equal(tensor, found[2][name])


def test_sums_of_many_pixels_are_as_exact_as_in_float64() -> None:
    """A million pixels of the same probability, which float32 sums would drift away from."""
    probs = torch.tensor([0.7, 0.2, 0.1]).view(1, 3, 1).expand(1, 3, 2**20).contiguous()
    sums = pixel_sums(probs, torch.zeros(1, 2**20, dtype=torch.uint8), num_classes=3)
    p = [float(x) for x in probs[0, :, 0]]
    assert sums.calibration.confidence().item() == pytest.approx(p[0], rel=1e-12)
    brier = (1 - p[0]) ** 2 + p[1] ** 2 + p[2] ** 2
    assert sums.calibration.brier_score().item() == pytest.approx(brier, rel=1e-6)
    assert sums.calibration.log_loss().item() == pytest.approx(-np.log(p[0]), rel=1e-6)
    mean = sums.classwise.confidence.sum(2) / 2**20
    assert mean[0].tolist() == pytest.approx(p, rel=1e-6)


def test_hard_targets_are_labels() -> None:
    probs, target = sample(1, 3, 20)
    target[:, :4] = 255
    expected = pixel_sums(probs, target, num_classes=3, ignore_index=255)
    with compiled_only():
        assert_same(pixel_sums(probs, HardTarget(target, 255), num_classes=3), expected)
    found = pixel_sums(probs, HardTarget(target), num_classes=3, ignore_index=255)
    assert_same(found, expected)


def test_wrong_class_indices_raise_as_in_plain() -> None:
    preds, target = torch.tensor([[0, 3]]), torch.tensor([[0, 255]])
    found = overlap_counts(preds, target, num_classes=2, ignore_index=255)
    assert found.predicted.tolist() == [[1, 0]]
    with pytest.raises(ValueError, match=r"class indices in \[0, 1\], but found 0 to 3"):
        overlap_counts(preds, target.clamp(max=1), num_classes=2)


# What it leaves to the plain pass


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="no CUDA device")
@pytest.mark.parametrize("independent", [False, True])
def test_other_devices_agree(independent: bool) -> None:
    probs, target = sample(2, 5, 40, 50)
    if independent:
        target = torch.randint(0, 2, probs.shape)
    options: dict[str, Any] = {"num_classes": 5, "independent": independent}
    found = pixel_sums(probs.cuda(), target.cuda(), **options)
    assert_same(found.apply(torch.Tensor.cpu), pixel_sums(probs, target, **options))


def test_it_says_what_it_cannot_do() -> None:
    probs, target = sample(1, 3, 4)
    assert native.unsupported_reason(probs, target, None, 15) is None
    assert "CPU" in str(native.unsupported_reason(probs.to("meta"), target, None, 15))
    assert "integer labels only" in str(native.unsupported_reason(probs, target.double(), None, 15))
    assert "float64" in str(native.unsupported_reason(probs.double(), target, None, 15))
    assert "int64" in str(native.unsupported_reason(target, target, None, 15))
    assert native.unsupported_reason(target, target, None) is None
    assert "bins" in str(native.unsupported_reason(probs, target, None, 2**20))


def test_without_a_compiler_the_plain_pass_does_it(monkeypatch: pytest.MonkeyPatch) -> None:
    probs, target = sample(1, 3, 50)
    expected = pixel_sums(probs, target, num_classes=3)
    monkeypatch.setattr(native, "load_library", lambda *_: "There is no C compiler.")
    warn_once.cache_clear()
    with pytest.warns(UserWarning, match=r"The metrics .* slower: There is no C compiler."):
        assert native.unsupported_reason(probs, target, None) == "There is no C compiler."
    assert_same(pixel_sums(probs, target, num_classes=3), expected)
    metric = MeanIoU(3)
    metric.update(probs, target)
    assert metric.compute().item() == pytest.approx(float(expected.overlap.iou().nanmean()))
    with pytest.raises(RuntimeError, match="unsupported_reason was not checked"):
        native.gather(probs, target, None, num_classes=3, ignore_index=None)


def test_no_memory_is_an_error_of_python(monkeypatch: pytest.MonkeyPatch) -> None:
    class Library:
        def softiou_pixels(self, _: object) -> int:
            return 2

    probs, target = sample(1, 3, 4)
    monkeypatch.setattr(native, "load_library", lambda *_: Library())
    with pytest.raises(MemoryError):
        pixel_sums(probs, target, num_classes=3)
