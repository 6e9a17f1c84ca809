"""Figures of a trained model's predictions on pictures, against other libraries."""

from typing import Any

import numpy as np
import pytest
import torch
from sklearn.calibration import calibration_curve
from sklearn.metrics import brier_score_loss, log_loss
from torchmetrics import Metric
from torchmetrics.classification import MulticlassCalibrationError, MulticlassJaccardIndex

from softiou.checkpoints import load_trained
from softiou.data import open_dataset
from softiou.inference import predict_probs
from softiou.metrics import CalibrationScores, EvaluationScores, MeanIoU

CLASSES = 3


@pytest.fixture(scope="module")
def predictions(trained: Any) -> tuple[torch.Tensor, torch.Tensor]:
    """Probabilities (N, C, H, W) and labels (N, H, W) of images that were not learnt from."""
    model = load_trained(trained.directory).model
    samples = list(open_dataset(str(trained.data), "test"))
    probs = [predict_probs(model, sample["image"], precision="fp32") for sample in samples]
    return torch.stack(probs), torch.stack([sample["target"] for sample in samples])


def test_pooled_iou_and_calibration_errors_of_torchmetrics(predictions: Any) -> None:
    probs, target = predictions
    ours, iou = EvaluationScores(CLASSES), MeanIoU(CLASSES, per="none")
    theirs = {
        norm: MulticlassCalibrationError(CLASSES, n_bins=15, norm=norm) for norm in ("l1", "max")
    }
    jaccard = MulticlassJaccardIndex(CLASSES, average="none")
    probs = probs * (1 - 1e-6)  # theirs has a bin of its own for exactly 1
    for n in range(len(probs)):
        metrics: list[Metric] = [ours, iou, jaccard, *theirs.values()]
        for metric in metrics:
            metric.update(probs[n : n + 1], target[n : n + 1])
    for other in theirs.values():  # they would add up in float32
        other.confidences = [x.double() for x in other.confidences]
        other.accuracies = [x.double() for x in other.accuracies]
    scores = ours.compute()
    assert scores["ece_d"].item() == pytest.approx(theirs["l1"].compute().item(), abs=1e-6)
    assert scores["mce_d"].item() == pytest.approx(theirs["max"].compute().item(), abs=1e-6)
    known = ~iou.compute().isnan()
    assert known.sum() >= 2
    torch.testing.assert_close(
        iou.compute()[known].float(), jaccard.compute()[known], rtol=0, atol=1e-6
    )


def test_brier_score_log_loss_and_curve_of_scikit_learn(predictions: Any) -> None:
    probs, target = predictions
    metric = CalibrationScores(CLASSES)
    metric.update(probs, target)
    p = probs.double().movedim(1, -1).reshape(-1, CLASSES).numpy()
    p /= p.sum(1, keepdims=True)
    y = target.flatten().numpy()
    scores = metric.compute()
    expected = sum(brier_score_loss(y == c, p[:, c]) for c in range(CLASSES))
    assert scores["brier"].item() == pytest.approx(expected, abs=1e-6)
    assert scores["nll"].item() == pytest.approx(log_loss(y, p, labels=range(CLASSES)), abs=1e-6)
    top = probs.amax(1).flatten().numpy()
    right = (probs.argmax(1) == target).flatten().numpy()
    accuracy, confidence = calibration_curve(right, top, n_bins=15)
    found = {name: x.numpy() for name, x in metric.reliability().items()}
    filled = found["count"] > 0
    np.testing.assert_allclose(found["accuracy"][filled], accuracy, atol=1e-6)
    np.testing.assert_allclose(found["confidence"][filled], confidence, atol=1e-6)
