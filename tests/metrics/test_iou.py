import math
import pickle
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from reference import metric_loops, score_loops
from softiou.metrics import (
    BoundaryIoU,
    EvaluationScores,
    ExpectedCalibrationError,
    MeanAccuracy,
    MeanDice,
    MeanIoU,
    OverlapCounts,
    OverlapMetric,
    PixelAccuracy,
    SegmentationScores,
    SoftIoU,
    confusion_counts,
    mean_score,
    overlap_counts,
    worst_mean,
)
from softiou.targets import HardTarget

METRICS: dict[str, Callable[..., OverlapMetric]] = {
    f"{name}_{per[0]}": lambda C, kind=kind, per=per, **options: kind(C, per=per, **options)
    for name, kind in (("miou", MeanIoU), ("mdice", MeanDice))
    for per in ("dataset", "image", "class")
} | {"accuracy": PixelAccuracy, "macc": MeanAccuracy}
for q, per in ((10, "image"), (10, "class"), (5, "image"), (5, "class")):
    METRICS[f"miou_{per[0]}_q{q}"] = lambda C, q=q, per=per, **options: MeanIoU(
        C, per=per, worst=q, **options
    )


@st.composite
def batches(draw: st.DrawFn) -> dict[str, Any]:
    """Predicted classes, a target of either kind and what counts, flattened to (N, P)."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    N, C, P = draw(st.integers(1, 4)), draw(st.integers(2, 4)), draw(st.integers(1, 8))
    preds = rng.integers(0, C, (N, P))
    target: NDArray[Any] = rng.choice([*range(C), 255], (N, P))
    if draw(st.booleans()):
        target = np.moveaxis(rng.dirichlet(np.ones(C), (N, P)), -1, 1).copy()
        target[rng.random((N, C, P)).argmax(1)[:, None].repeat(C, 1) == 0] = 255
    return {
        "preds": preds,
        "target": target,
        "num_classes": C,
        "ignore_index": 255,
        "valid": rng.random((N, P)) < 0.7 if draw(st.booleans()) else None,
    }


def tensors(
    batch: dict[str, Any], images: slice = slice(None)
) -> tuple[Tensor, Tensor, Tensor | None]:
    """preds, target, valid of some of the images."""
    preds, target, valid = (
        torch.empty(0) if batch[name] is None else torch.from_numpy(batch[name][images])
        for name in ("preds", "target", "valid")
    )
    return preds, target, None if batch["valid"] is None else valid


def confusion(batch: dict[str, Any]) -> NDArray[np.int64]:
    return metric_loops.confusion(
        batch["preds"],
        batch["target"],
        num_classes=batch["num_classes"],
        ignore_index=batch["ignore_index"],
        valid=batch["valid"],
    )


# Values by hand

# Two images of two pixels; class 2 occurs nowhere.
PREDS = torch.tensor([[1, 1], [0, 0]])
TARGET = torch.tensor([[1, 1], [0, 1]])
BY_HAND = {
    "miou_d": ((1 / 2) + (2 / 3)) / 2,
    "miou_i": (1 + (1 / 2 + 0) / 2) / 2,
    "miou_c": (1 / 2 + (1 + 0) / 2) / 2,
    "mdice_d": ((2 / 3) + (4 / 5)) / 2,
    "mdice_i": (1 + (2 / 3 + 0) / 2) / 2,
    "mdice_c": (2 / 3 + (1 + 0) / 2) / 2,
    "accuracy": 3 / 4,
    "macc": (1 + 2 / 3) / 2,
    "miou_i_q10": (1 / 2 + 0) / 2,
    "miou_c_q10": (1 / 2 + 0) / 2,
    "miou_i_q5": (1 / 2 + 0) / 2,
    "miou_c_q5": (1 / 2 + 0) / 2,
}


@pytest.mark.parametrize("name", METRICS)
def test_scores_by_hand(name: str) -> None:
    metric = METRICS[name](3)
    metric.update(PREDS, TARGET)
    found = metric.compute()
    assert found.item() == pytest.approx(BY_HAND[name], abs=1e-15)
    assert (found.dtype, found.shape) == (torch.float64, ())


def test_segmentation_scores_by_hand() -> None:
    metric = SegmentationScores(3)
    metric.update(PREDS, TARGET)
    found = {name: score.item() for name, score in metric.compute().items()}
    assert found == pytest.approx(BY_HAND, abs=1e-15)


def test_counts_by_hand() -> None:
    counts = overlap_counts(PREDS, TARGET, num_classes=3)
    assert counts.true_positives.tolist() == [[0, 2, 0], [1, 0, 0]]
    assert counts.predicted.tolist() == [[0, 2, 0], [2, 0, 0]]
    assert counts.present.tolist() == [[0, 2, 0], [1, 1, 0]]
    assert counts.present.dtype == torch.int64


def test_scores_of_each_class() -> None:
    metric = MeanIoU(3, per="none")
    metric.update(PREDS, TARGET)
    assert metric.compute().tolist() == pytest.approx([1 / 2, 2 / 3, math.nan], nan_ok=True)


@pytest.mark.parametrize("per", ["dataset", "image", "class"])
def test_a_class_without_a_pixel_in_the_target_is_left_out_or_zero(per: str) -> None:
    """Class 1 is predicted and absent, class 2 neither; the IoU of class 0 is 3/4."""
    preds, target = torch.tensor([[0, 0, 0, 1]]), torch.tensor([[0, 0, 0, 0]])
    found: dict[tuple[str, str], Any] = {}
    for absent in ("exclude", "zero"):
        for average in ("macro", "weighted", "none"):
            metric = MeanIoU(3, per=per, absent=absent, average=average)
            metric.update(preds, target)
            found[absent, average] = metric.compute().tolist()
    assert found["exclude", "macro"] == found["exclude", "weighted"] == 0.75
    assert (found["zero", "macro"], found["zero", "weighted"]) == (0.375, 0.75)
    assert found["exclude", "none"] == pytest.approx([0.75, math.nan, math.nan], nan_ok=True)
    assert found["zero", "none"] == pytest.approx([0.75, 0, math.nan], nan_ok=True)


def test_two_stray_pixels_do_not_take_the_mean_down() -> None:
    """Of four classes one is in no image: every mean is over three."""
    target = torch.randint(0, 3, (2, 40))
    preds = target.clone()
    preds[0, :2] = 3
    metrics = SegmentationScores(4), BoundaryIoU(4, width=50), MeanDice(4, average="none")
    for metric in metrics:
        metric.update(preds, target)
    scores = metrics[0].compute()
    for name in ("miou_d", "miou_i", "miou_c", "mdice_d", "mdice_i", "mdice_c", "macc"):
        assert 0.9 < scores[name] < 1
    assert 0.9 < metrics[1].compute() < 1  # a band as wide as the image
    assert metrics[2].compute().isnan().tolist() == [False, False, False, True]


def test_a_class_that_is_the_ignored_label_is_no_class() -> None:
    """Right in three of four labelled pixels; class 0 is what nobody looked at."""
    preds, target = torch.tensor([[1, 2, 2, 0, 1]]), torch.tensor([[1, 2, 2, 2, 0]])
    found: dict[tuple[str, str], Any] = {}
    for absent in ("exclude", "zero"):
        for average in ("macro", "micro", "none"):
            metric = MeanIoU(3, ignore_index=0, absent=absent, average=average)
            metric.update(preds, target)
            found[absent, average] = metric.compute().tolist()
    assert found["exclude", "macro"] == found["zero", "macro"] == pytest.approx((1 + 2 / 3) / 2)
    assert found["exclude", "micro"] == found["zero", "micro"] == 3 / 4
    assert math.isnan(found["zero", "none"][0])
    everything = EvaluationScores(3, ignore_index=0)
    everything.update(F.one_hot(preds, 3).mT.double(), target)
    assert everything.compute()["miou_d"] == pytest.approx((1 + 2 / 3) / 2)
    assert everything.compute()["mdice_d"] == pytest.approx((1 + 4 / 5) / 2)


def test_the_ignored_value_of_a_soft_target_is_no_class_index() -> None:
    """Where all entries are 0 nothing is known; class 0 is one like the others."""
    target = torch.tensor([[[1.0, 0.0, 0.0], [0.0, 1.0, 0.0]]])
    metric = MeanIoU(2, ignore_index=0, average="none", absent="zero")
    metric.update(torch.tensor([[0, 1, 1]]), target)
    assert metric.compute().tolist() == [1.0, 1.0]


def test_the_background_is_left_out() -> None:
    preds, target = torch.tensor([[0, 0, 1, 2]]), torch.tensor([[0, 1, 1, 2]])
    found = {}
    for average in ("macro", "micro", "none"):
        metric = MeanIoU(3, include_background=False, average=average)
        metric.update(preds, target)
        found[average] = metric.compute().tolist()
    assert found == {"macro": 0.75, "micro": 2 / 3, "none": [0.5, 1.0]}


def test_the_threshold_of_independent_classes() -> None:
    probs, target = torch.tensor([[[0.2, 0.4, 0.9]]]), torch.tensor([[[0, 1, 1]]])
    found = []
    for threshold in (0.1, 0.3, 0.5, 0.95):
        metric = MeanIoU(1, independent=True, threshold=threshold)
        metric.update(probs, target)
        found.append(metric.compute().item())
    assert found == pytest.approx([2 / 3, 1, 1 / 2, 0])
    for threshold, independent in ((1.0, True), (0.3, False)):
        with pytest.raises(ValueError, match=r"`threshold` to be in \[0, 1\), and 0.5 without"):
            MeanIoU(2, threshold=threshold, independent=independent)


@pytest.mark.parametrize("per", ["image", "class"])
def test_averaged_worst_cases(per: str) -> None:
    preds, target = torch.randint(0, 3, (2, 12, 30))
    metrics = [MeanIoU(3, per=per, worst=w) for w in ("averaged", list(range(10, 101, 10)))]
    for metric in metrics:
        metric.update(preds, target)
    assert metrics[0].compute().item() == pytest.approx(metrics[1].compute().mean().item())


def test_the_settings_are_printed() -> None:
    text = repr(MeanIoU(3, per="image", worst=5, average="weighted", absent="zero"))
    for part in ("3", "per='image'", "worst=5", "average='weighted'", "absent='zero'"):
        assert part in text
    text = repr(MeanIoU(2, independent=True, threshold=0.3, ignore_index=255))
    assert "independent=True, threshold=0.3, ignore_index=255" in text
    text = repr(ExpectedCalibrationError(3, num_bins=7, adaptive=True))
    assert "num_bins=7, adaptive=True" in text
    assert "num_classes=3" in repr(EvaluationScores(3))


def test_a_one_hot_target_has_its_way_out() -> None:
    one_hot = F.one_hot(torch.tensor([[0, 1, 2]]), 3).mT
    with pytest.raises(TypeError, match=r"For a one-hot target, use target.argmax\(1\)"):
        overlap_counts(torch.rand(1, 3, 3), one_hot, num_classes=3)


def test_every_image_weighs_the_same_in_i_and_every_class_in_c() -> None:
    """Class 1 is in one image of three: a third of I, half of C."""
    target = torch.tensor([[0, 0], [0, 0], [1, 1]])
    preds = torch.tensor([[0, 0], [0, 0], [0, 0]])
    by = {per: MeanIoU(2, per=per) for per in ("image", "class")}
    for metric in by.values():
        metric.update(preds, target)
    assert by["image"].compute().item() == pytest.approx(2 / 3)
    assert by["class"].compute().item() == pytest.approx(1 / 2)


def test_worst_cases_by_hand() -> None:
    """Class 1 of ten images is hit by n of ten pixels; the ground is left alone."""
    target = torch.zeros(10, 20, dtype=torch.long)
    target[:, :10] = 1
    preds = target.clone()
    for n in range(10):
        preds[n, n:10] = 2  # IoU n / 10
    found = {}
    for per in ("image", "class"):
        metric = MeanIoU(3, per=per, worst=[10, 15, 100])
        metric.update(preds, target)
        found[per] = metric.compute().tolist()
    ones = [0.0, (0.0 + 0.1) / 2, 0.45]  # 15 % of ten images are two of them
    assert found["image"] == pytest.approx([(1 + x) / 2 for x in ones])
    assert found["class"] == pytest.approx([(1 + x) / 2 for x in ones])


def test_worst_images_of_a_class_are_among_those_that_hold_it() -> None:
    """Class 1 is in three images of six: half of them, rounded up, are two."""
    target = torch.zeros(6, 4, dtype=torch.long)
    target[:3, :2] = 1
    preds = target.clone()
    preds[0, 0] = preds[1, :2] = 0
    metric = MeanIoU(2, per="class", worst=50)
    metric.update(preds, target)
    ground = (2 / 4 + 2 / 3 + 1) / 3
    assert metric.compute().item() == pytest.approx((ground + (1 / 2 + 0) / 2) / 2)


@given(st.lists(st.sampled_from([0.1, 0.5, 0.7, math.nan]), max_size=12), st.integers(1, 100))
def test_worst_mean_agrees_with_loops(values: list[float], q: int) -> None:
    scores = torch.tensor(values, dtype=torch.float64)
    expected = score_loops.worst_mean(values, q)
    assert worst_mean(scores, q).item() == pytest.approx(expected, nan_ok=True)
    columns = torch.stack([scores, scores], 1)
    assert worst_mean(columns, [q, 100]).shape == (2, 2)
    assert worst_mean(columns, [q, 100])[0].tolist() == pytest.approx([expected] * 2, nan_ok=True)


def test_worst_does_not_round_up_what_is_whole() -> None:
    """0.7 % of 1000 images are 7, though 0.7 * 1000 is a little more than 700."""
    scores = torch.arange(1000, dtype=torch.float64)
    assert worst_mean(scores, 0.7).item() == 3
    assert worst_mean(scores, 0.71).item() == 3.5
    assert worst_mean(scores, 100).item() == 499.5


def test_confusion_by_hand() -> None:
    preds, target = (
        torch.tensor([[0, 1, 1, 2], [2, 2, 0, 0]]),
        torch.tensor([[0, 0, 1, 255], [2] * 4]),
    )
    found = confusion_counts(preds, target, num_classes=3, ignore_index=255)
    assert found.tolist() == [[[1, 1, 0], [0, 1, 0], [0, 0, 0]], [[0] * 3, [0] * 3, [2, 0, 2]]]
    with pytest.raises(ValueError, match=r"class indices in \[0, 1\], but found 0 to 2"):
        confusion_counts(preds, target.clamp(max=1), num_classes=2)


# The slow reference: function, class in one update, class in several


@given(batches())
def test_counts_agree_with_loops(batch: dict[str, Any]) -> None:
    preds, target, valid = tensors(batch)
    settings = {"num_classes": batch["num_classes"], "ignore_index": batch["ignore_index"]}
    counts = overlap_counts(preds, target, valid=valid, **settings)
    matrix = confusion(batch)
    np.testing.assert_array_equal(counts.true_positives, np.diagonal(matrix, axis1=1, axis2=2))
    np.testing.assert_array_equal(counts.predicted, matrix.sum(1))
    np.testing.assert_array_equal(counts.present, matrix.sum(2))
    pairs = confusion_counts(preds, target, valid=valid, **settings)
    np.testing.assert_array_equal(pairs, matrix)
    expected = metric_loops.scores(matrix)
    for name, score in (("miou", OverlapCounts.iou), ("mdice", OverlapCounts.dice)):
        for per in ("dataset", "image", "class"):
            found = mean_score(counts, score, per=per).item()
            assert found == pytest.approx(expected[f"{name}_{per[0]}"], nan_ok=True)
    assert counts.accuracy().item() == pytest.approx(expected["accuracy"], nan_ok=True)


@given(
    batches(),
    st.sampled_from(["dataset", "image", "class"]),
    st.sampled_from(["macro", "micro", "weighted", "none"]),
    st.sampled_from(["exclude", "zero"]),
    st.booleans(),
    st.booleans(),
)
def test_averages_agree_with_loops(
    batch: dict[str, Any], per: str, average: str, absent: str, background: bool, ignore: bool
) -> None:
    if (per, average) == ("class", "micro"):
        return
    if ignore and batch["target"].ndim == 2:
        batch["ignore_index"] = 0
        batch["target"] = np.where(batch["target"] == 255, 0, batch["target"])
    C, ignored = batch["num_classes"], batch["ignore_index"]
    metric = MeanIoU(
        C,
        per=per,
        average=average,
        absent=absent,
        include_background=background,
        ignore_index=ignored,
    )
    metric.update(*tensors(batch))
    expected = metric_loops.averaged(
        confusion(batch),
        per=per,
        average=average,
        absent=absent,
        classes=list(range(0 if background else 1, C)),
        ignored=ignored,
    )
    expected = expected if isinstance(expected, list) else [expected]
    assert metric.compute().reshape(-1).tolist() == pytest.approx(expected, nan_ok=True)


@given(batches(), st.integers(0, 4))
def test_several_updates_agree_with_loops(batch: dict[str, Any], cut: int) -> None:
    settings = {"ignore_index": batch["ignore_index"]}
    metric = SegmentationScores(batch["num_classes"], **settings)
    parts = [METRICS[name](batch["num_classes"], **settings) for name in METRICS]
    for images in (slice(0, cut), slice(cut, None)):
        if len(batch["preds"][images]):
            for m in (metric, *parts):
                m.update(*tensors(batch, images))
    matrix = confusion(batch)
    expected = metric_loops.scores(matrix) | score_loops.further_scores(matrix)
    found = {name: score.item() for name, score in metric.compute().items()}
    assert found == pytest.approx(expected, nan_ok=True)
    by_part = {name: part.compute().item() for name, part in zip(METRICS, parts, strict=True)}
    assert by_part == pytest.approx(expected, nan_ok=True)


@given(batches())
def test_forward_returns_the_score_of_the_batch_and_adds_it(batch: dict[str, Any]) -> None:
    metric = MeanIoU(batch["num_classes"], ignore_index=batch["ignore_index"])
    expected = metric_loops.scores(confusion(batch))["miou_d"]
    for _ in range(2):
        assert metric(*tensors(batch)).item() == pytest.approx(expected, nan_ok=True)
    assert metric.compute().item() == pytest.approx(expected, nan_ok=True)
    assert len(metric.counts().present) == 2 * len(batch["preds"])


# Properties


@given(batches())
def test_order_of_images_and_pixels_does_not_matter(batch: dict[str, Any]) -> None:
    metrics = [SegmentationScores(batch["num_classes"], ignore_index=255) for _ in range(2)]
    metrics[0].update(*tensors(batch))
    names = ("preds", "target", "valid")
    backwards = {k: None if batch[k] is None else batch[k][::-1, ..., ::-1].copy() for k in names}
    metrics[1].update(*tensors(backwards))
    one, other = (m.compute() for m in metrics)
    assert {k: v.item() for k, v in one.items()} == pytest.approx(
        {k: v.item() for k, v in other.items()}, nan_ok=True
    )


def test_ignored_pixels_are_cut_out() -> None:
    preds, target = torch.randint(0, 3, (2, 9)), torch.randint(0, 3, (2, 9))
    expected = overlap_counts(preds[:, 2:], target[:, 2:], num_classes=3)
    valid = torch.ones(2, 9, dtype=torch.bool)
    valid[:, :2] = False
    target_255 = target.where(valid, 255)
    probs = F.one_hot(target, 3).mT.double().where(valid.unsqueeze(1), 255)
    preds_255 = preds.where(valid, 255)  # nobody asks what was predicted there
    for found in (
        overlap_counts(preds_255, target, num_classes=3, valid=valid),
        overlap_counts(preds_255, target_255, num_classes=3, ignore_index=255),
        overlap_counts(preds_255, probs, num_classes=3, ignore_index=255),
    ):
        for name in ("true_positives", "predicted", "present"):
            assert torch.equal(getattr(found, name), getattr(expected, name))


def test_soft_target_counts_as_its_most_probable_class() -> None:
    target = torch.tensor([[[0.6, 0.2], [0.4, 0.8]]])
    found = overlap_counts(torch.tensor([[0, 0]]), target, num_classes=2)
    assert found.present.tolist() == [[1, 1]]
    assert found.true_positives.tolist() == [[1, 0]]


def test_logits_and_probabilities_count_as_their_largest_class() -> None:
    logits, target = torch.randn(2, 3, 4, 5), torch.randint(0, 3, (2, 4, 5))
    expected = overlap_counts(logits.argmax(1), target, num_classes=3).predicted
    for scores in (logits, logits.softmax(1), logits.half()):
        assert torch.equal(overlap_counts(scores, target, num_classes=3).predicted, expected)


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32])
def test_integer_dtypes_agree(dtype: torch.dtype) -> None:
    preds, target = torch.randint(0, 2, (2, 7)), torch.randint(0, 2, (2, 7))
    expected = overlap_counts(preds, target, num_classes=2)
    found = overlap_counts(preds.to(dtype), target.to(dtype), num_classes=2)
    assert torch.equal(found.true_positives, expected.true_positives)
    assert torch.equal(found.predicted, expected.predicted)


@pytest.mark.parametrize("dtype", [torch.uint8, torch.int64])
def test_a_label_outside_the_classes_raises_unless_it_is_left_out(dtype: torch.dtype) -> None:
    preds, masks = torch.tensor([[0, 1, 1]]), torch.tensor([[0, 255, 1]], dtype=dtype)
    message = r"class indices in \[0, 1\], but found \[255\].*use `mask > 127`"
    answers = preds.unsqueeze(1).float()
    options: dict[str, Any] = {"num_classes": 1, "independent": True}
    left: dict[str, Any]
    for left in ({"valid": masks != 255}, {"ignore_index": 255}):
        for target in (masks, HardTarget(masks)):
            with pytest.raises(ValueError, match=message):
                overlap_counts(preds, target, num_classes=2)
            found = overlap_counts(preds, target, num_classes=2, **left)
            assert found.present.tolist() == found.predicted.tolist() == [[1, 1]]
        for target in (masks, masks.unsqueeze(1)):
            with pytest.raises(ValueError, match=message):
                overlap_counts(answers, target, **options)
            assert overlap_counts(answers, target, **options, **left).present.tolist() == [[1]]
    with pytest.raises(ValueError, match=r"found \[-1\]"):
        overlap_counts(preds, masks.long() - 1, num_classes=2, ignore_index=254)


# Counts that a float32 does not hold


def test_more_than_2_to_the_24_pixels_are_counted_exactly() -> None:
    side = 4097
    target = torch.zeros(1, side, side, dtype=torch.uint8)
    preds = target.clone()
    preds[0, 0, :2] = 1
    counts = overlap_counts(preds, target, num_classes=2)
    assert counts.present.tolist() == [[side**2, 0]]
    assert counts.true_positives.tolist() == [[side**2 - 2, 0]]
    assert counts.iou()[0, 0].item() == (side**2 - 2) / side**2


def test_a_data_set_of_2_to_the_40_pixels_is_counted_exactly() -> None:
    metric = SegmentationScores(2)
    for wrong in (1, 2):
        size = torch.tensor([[2**40, 0]])
        metric.present.append(size)
        metric.true_positives.append(size - torch.tensor([[wrong, 0]]))
        metric.predicted.append(size - torch.tensor([[wrong, -wrong]]))
    metric._update_count = 1
    assert metric.counts().merge_images().true_positives.tolist() == [[2**41 - 3, 0]]
    assert metric.compute()["accuracy"].item() == (2**41 - 3) / 2**41


# Nothing there


@pytest.mark.parametrize("name", METRICS)
def test_nothing_valid_is_nan(name: str) -> None:
    metric = METRICS[name](3, ignore_index=255)
    metric.update(torch.zeros(2, 4, dtype=torch.long), torch.full((2, 4), 255))
    assert math.isnan(metric.compute().item())


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
def test_no_image_at_all_is_nan() -> None:
    found = SegmentationScores(3).compute()
    assert set(found) == set(BY_HAND)
    assert all(math.isnan(score.item()) for score in found.values())


def test_an_image_without_pixels_is_left_out_of_the_mean() -> None:
    preds, target = torch.zeros(2, 4, dtype=torch.long), torch.zeros(2, 4, dtype=torch.long)
    target[1] = 255
    metric = MeanIoU(2, per="image", ignore_index=255)
    metric.update(preds, target)
    assert metric.compute().item() == 1.0


# The life of a metric


def test_reset_forgets() -> None:
    metric = MeanIoU(2)
    metric.update(torch.tensor([[0, 1]]), torch.tensor([[1, 0]]))
    assert metric.compute().item() == 0
    metric.reset()
    metric.update(torch.tensor([[0, 1]]), torch.tensor([[0, 1]]))
    assert metric.compute().item() == 1
    assert len(metric.counts().present) == 1


def test_pickling_keeps_what_was_seen() -> None:
    metric = SegmentationScores(3, ignore_index=255)
    metric.update(PREDS, TARGET)
    copy = pickle.loads(pickle.dumps(metric))
    for m in (metric, copy):
        m.update(PREDS, TARGET.flip(0))
    assert {k: v.item() for k, v in copy.compute().items()} == {
        k: v.item() for k, v in metric.compute().items()
    }
    assert copy.ignore_index == 255


def test_half_precision_models_leave_the_counts_alone() -> None:
    metric = MeanIoU(3)
    module = torch.nn.ModuleDict({"head": torch.nn.Linear(1, 1), "metric": metric})
    module.to(torch.float16)
    metric.update(PREDS, TARGET)
    module.half().to(torch.bfloat16)
    assert metric.counts().present.dtype == torch.int64
    assert metric.compute().dtype == torch.float64


# Errors


@pytest.mark.parametrize(
    ("preds", "message"),
    [
        (torch.zeros(2, 4, 16).long(), r"\(N, \*S\) = \(2, 8, 8\) .*got \(2, 4, 16\). Resize"),
        (torch.zeros(2, 8).long(), r"got \(2, 8\)"),
        (torch.rand(2, 1, 8, 8), r"got \(2, 1, 8, 8\).*Apply a threshold to a binary"),
        (torch.zeros(2, 1, 8, 8).long(), r"got \(2, 1, 8, 8\)"),
        (torch.rand(2, 4, 8, 8), r"\(N, C, \*S\) = \(2, 3, 8, 8\), .*got \(2, 4, 8, 8\)"),
        (torch.full((2, 8, 8), 3), r"class indices in \[0, 2\], but found 3 to 3"),
        (torch.full((2, 8, 8), -1), r"class indices in \[0, 2\], but found -1 to -1"),
    ],
)
def test_wrong_predictions_raise(preds: Tensor, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        overlap_counts(preds, torch.zeros(2, 8, 8, dtype=torch.long), num_classes=3)


def test_floating_class_indices_raise() -> None:
    """A probability of the foreground, cut to an integer, would be background everywhere."""
    with pytest.raises(TypeError, match=r"integer class indices, but got torch.float32"):
        overlap_counts(torch.rand(2, 8), torch.zeros(2, 8, dtype=torch.long), num_classes=2)


def test_wrong_valid_raises() -> None:
    preds = torch.zeros(2, 8, 8, dtype=torch.long)
    with pytest.raises(ValueError, match=r"`valid` to have shape \(N, \*S\) = \(2, 8, 8\)"):
        overlap_counts(preds, preds, num_classes=2, valid=torch.ones(8, 8, dtype=torch.bool))
    with pytest.raises(TypeError, match=r"`valid` to be bool"):
        overlap_counts(preds, preds, num_classes=2, valid=torch.ones(2, 8, 8))


def test_soft_target_of_other_classes_raises() -> None:
    with pytest.raises(ValueError, match=r"\(2, 3, 8\)"):
        overlap_counts(torch.zeros(2, 8).long(), torch.rand(2, 4, 8), num_classes=3)


@pytest.mark.parametrize("metric", [MeanIoU, MeanDice, PixelAccuracy, SegmentationScores])
def test_a_binary_problem_has_two_classes(metric: Callable[..., OverlapMetric]) -> None:
    with pytest.raises(ValueError, match=r"`num_classes` to be at least 2, but got 1"):
        metric(1)


@pytest.mark.parametrize("per", ["class", "none"])
def test_micro_averages_need_classes_added_up(per: str) -> None:
    with pytest.raises(ValueError, match=rf"average='micro', but got '{per}'"):
        MeanIoU(2, per=per, average="micro")


def test_several_ignored_labels_raise() -> None:
    several: Any = [254, 255]
    with pytest.raises(TypeError, match=r"`ignore_index` to be one label .*\[254, 255\].*isin"):
        MeanIoU(2, ignore_index=several)
    labels = torch.zeros(1, 4).long()
    for preds in (labels, labels.expand(1, 2, 4)):  # compiled, and plain
        with pytest.raises(TypeError, match=r"`ignore_index` to be one label .*\[254, 255\].*isin"):
            overlap_counts(preds, labels, num_classes=2, ignore_index=several)


def test_a_target_with_a_channel_raises() -> None:
    labels = torch.zeros(2, 8, 8).long()
    for target in (labels.unsqueeze(1), F.one_hot(labels, 3).movedim(-1, 1)):
        with pytest.raises(ValueError, match=r"`squeeze\(1\)` to a target .* `argmax\(1\)`"):
            overlap_counts(labels, target, num_classes=3)


def test_unknown_per_raises() -> None:
    with pytest.raises(ValueError, match=r"`per` to be one of 'dataset', .* but got 'batch'"):
        MeanIoU(2, per="batch")


@pytest.mark.parametrize("worst", [0, 101, -5, [], [10, 0]])
def test_worst_out_of_range_raises(worst: Any) -> None:
    with pytest.raises(
        ValueError, match=r"`worst` to be percentages in \(0, 100\] or 'averaged', but"
    ):
        MeanIoU(2, per="image", worst=worst)


@pytest.mark.parametrize("per", ["dataset", "none"])
def test_worst_needs_scores_of_images(per: str) -> None:
    with pytest.raises(ValueError, match=rf"`per` to be 'image' or 'class' .* but got '{per}'"):
        MeanDice(2, per=per, worst=10)


@pytest.mark.parametrize("kind", [MeanIoU, SoftIoU, ExpectedCalibrationError, BoundaryIoU])
@pytest.mark.parametrize("num_classes", [-1, 0, 1.5, None, True, "3"])
def test_classes_that_cannot_be_counted_raise(kind: Any, num_classes: Any) -> None:
    with pytest.raises(ValueError, match="Expected `num_classes` to be an integer of at least"):
        kind(num_classes)


@pytest.mark.parametrize("kind", [MeanIoU, SoftIoU, ExpectedCalibrationError, BoundaryIoU])
@pytest.mark.parametrize(
    "wrong", [3, [0, 1], np.zeros((2, 4, 5)), torch.tensor(1.0), torch.ones(2, 3).to_sparse()]
)
def test_what_is_no_tensor_of_pixels_is_named(kind: Any, wrong: Any) -> None:
    probs, labels = torch.full((2, 3, 4, 5), 1 / 3), torch.zeros(2, 4, 5).long()
    for arguments in ((wrong, labels), (probs, wrong)):
        with pytest.raises((TypeError, ValueError), match=r"Expected `(preds|probs|target)` to"):
            kind(3).update(*arguments)
