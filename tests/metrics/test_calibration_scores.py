"""The calibration metrics against independent references, and on a perfectly calibrated model."""

import math
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss
from torch import Tensor
from torchmetrics.classification import (
    BinaryCalibrationError,
    MulticlassCalibrationError,
    MulticlassJaccardIndex,
)

from metrics.test_calibration import batches
from reference import score_loops
from softiou import targets
from softiou.metrics import (
    BrierScore,
    CalibrationScores,
    ClasswiseCalibrationError,
    EvaluationScores,
    ExpectedCalibrationError,
    MaximumCalibrationError,
    NegativeLogLikelihood,
    SegmentationScores,
    classwise_error,
    confidence_sums,
    pixel_sums,
)

SINGLE: dict[str, Any] = {
    "ece_d": ExpectedCalibrationError,
    "ece_i": lambda C, **options: ExpectedCalibrationError(C, per="image", **options),
    "cece_d": ClasswiseCalibrationError,
    "ace_d": lambda C, **options: ExpectedCalibrationError(C, adaptive=True, **options),
    "mce_d": MaximumCalibrationError,
    "brier": BrierScore,
    "nll": NegativeLogLikelihood,
}


def sample(N: int = 4, C: int = 5, size: int = 60) -> tuple[Tensor, Tensor]:
    """Overconfident predictions that are right more often than by chance."""
    probs = (3 * torch.randn(N, C, size, size)).softmax(1)
    target = torch.where(torch.rand(N, size, size) < 0.5, probs.argmax(1), 0)
    return probs, target


def value(metric: Any, *batch: Any) -> float:
    metric.update(*batch)
    return float(metric.compute())


# Values by hand

# Two images of two pixels, two classes; the third is predicted a little and never there.
PROBS = torch.tensor(
    [[[0.75, 0.5], [0.125, 0.25], [0.125, 0.25]], [[1.0, 0.25], [0.0, 0.75], [0.0, 0.0]]]
)
TARGET = torch.tensor([[0, 1], [0, 0]])
BY_HAND = {  # with two bins
    "ece_d": abs(2 - 3) / 4,
    "ece_i": (0.25 / 2 + 0.75 / 2) / 2,
    "cece_d": ((abs(2 - 2.25) + abs(1 - 0.25)) / 4 + (abs(1 - 0.375) + 0.75) / 4) / 2,
    # Of ranks 1/2, 3/2, 5/2, 7/2: 0.5 is in the lower half, both of 0.75 and 1 in the upper one.
    "ace_d": (abs(0 - 0.5) + abs(2 - 2.5)) / 4,
    "mce_d": abs(2 - 3) / 4,
    "brier": (0.25**2 + 2 * 0.125**2 + 0.5**2 + 0.75**2 + 0.25**2 + 0 + 2 * 0.75**2) / 4,
    "nll": -(math.log(0.75) + 2 * math.log(0.25)) / 4,
}


@pytest.mark.parametrize("name", SINGLE)
def test_scores_by_hand(name: str) -> None:
    assert value(SINGLE[name](3, num_bins=2), PROBS, TARGET) == pytest.approx(BY_HAND[name])


def test_all_scores_by_hand() -> None:
    metric = CalibrationScores(3, num_bins=2)
    metric.update(PROBS, TARGET)
    found = {name: float(score) for name, score in metric.compute().items()}
    assert found == pytest.approx(BY_HAND)
    assert all(score.dtype == torch.float64 for score in metric.compute().values())


def test_scores_of_each_image_by_hand() -> None:
    for kind, expected in ((BrierScore, [0.484375, 0.5625]), (NegativeLogLikelihood, None)):
        metric = kind(3, per="image")
        found = value(metric, PROBS, TARGET)
        by_image = metric.score(metric.sums())
        assert found == pytest.approx(float(by_image.mean()))
        assert expected is None or by_image.tolist() == expected


def test_absent_classes_are_nan_and_not_averaged() -> None:
    """The third class is predicted, with a mean of 0.09, and never there."""
    metric = ClasswiseCalibrationError(3, num_bins=2, per="none")
    metric.update(PROBS, TARGET)
    first, second, third = metric.compute().tolist()
    assert (first, second) == pytest.approx((1 / 4, 1.375 / 4))
    assert math.isnan(third)


def test_class_wise_bins_hold_every_pixel_of_every_class() -> None:
    """The label's frequency, not that of being predicted and right."""
    metric = ClasswiseCalibrationError(3, num_bins=2)
    metric.update(PROBS, TARGET)
    diagram = metric.reliability()
    assert diagram["count"].tolist() == [[1, 3], [3, 1], [4, 0]]
    assert diagram["accuracy"][0].tolist() == pytest.approx([1.0, 2 / 3])
    assert diagram["confidence"][0].tolist() == pytest.approx([0.25, 0.75])
    assert diagram["accuracy"][1].tolist() == pytest.approx([1 / 3, 0.0])
    assert math.isnan(diagram["accuracy"][2, 1])


# Independent references


def test_calibration_errors_agree_with_torchmetrics() -> None:
    probs, target = sample()
    for norm, kind in (("l1", ExpectedCalibrationError), ("max", MaximumCalibrationError)):
        theirs = MulticlassCalibrationError(5, n_bins=15, norm=norm)  # type: ignore[arg-type]
        expected = value(theirs, probs, target)
        assert value(kind(5), probs, target) == pytest.approx(expected, abs=1e-6)
        assert expected > 0.1


def test_pooled_iou_agrees_with_torchmetrics() -> None:
    probs, target = sample()
    target[0, :9] = 255
    metric = EvaluationScores(5, ignore_index=255)
    metric.update(probs, target)
    theirs = MulticlassJaccardIndex(5, ignore_index=255)
    expected = value(theirs, probs, target)
    assert float(metric.compute()["miou_d"]) == pytest.approx(expected, abs=1e-6)


def test_brier_score_and_log_loss_agree_with_sklearn() -> None:
    probs, target = sample()
    flat, labels = probs.movedim(1, -1).reshape(-1, 5).double().numpy(), target.flatten().numpy()
    brier = sum(brier_score_loss(labels == c, flat[:, c]) for c in range(5))
    assert value(BrierScore(5), probs, target) == pytest.approx(brier, abs=1e-6)
    loss = log_loss(labels, flat / flat.sum(1, keepdims=True), labels=range(5))
    assert value(NegativeLogLikelihood(5), probs, target) == pytest.approx(loss, abs=1e-6)


def test_reliability_curves_of_classes_agree_with_sklearn() -> None:
    probs, target = sample()
    metric = ClasswiseCalibrationError(5)
    metric.update(probs, target)
    diagram = metric.reliability()
    for c in range(5):
        p, y = probs[:, c].flatten().numpy(), (target == c).flatten().numpy()
        frequency, confidence = calibration_curve(y, p, n_bins=15)
        kept = diagram["count"][c] > 0
        np.testing.assert_allclose(diagram["accuracy"][c][kept], frequency, atol=1e-6)
        np.testing.assert_allclose(diagram["confidence"][c][kept], confidence, atol=1e-6)


def test_binary_scores_agree_with_torchmetrics_and_sklearn() -> None:
    probs = torch.rand(3, 1, 40, 40)
    target = (torch.rand(3, 40, 40) < probs[:, 0].square()).long()
    y, p = target.flatten().numpy(), probs.flatten().double().numpy()
    options: dict[str, Any] = {"num_classes": 1, "independent": True}
    for norm, kind in (("l1", ExpectedCalibrationError), ("max", MaximumCalibrationError)):
        theirs = BinaryCalibrationError(n_bins=15, norm=norm)  # type: ignore[arg-type]
        expected = value(theirs, probs[:, 0], target)
        assert value(kind(**options), probs, target) == pytest.approx(expected, abs=1e-6)
    brier, nll = BrierScore(**options), NegativeLogLikelihood(**options)
    assert value(brier, probs, target) == pytest.approx(brier_score_loss(y, p), abs=1e-6)
    assert value(nll, probs, target) == pytest.approx(log_loss(y, p), abs=1e-6)
    frequency, confidence = calibration_curve(y, p, n_bins=15)
    diagram = brier.reliability()
    np.testing.assert_allclose(diagram["accuracy"], frequency, atol=1e-6)
    np.testing.assert_allclose(diagram["confidence"], confidence, atol=1e-6)
    # Of a single class the class-wise error is the error.
    classwise = value(ClasswiseCalibrationError(**options), probs, target)
    assert classwise == pytest.approx(value(ExpectedCalibrationError(**options), probs, target))


@given(batches(), st.integers(1, 20), st.integers(0, 3))
def test_scores_agree_with_loops_in_several_updates(
    batch: dict[str, Any], num_bins: int, cut: int
) -> None:
    options: dict[str, Any] = {"num_bins": num_bins, "ignore_index": 255}
    C = batch["probs"].shape[1]
    metrics = {name: kind(C, **options) for name, kind in SINGLE.items()}
    together, evaluation = CalibrationScores(C, **options), EvaluationScores(C, **options)
    for images in (slice(0, cut), slice(cut, None)):
        if len(batch["probs"][images]):
            valid = None if batch["valid"] is None else torch.from_numpy(batch["valid"][images])
            probs, target = (torch.from_numpy(batch[k][images]) for k in ("probs", "target"))
            for metric in (*metrics.values(), together, evaluation):
                metric.update(probs, target, valid)
    expected = score_loops.calibration_scores(**batch, num_bins=num_bins)
    found = {name: float(metric.compute()) for name, metric in metrics.items()}
    adaptive = found["ace_d"]
    assert 0 <= adaptive <= 1 or math.isnan(found["ece_d"])
    expected["ace_d"] = adaptive
    assert found == pytest.approx(expected, rel=1e-6, abs=1e-6, nan_ok=True)
    for scores in (together.compute(), evaluation.compute()):
        some = {name: float(scores[name]) for name in expected}
        assert some == pytest.approx(found, abs=1e-9, nan_ok=True)


# A perfectly calibrated model


def test_a_perfectly_calibrated_model_has_no_error() -> None:
    """Labels are drawn from the probabilities themselves; see test_boundary.py for the borders."""
    probs = torch.randn(8, 4, 240, 240).softmax(1)
    flat = probs.movedim(1, -1).reshape(-1, 4)
    target = flat.multinomial(1).view(8, 240, 240)
    found = {name: value(SINGLE[name](4), probs, target) for name in ("ece_d", "cece_d", "ace_d")}
    # A bin of n_b pixels misses by sqrt(n_b) / 2 at most (one standard deviation); 15 bins.
    bound = 2 * math.sqrt(15 * target.numel()) / 2 / target.numel()
    assert bound < 0.006
    assert all(error < bound for error in found.values()), found
    overconfident = (probs**2) / (probs**2).sum(1, keepdim=True)
    for name in ("ece_d", "cece_d", "ace_d"):
        assert value(SINGLE[name](4), overconfident, target) > 10 * bound


def test_proper_scores_are_lowest_for_right_probabilities() -> None:
    probs = torch.randn(2, 3, 200, 200).softmax(1)
    target = probs.movedim(1, -1).reshape(-1, 3).multinomial(1).view(2, 200, 200)
    for kind in (BrierScore, NegativeLogLikelihood):
        best = value(kind(3), probs, target)
        for power in (0.5, 2.0):
            other = probs**power / (probs**power).sum(1, keepdim=True)
            assert value(kind(3), other, target) > best + 0.01


# Soft targets, ranges, order


def test_soft_targets_by_hand() -> None:
    """One pixel: p = (3/4, 1/4), y = (1/2, 1/2)."""
    probs, target = torch.tensor([[[0.75], [0.25]]]), torch.tensor([[[0.5], [0.5]]])
    metric = CalibrationScores(2)
    metric.update(probs, target)
    found = {name: float(score) for name, score in metric.compute().items()}
    assert found["ece_d"] == found["mce_d"] == found["cece_d"] == found["ace_d"] == 0.25
    assert found["brier"] == 0.125
    assert found["nll"] == pytest.approx(-(math.log(0.75) + math.log(0.25)) / 2)


def test_right_soft_probabilities_have_no_error() -> None:
    probs = torch.rand(2, 3, 50).double().softmax(1)
    raters = torch.randint(0, 3, (2, 4, 50))
    shares, _ = targets.vote_shares(raters, num_classes=3, ignore_index=None)
    metric = CalibrationScores(3)
    metric.update(probs, probs)
    found = metric.compute()
    for name in ("ece_d", "ece_i", "cece_d", "ace_d", "mce_d", "brier"):
        assert float(found[name]) == pytest.approx(0, abs=1e-12)
    votes, written = CalibrationScores(3), CalibrationScores(3)
    votes.update(probs, targets.votes(raters))
    written.update(probs, shares)
    for name, score in votes.compute().items():
        assert float(score) == pytest.approx(float(written.compute()[name]))


@given(st.integers(0, 2**32 - 1))
def test_scores_are_in_their_ranges(seed: int) -> None:
    generator = torch.Generator().manual_seed(seed)
    probs = (5 * torch.randn(2, 3, 20, generator=generator)).softmax(1)
    target = torch.randint(0, 3, (2, 20), generator=generator)
    metric = CalibrationScores(3)
    metric.update(probs, target)
    found = {name: float(score) for name, score in metric.compute().items()}
    assert all(0 <= found[name] <= 1 for name in found if name not in ("brier", "nll"))
    assert 0 <= found["brier"] <= 2
    assert found["nll"] >= 0
    assert found["mce_d"] >= found["ece_d"]
    assert found["ece_i"] >= found["ece_d"] - 1e-12  # errors of images cancel over the data set


def test_a_probability_of_zero_does_not_make_the_likelihood_infinite() -> None:
    probs, target = torch.tensor([[[1.0], [0.0]]]), torch.tensor([[1]])
    expected = 126 * math.log(2)
    assert value(NegativeLogLikelihood(2), probs, target) == pytest.approx(expected)
    assert value(NegativeLogLikelihood(2), probs.double(), target) == pytest.approx(expected)


# Nothing there


@pytest.mark.parametrize("name", SINGLE)
def test_nothing_valid_is_nan(name: str) -> None:
    metric = SINGLE[name](2, ignore_index=255)
    assert math.isnan(value(metric, torch.full((2, 2, 3), 0.5), torch.full((2, 3), 255)))


@pytest.mark.parametrize("name", SINGLE)
@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
def test_no_image_at_all_is_nan(name: str) -> None:
    assert math.isnan(float(SINGLE[name](2).compute()))


def test_an_image_without_pixels_is_left_out_and_one_with_nan_is_not() -> None:
    probs, target = torch.full((2, 2, 1), 0.5), torch.zeros(2, 1, dtype=torch.long)
    target[1] = 255
    metric = ExpectedCalibrationError(2, per="image", ignore_index=255)
    assert value(metric, probs, target) == 0.5
    probs[0] = torch.nan
    assert math.isnan(value(metric, probs, target))
    assert math.isnan(value(ClasswiseCalibrationError(2, ignore_index=255), probs, target))


# One pass for all


def test_sums_of_one_pass_are_added_to_several_metrics() -> None:
    probs, target = sample()
    overlap, calibration = SegmentationScores(5), CalibrationScores(5)
    ece, evaluation = ExpectedCalibrationError(5), EvaluationScores(5)
    for images in (slice(0, 3), slice(3, None)):
        sums = pixel_sums(probs[images], target[images], num_classes=5)
        overlap.add(sums.overlap)
        calibration.add(sums)
        ece.add(sums.calibration)
        evaluation.update(probs[images], target[images])
    expected = {name: float(score) for name, score in evaluation.compute().items()}
    found = overlap.compute() | calibration.compute()
    assert {name: float(score) for name, score in found.items()} == pytest.approx(expected)
    assert float(ece.compute()) == pytest.approx(expected["ece_d"])
    ece.add(sums.calibration)  # what was computed before does not stay
    assert float(ece.compute()) != pytest.approx(expected["ece_d"], abs=1e-6)
    for name, values in evaluation.reliability().items():
        assert values.shape == (16 if name == "edges" else 15,)
    assert torch.equal(evaluation.reliability()["count"], calibration.reliability()["count"])


def test_sums_of_some_images_give_their_figures() -> None:
    """What a bootstrap does: draw images, add their sums, compute."""
    probs, target = sample()
    chosen = torch.tensor([2, 0, 2])
    sums = pixel_sums(probs, target, num_classes=5)
    drawn = sums.apply(lambda x: x[chosen]).merge_images()
    expected = pixel_sums(probs[chosen], target[chosen], num_classes=5).merge_images()
    error = drawn.calibration.equal_width().error()
    assert torch.allclose(error, expected.calibration.equal_width().error())
    assert torch.allclose(classwise_error(drawn.classwise), classwise_error(expected.classwise))
    assert drawn.calibration.pixels.tolist() == [3 * 3600]
    assert drawn.calibration.confidence().item() == pytest.approx(
        float(probs[chosen].amax(1).mean()), abs=1e-6
    )


# Errors


def test_wrong_settings_raise() -> None:
    for kind in (ClasswiseCalibrationError, CalibrationScores, BrierScore):
        with pytest.raises(ValueError, match=r"`num_classes` to be at least 2, but got 1"):
            kind(1)
        with pytest.raises(ValueError, match=r"`num_bins` to be at least 1, but got 0"):
            kind(2, num_bins=0)
    with pytest.raises(ValueError, match=r"`per` to be one of 'dataset', 'image', but got 'class'"):
        BrierScore(2, per="class")
    with pytest.raises(ValueError, match=r"`per` to be one of 'dataset', 'none', but got 'image'"):
        ClasswiseCalibrationError(2, per="image")


def test_class_indices_are_no_probabilities() -> None:
    labels = torch.zeros(1, 2, 3, dtype=torch.long)
    with pytest.raises(TypeError, match=r"`probs` to be floating .* but got torch.int64"):
        confidence_sums(labels, labels[:, 0], num_classes=2)
