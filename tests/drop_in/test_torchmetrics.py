"""Metrics in the words of torchmetrics, held against the originals."""

import inspect
import math
from typing import Any

import pytest
import torch
import torchmetrics
import torchmetrics.segmentation
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from torch import Tensor

from softiou.drop_in import torchmetrics as drop_in

IGNORED = 255


def same(ours: Any, theirs: Any, *batches: tuple[Tensor, Tensor]) -> None:
    for preds, target in batches:
        ours.update(preds, target)
        theirs.update(preds, target)
    torch.testing.assert_close(
        ours.compute(), theirs.compute(), rtol=1e-5, atol=1e-6, check_dtype=False, equal_nan=True
    )


def batch(
    task: str, seed: int, *, shape: tuple[int, ...], scores: str, ignored: int | None
) -> tuple[Tensor, Tensor]:
    """Predictions and labels (3, *shape) of 4 classes, of which class 3 is never labelled."""
    torch.manual_seed(seed)
    classes = () if task == "binary" else (4,)
    logits = torch.randn(3, *classes, *shape)
    probs = logits.softmax(1) if task == "multiclass" else logits.sigmoid()
    preds = {"logits": 3 * logits, "probs": probs}.get(scores)
    if preds is None:
        preds = logits.argmax(1) if task == "multiclass" else (logits > 0).long()
    if task == "multiclass":
        target = torch.randint(0, 3, (3, *shape))
    else:
        target = torch.randint(0, 2, logits.shape)
    if ignored is not None:
        target[torch.rand(target.shape) < 0.3] = ignored
    return preds, target


@pytest.mark.parametrize("task", ["binary", "multiclass", "multilabel"])
@hypothesis_settings(max_examples=40)
@given(
    average=st.sampled_from(["macro", "micro", "weighted", "none", None]),
    ignored=st.sampled_from([None, IGNORED, -1, 0, 1]),
    threshold=st.sampled_from([0.5, 0.3]),
    zero_division=st.sampled_from([0, 1, math.nan]),
    scores=st.sampled_from(["logits", "probs", "indices"]),
    shape=st.sampled_from([(), (6,), (4, 5)]),
    seed=st.integers(0, 1000),
)
def test_jaccard_index(
    task: str,
    average: str | None,
    ignored: int | None,
    threshold: float,
    zero_division: float,
    scores: str,
    shape: tuple[int, ...],
    seed: int,
) -> None:
    settings: dict[str, Any] = {"ignore_index": ignored, "zero_division": zero_division}
    if task != "binary":
        settings["average"] = average
    if task != "multiclass":
        settings["threshold"] = threshold
    settings |= {"multiclass": {"num_classes": 4}, "multilabel": {"num_labels": 4}}.get(task, {})
    batches = [batch(task, seed + n, shape=shape, scores=scores, ignored=ignored) for n in range(2)]
    ours, theirs = (
        package.JaccardIndex(task=task, **settings) for package in (drop_in, torchmetrics)
    )
    same(ours, theirs, *batches)


@hypothesis_settings(max_examples=40)
@given(
    include_background=st.booleans(),
    per_class=st.booleans(),
    input_format=st.sampled_from(["one-hot", "index", "mixed"]),
    known=st.booleans(),
    indexed=st.booleans(),
    scores=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_mean_iou(
    include_background: bool,
    per_class: bool,
    input_format: str,
    known: bool,
    indexed: bool,
    scores: bool,
    seed: int,
) -> None:
    torch.manual_seed(seed)
    settings: dict[str, Any] = {
        "num_classes": 4 if known or input_format == "index" else None,
        "include_background": include_background,
        "per_class": per_class,
        "input_format": input_format,
    }
    batches = []
    for _ in range(2):
        preds, target = torch.randint(0, 4, (2, 3, 4, 5))
        target = target.clamp(max=2)
        if input_format != "index":
            preds = torch.nn.functional.one_hot(preds, 4).movedim(-1, 1)
            preds = torch.rand(preds.shape) if scores else preds
        if input_format == "one-hot":
            target = torch.nn.functional.one_hot(target, 4).movedim(-1, 1)
        if input_format == "mixed" and indexed:
            preds, target = target, preds
        batches.append((preds, target))
    same(drop_in.MeanIoU(**settings), torchmetrics.segmentation.MeanIoU(**settings), *batches)


@pytest.mark.parametrize("shape", [(5,), (3, 5)])
def test_mean_iou_of_a_single_image_without_its_dimension(shape: tuple[int, ...]) -> None:
    settings: dict[str, Any] = {"num_classes": 4, "input_format": "index"}
    preds, target = torch.randint(0, 4, (2, *shape))
    theirs = torchmetrics.segmentation.MeanIoU(**settings)
    same(drop_in.MeanIoU(**settings), theirs, (preds, target))


@pytest.mark.parametrize("task", ["binary", "multiclass"])
@hypothesis_settings(max_examples=40)
@given(
    norm=st.sampled_from(["l1", "l2", "max"]),
    n_bins=st.sampled_from([10, 15]),
    ignored=st.sampled_from([None, IGNORED]),
    scores=st.sampled_from(["logits", "probs"]),
    shape=st.sampled_from([(), (4, 5)]),
    seed=st.integers(0, 1000),
)
def test_calibration_error(
    task: str,
    norm: str,
    n_bins: int,
    ignored: int | None,
    scores: str,
    shape: tuple[int, ...],
    seed: int,
) -> None:
    settings: dict[str, Any] = {"norm": norm, "n_bins": n_bins, "ignore_index": ignored}
    settings |= {"num_classes": 4} if task == "multiclass" else {}
    batches = [batch(task, seed + n, shape=shape, scores=scores, ignored=ignored) for n in range(2)]
    ours, theirs = (
        package.CalibrationError(task=task, **settings) for package in (drop_in, torchmetrics)
    )
    same(ours, theirs, *batches)


NAMES = [
    ("classification", "BinaryJaccardIndex"),
    ("classification", "MulticlassJaccardIndex"),
    ("classification", "MultilabelJaccardIndex"),
    ("classification", "BinaryCalibrationError"),
    ("classification", "MulticlassCalibrationError"),
    ("segmentation", "MeanIoU"),
]


@pytest.mark.parametrize(("package", "name"), NAMES)
def test_arguments_stand_in_the_same_places(package: str, name: str) -> None:
    theirs = inspect.signature(getattr(getattr(torchmetrics, package), name))
    ours = inspect.signature(getattr(drop_in, name))
    assert list(ours.parameters) == list(theirs.parameters)
    for key, parameter in theirs.parameters.items():
        assert ours.parameters[key].default == parameter.default


@pytest.mark.parametrize(
    ("name", "settings", "message"),
    [
        ("JaccardIndex", {"task": "multi"}, r"`task` to be one of 'binary', 'multiclass'"),
        ("JaccardIndex", {"task": "multiclass"}, r"`num_classes` for this task, but got None"),
        ("JaccardIndex", {"task": "multilabel"}, r"`num_labels` for this task, but got None"),
        ("CalibrationError", {"task": "binary", "norm": "l3"}, r"`norm` to be one of 'l1', 'l2'"),
        ("MeanIoU", {"input_format": "index"}, r"`num_classes` with input_format='index'"),
        ("MeanIoU", {"input_format": "rle"}, r"`input_format` to be one of"),
    ],
)
def test_wrong_settings_are_errors(name: str, settings: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        getattr(drop_in, name)(**settings)
