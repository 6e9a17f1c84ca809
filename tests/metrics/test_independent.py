"""Classes that do not exclude each other: binary (C = 1) and multilabel."""

import math
from typing import Any

import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from sklearn.metrics import accuracy_score, f1_score, jaccard_score, recall_score
from torch import Tensor
from torchmetrics.classification import MultilabelJaccardIndex

from reference import score_loops
from softiou import targets
from softiou.metrics import (
    AnswerCounts,
    CalibrationScores,
    ClasswiseCalibrationError,
    EvaluationScores,
    ExpectedCalibrationError,
    MeanAccuracy,
    MeanDice,
    MeanIoU,
    PixelAccuracy,
    SegmentationScores,
    confidence_sums,
    overlap_counts,
    pixel_sums,
)


def value(metric: Any, *batch: Any) -> float:
    metric.update(*batch)
    return float(metric.compute())


def sample(C: int = 3) -> tuple[Tensor, Tensor]:
    probs = torch.rand(2, C, 20, 20)
    return probs, (torch.rand_like(probs) < probs).long()


# Values by hand


def test_answers_by_hand() -> None:
    """Four pixels, one class: yes yes no no against yes no no yes, then the last is ignored."""
    probs, target = torch.tensor([[[0.75, 0.625, 0.25, 0.5]]]), torch.tensor([[1, 0, 0, 1]])
    counts = overlap_counts(probs, target, num_classes=1, independent=True)
    assert isinstance(counts, AnswerCounts)
    found = {name: x.tolist() for name, x in counts.tensors().items()}
    assert found == {"true_positives": [[1]], "predicted": [[2]], "present": [[2]], "valid": [[4]]}
    assert counts.iou().tolist() == [[pytest.approx(1 / 3)]]
    assert counts.accuracy().item() == 2 / 4
    assert counts.recall().tolist() == [[1 / 2]]
    target[0, 3] = 255
    counts = overlap_counts(probs, target, num_classes=1, independent=True, ignore_index=255)
    assert counts.iou().tolist() == [[1 / 2]]
    assert counts.accuracy().item() == pytest.approx(2 / 3)


def test_calibration_by_hand() -> None:
    """The probability of yes against the frequency of yes, low ones as well as high ones."""
    probs, target = torch.tensor([[[0.25, 0.25, 0.75, 1.0]]]), torch.tensor([[0, 1, 1, 1]])
    metric = CalibrationScores(1, num_bins=2, independent=True)
    metric.update(probs, target)
    found = {name: float(score) for name, score in metric.compute().items()}
    error = (abs(1 - 0.5) + abs(2 - 1.75)) / 4
    assert found["ece_d"] == found["ece_i"] == found["cece_d"] == error
    assert found["mce_d"] == 0.25
    assert found["brier"] == (0.25**2 + 0.75**2 + 0.25**2 + 0) / 4
    assert found["nll"] == pytest.approx(-(2 * math.log(0.75) + math.log(0.25)) / 4)
    assert metric.reliability()["count"].tolist() == [2, 2]


# Independent references


def test_multilabel_overlap_agrees_with_sklearn_and_torchmetrics() -> None:
    probs, target = sample()
    y, p = (x.movedim(1, -1).reshape(-1, 3).numpy() for x in (target, (probs > 0.5).long()))
    options: dict[str, Any] = {"num_classes": 3, "independent": True}
    macro: dict[str, Any] = {"average": "macro"}
    assert value(MeanIoU(**options), probs, target) == pytest.approx(jaccard_score(y, p, **macro))
    assert value(MeanDice(**options), probs, target) == pytest.approx(f1_score(y, p, **macro))
    accuracy = accuracy_score(y.ravel(), p.ravel())
    assert value(PixelAccuracy(**options), probs, target) == pytest.approx(accuracy)
    recall = recall_score(y, p, **macro)
    assert value(MeanAccuracy(**options), probs, target) == pytest.approx(recall)
    theirs = value(MultilabelJaccardIndex(3), probs, target)
    assert value(MeanIoU(**options), probs, target) == pytest.approx(theirs, abs=1e-6)


def test_multilabel_calibration_agrees_with_loops() -> None:
    """Class by class against the loops over two classes, yes and no."""
    probs, target = sample()
    probs = probs.double()
    metric = ClasswiseCalibrationError(3, independent=True, per="none")
    metric.update(probs, target)
    expected = []
    for c in range(3):
        both = torch.stack([1 - probs[:, c], probs[:, c]], 1).flatten(2).numpy()
        pairs = [
            (p[1], y[1])
            for image in score_loops.questions(both, target[:, c].flatten(1).numpy())
            for p, y in image
        ]
        expected.append(score_loops.expected_error(score_loops.in_bins(pairs, 15)))
    assert metric.compute().tolist() == pytest.approx(expected)


# Properties


@given(st.integers(0, 2**32 - 1), st.booleans())
def test_ignored_entries_are_cut_out(seed: int, by_valid: bool) -> None:
    generator = torch.Generator().manual_seed(seed)
    probs = torch.rand(2, 3, 8, generator=generator)
    target = (torch.rand(2, 3, 8, generator=generator) < 0.5).long()
    expected = pixel_sums(probs[..., 3:], target[..., 3:], num_classes=3, independent=True)
    probs[..., :3] = torch.nan
    valid = None
    if by_valid:
        valid = torch.arange(8).expand(2, 8) >= 3
    else:
        target[..., :3] = 255
    found = pixel_sums(
        probs, target, num_classes=3, independent=True, ignore_index=255, valid=valid
    ).tensors()
    for name, tensor in expected.tensors().items():
        torch.testing.assert_close(found[name], tensor, rtol=1e-12, atol=1e-12)


def test_single_entries_of_a_pixel_can_be_ignored() -> None:
    probs, target = sample()
    target[:, 1, :10] = 255
    found = overlap_counts(probs, target, num_classes=3, independent=True, ignore_index=255)
    assert isinstance(found, AnswerCounts)
    assert found.valid.tolist() == [[400, 200, 400]] * 2
    sums = confidence_sums(probs, target, num_classes=3, independent=True, ignore_index=255)
    assert sums.pixels.tolist() == [1000, 1000]


@pytest.mark.parametrize("convert", [torch.Tensor.bool, torch.Tensor.float, torch.Tensor.byte])
def test_kinds_of_targets_agree(convert: Any) -> None:
    probs, target = sample()
    expected = pixel_sums(probs, target, num_classes=3, independent=True).tensors()
    for given_ in (convert(target), targets.DenseTarget(target.float(), independent=None)):
        found = pixel_sums(probs, given_, num_classes=3, independent=True).tensors()
        for name, tensor in expected.items():
            assert torch.equal(found[name], tensor), name
    counts = overlap_counts(probs > 0.5, convert(target), num_classes=3, independent=True)
    assert torch.equal(counts.predicted, expected["overlap_predicted"])


def test_soft_answers_by_hand() -> None:
    """p = 3/4 against y = 1/2: half of the annotators say yes."""
    metric = CalibrationScores(1, independent=True)
    metric.update(torch.tensor([[[0.75]]]), torch.tensor([[[0.5]]]))
    found = metric.compute()
    assert float(found["ece_d"]) == 0.25
    assert float(found["brier"]) == 0.0625
    assert float(found["nll"]) == pytest.approx(-(math.log(0.75) + math.log(0.25)) / 2)


def test_a_perfectly_calibrated_model_has_no_error() -> None:
    probs = torch.rand(2, 3, 300, 300)
    target = torch.bernoulli(probs).long()
    bound = 2 * math.sqrt(15 * target.numel()) / 2 / target.numel()
    for kind in (ExpectedCalibrationError, ClasswiseCalibrationError):
        found = value(kind(3, independent=True), probs, target)
        assert found < bound * 3**0.5 < 0.02


def test_all_scores_at_once() -> None:
    probs, target = sample()
    options: dict[str, Any] = {"num_classes": 3, "independent": True}
    overlap, calibration = SegmentationScores(**options), CalibrationScores(**options)
    evaluation = EvaluationScores(**options)
    for metric in (overlap, calibration, evaluation):
        for n in range(2):
            metric.update(probs[n : n + 1], target[n : n + 1])
    expected = overlap.compute() | calibration.compute()
    assert {k: float(v) for k, v in evaluation.compute().items()} == {
        k: float(v) for k, v in expected.items()
    }


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
def test_nothing_seen_is_nan() -> None:
    found = EvaluationScores(1, independent=True).compute()
    assert all(math.isnan(float(score)) for score in found.values())


# Errors


def test_wrong_shapes_raise() -> None:
    probs, target = sample()
    options: dict[str, Any] = {"independent": True}
    with pytest.raises(ValueError, match=r"`preds` of independent classes .* C = 2, but got"):
        overlap_counts(probs, target, num_classes=2, **options)
    with pytest.raises(ValueError, match=r"`probs` to have shape .* \(2, 2, 20, 20\)"):
        pixel_sums(probs, target, num_classes=2, **options)
    with pytest.raises(ValueError, match=r"`target` to have shape"):
        pixel_sums(probs, target[:, :2], num_classes=3, **options)
    with pytest.raises(ValueError, match=r"`valid` to have shape \(N, \*S\) = \(2, 20, 20\)"):
        pixel_sums(probs, target, num_classes=3, valid=target > 0, **options)
    with pytest.raises(
        ValueError, match=r"`num_classes` to be an integer of at least 1, but got 0"
    ):
        MeanIoU(0, **options)
