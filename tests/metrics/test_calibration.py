import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from reference import metric_loops
from softiou import targets
from softiou.metrics import ExpectedCalibrationError
from softiou.targets import Target


def ece(probs: Tensor, target: Tensor | Target, **settings: Any) -> float:
    metric = ExpectedCalibrationError(probs.shape[1], **settings)
    metric.update(probs, target)
    return float(metric.compute().item())


def binary(confidences: list[float]) -> Tensor:
    """Probabilities (1, 2, P) that predict class 0 with these confidences."""
    p = torch.tensor(confidences, dtype=torch.float64)
    return torch.stack([p, 1 - p]).unsqueeze(0)


# Values by hand


def test_ece_by_hand() -> None:
    """Two bins in use: [0.5, 0.6) holds two pixels, one right; [0.9, 1] two pixels, both right."""
    probs, target = binary([0.55, 0.57, 0.95, 0.99]), torch.tensor([[0, 1, 0, 0]])
    expected = 2 / 4 * abs(0.5 - 0.56) + 2 / 4 * abs(1 - 0.97)
    assert ece(probs, target, num_bins=10) == pytest.approx(expected)


def test_bins_weigh_as_many_pixels_as_they_hold() -> None:
    probs, target = binary([0.95] * 9 + [0.65]), torch.tensor([[0] * 9 + [1]])
    expected = 9 / 10 * 0.05 + 1 / 10 * 0.65
    assert ece(probs, target, num_bins=10) == pytest.approx(expected)


def test_errors_within_a_bin_cancel_and_between_bins_do_not() -> None:
    probs, target = binary([0.5 + 1e-9, 1.0]), torch.tensor([[0, 1]])
    assert ece(probs, target, num_bins=1) == pytest.approx(0.25)  # |1/2 - 3/4|
    assert ece(probs, target, num_bins=2) == pytest.approx(0.25)  # both in [0.5, 1]
    assert ece(probs, target, num_bins=3) == pytest.approx((0.5 + 1.0) / 2)


def test_confidence_of_exactly_one_is_in_the_last_bin() -> None:
    metric = ExpectedCalibrationError(2, num_bins=10)
    metric.update(binary([1.0, 1.0, 1.0, 0.95]), torch.tensor([[0, 0, 1, 0]]))
    assert metric.reliability()["count"].tolist() == [0] * 9 + [4]
    assert metric.compute().item() == pytest.approx(abs(3 / 4 - 3.95 / 4))


def test_edge_of_a_bin_belongs_to_the_upper_one() -> None:
    metric = ExpectedCalibrationError(2, num_bins=4)
    metric.update(binary([0.5, 0.75, 0.7499]), torch.tensor([[0, 0, 0]]))
    assert metric.reliability()["count"].tolist() == [0, 0, 2, 1]


def test_perfect_calibration_is_zero() -> None:
    probs, target = binary([0.75] * 4), torch.tensor([[0, 0, 0, 1]])
    assert ece(probs, target) == 0


def test_soft_target_accuracy_is_the_probability_of_the_predicted_class() -> None:
    probs = binary([0.75, 0.75])
    target = torch.tensor([[[0.9, 0.3], [0.1, 0.7]]])
    assert ece(probs, target) == pytest.approx(abs((0.9 + 0.3) / 2 - 0.75))
    assert ece(probs, probs) == pytest.approx(0)


def test_shares_of_votes_with_pixels_that_nobody_judged() -> None:
    """As probabilities that are marked, and as the votes themselves; two of three say class 0."""
    probs = binary([0.75, 0.75, 0.99])
    raters = torch.tensor([[[0, 1, 255], [0, 0, 255], [1, 255, 255]]])
    shares, valid = targets.vote_shares(raters, num_classes=2, ignore_index=255)
    expected = abs((2 / 3 + 1 / 2) / 2 - 0.75)
    marked = shares.where(valid.unsqueeze(1), 255)
    assert ece(probs, marked, ignore_index=255) == pytest.approx(expected)
    assert ece(probs, targets.votes(raters), ignore_index=255) == pytest.approx(expected)
    assert ece(probs, targets.votes(raters, ignore_index=255)) == pytest.approx(expected)


def test_reliability_by_hand() -> None:
    metric = ExpectedCalibrationError(2, num_bins=2)
    metric.update(binary([0.6, 0.8]), torch.tensor([[0, 1]]))
    diagram = metric.reliability()
    assert diagram["edges"].tolist() == [0.0, 0.5, 1.0]
    assert diagram["count"].tolist() == [0, 2]
    assert diagram["confidence"].tolist() == pytest.approx([math.nan, 0.7], nan_ok=True)
    assert diagram["accuracy"].tolist() == pytest.approx([math.nan, 0.5], nan_ok=True)


# The slow reference


@st.composite
def batches(draw: st.DrawFn) -> dict[str, Any]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    N, C, P = draw(st.integers(1, 3)), draw(st.integers(2, 4)), draw(st.integers(1, 8))
    concentration = draw(st.sampled_from([0.05, 1.0]))
    probs = np.moveaxis(rng.dirichlet(np.full(C, concentration), (N, P)), -1, 1).copy()
    target: NDArray[Any] = rng.choice([*range(C), 255], (N, P))
    if draw(st.booleans()):
        target = np.moveaxis(rng.dirichlet(np.ones(C), (N, P)), -1, 1).copy()
        target[:, :, rng.random(P) < 0.2] = 255
    return {
        "probs": probs.astype(draw(st.sampled_from(["float32", "float64"]))),
        "target": target,
        "ignore_index": 255,
        "valid": rng.random((N, P)) < 0.7 if draw(st.booleans()) else None,
    }


@given(batches(), st.integers(1, 20), st.integers(0, 3))
def test_agrees_with_loops_in_several_updates(
    batch: dict[str, Any], num_bins: int, cut: int
) -> None:
    metric = ExpectedCalibrationError(batch["probs"].shape[1], num_bins=num_bins, ignore_index=255)
    for images in (slice(0, cut), slice(cut, None)):
        if len(batch["probs"][images]):
            valid = None if batch["valid"] is None else torch.from_numpy(batch["valid"][images])
            probs, target = (torch.from_numpy(batch[k][images]) for k in ("probs", "target"))
            metric.update(probs, target, valid)
    expected = metric_loops.calibration_error(**batch, num_bins=num_bins)
    found = metric.compute()
    assert found.item() == pytest.approx(expected, abs=1e-12, nan_ok=True)
    assert found.dtype == torch.float64


# Properties


def test_hard_equals_one_hot_soft() -> None:
    probs, target = torch.rand(2, 3, 9).softmax(1), torch.randint(0, 3, (2, 9))
    one_hot = torch.nn.functional.one_hot(target, 3).mT.float()
    assert ece(probs, target) == pytest.approx(ece(probs, one_hot))


def test_a_target_is_what_it_becomes_when_written_out() -> None:
    probs, labels = torch.rand(2, 3, 6, 5).softmax(1), torch.randint(0, 3, (2, 6, 5))
    valid = torch.rand(2, 6, 5) < 0.7
    marked = labels.where(valid, 255)
    assert ece(probs, targets.HardTarget(marked, 255)) == ece(probs, marked, ignore_index=255)
    for target in (targets.smooth(labels, 0.3), targets.teacher(torch.randn(2, 3, 3, 3))):
        ready = targets.as_target(target, logits_shape=(2, 3, 6, 5))
        written = ready.dense(3, torch.float32).y
        expected, found = ExpectedCalibrationError(3), ExpectedCalibrationError(3)
        expected.update(probs, written, valid)
        found.update(probs, target, valid)
        assert found.compute().item() == expected.compute().item()


def test_space_can_have_any_shape() -> None:
    probs, target = torch.rand(2, 3, 4, 6).softmax(1), torch.randint(0, 3, (2, 4, 6))
    assert ece(probs, target) == pytest.approx(ece(probs.flatten(2), target.flatten(1)))


def test_ignored_pixels_are_cut_out() -> None:
    probs, target = torch.rand(2, 3, 9).softmax(1), torch.randint(0, 3, (2, 9))
    expected = ece(probs[..., 3:], target[:, 3:])
    valid = torch.ones(2, 9, dtype=torch.bool)
    valid[:, :3] = False
    probs[..., :3] = math.nan
    metric = ExpectedCalibrationError(3)
    metric.update(probs, target, valid)
    assert metric.compute().item() == pytest.approx(expected)
    marked = target.where(valid, 255)
    assert ece(probs, marked, ignore_index=255) == pytest.approx(expected)
    with pytest.raises(ValueError, match=r"class indices in \[0, 2\], but found \[-1\]"):
        ece(probs, marked.where(valid, -1))


def test_nothing_valid_is_nan() -> None:
    assert math.isnan(ece(binary([0.7]), torch.tensor([[255]]), ignore_index=255))


def test_many_pixels_add_up_in_float64() -> None:
    """2^25 pixels: float32 sums would stand still at 2^24."""
    metric = ExpectedCalibrationError(2, num_bins=1)
    metric.update(binary([1.0]), torch.tensor([[0]]))
    many = metric.sums().apply(lambda x: x * 2**25)
    metric.reset()
    metric.add(many)
    metric.update(binary([0.75]), torch.tensor([[1]]))
    assert metric.sums().merge_images().fine.confidence.sum().item() == 2**25 + 0.75
    assert metric.compute().item() == 0.75 / (2**25 + 1)


def test_half_precision_probabilities() -> None:
    """Each confidence is what the half says; sums are as exact as ever."""
    probs = torch.full((1, 2, 4099), 0.3, dtype=torch.float16)
    probs[:, 0] = 0.7
    found = ece(probs, torch.zeros(1, 4099, dtype=torch.uint8))
    assert found == pytest.approx(1 - float(np.float16(0.7)), abs=1e-12)


# The life of a metric


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "convert",
    [
        lambda m: m.to(torch.float16),
        lambda m: m.half(),
        lambda m: m.bfloat16(),
        lambda m: m.type(torch.float16),
        lambda m: m.float(),
    ],
)
def test_half_precision_models_leave_the_sums_alone(convert: Any, when: str) -> None:
    """A recipe in bfloat16 converts its whole module, the metrics in it as well."""
    probs, target = torch.rand(1, 2, 4096).softmax(1), torch.randint(0, 2, (1, 4096))
    expected = ece(probs, target)
    metric = ExpectedCalibrationError(2)
    module = torch.nn.ModuleDict({"metric": metric})
    if when == "before":
        convert(module)
    metric.update(probs, target)
    convert(module)
    metric.set_dtype(torch.float16)
    assert metric.sums().fine.confidence.dtype == metric.sums().brier.dtype == torch.float64
    assert metric.sums().fine.count.dtype == torch.int64
    assert metric.compute().item() == expected
    metric.reset()
    assert metric.sums().fine.confidence.dtype == torch.float64


def test_a_model_takes_its_metric_to_another_device() -> None:
    metric = ExpectedCalibrationError(2)
    metric.update(binary([1.0]), torch.tensor([[1]]))
    metric.to("meta")
    assert metric.sums().brier.device.type == metric.sums().fine.count.device.type == "meta"
    metric.reset()
    assert metric.sums().brier.device.type == metric.device.type == "meta"


def test_reset_forgets() -> None:
    metric = ExpectedCalibrationError(2)
    metric.update(binary([1.0]), torch.tensor([[1]]))
    assert metric.compute().item() == 1
    metric.reset()
    metric.update(binary([1.0]), torch.tensor([[0]]))
    assert metric.compute().item() == 0


def test_pickling_keeps_what_was_seen() -> None:
    metric = ExpectedCalibrationError(2)
    metric.update(binary([0.75]), torch.tensor([[1]]))
    copy = pickle.loads(pickle.dumps(metric))
    assert copy.compute().item() == 0.75
    copy.update(binary([0.75]), torch.tensor([[0]]))
    assert copy.compute().item() == pytest.approx(0.25)
    assert metric.compute().item() == 0.75


# Errors


def test_wrong_shape_of_probabilities_raises() -> None:
    metric = ExpectedCalibrationError(3)
    target = torch.zeros(2, 8, 8, dtype=torch.long)
    for shape in ((2, 3, 4, 16), (2, 4, 8, 8), (2, 8, 8)):
        with pytest.raises(ValueError, match=r"`probs` to have shape .* = \(2, 3, 8, 8\)"):
            metric.update(torch.rand(shape), target)
    with pytest.raises(ValueError, match=r"`valid` to have shape \(N, \*S\) = \(2, 8, 8\)"):
        metric.update(torch.rand(2, 3, 8, 8), target, torch.ones(8, 8, dtype=torch.bool))
    assert len(metric.sums().pixels) == 0


def test_wrong_targets_raise() -> None:
    metric = ExpectedCalibrationError(3)
    with pytest.raises(ValueError, match=r"`probs` to have shape .* = \(2, 3, 4\)"):
        metric.update(torch.rand(2, 3, 8), targets.votes(torch.zeros(2, 5, 4).long()))
    entries = targets.DenseTarget(torch.rand(2, 3, 8), ignore_index=255, independent=True)
    with pytest.raises(ValueError, match=r"to be ignored together"):
        metric.update(torch.rand(2, 3, 8), entries)
    with pytest.raises(ValueError, match=r"`probs` to have shape .* = \(2, 3, 8\)"):
        metric.update(torch.rand(2, 4, 8), targets.votes(torch.zeros(2, 5, 8).long()))


def test_wrong_settings_raise() -> None:
    with pytest.raises(ValueError, match=r"`num_classes` to be at least 2, but got 1"):
        ExpectedCalibrationError(1)
    with pytest.raises(ValueError, match=r"`num_bins` to be at least 1, but got 0"):
        ExpectedCalibrationError(2, num_bins=0)
