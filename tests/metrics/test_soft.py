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

from reference import metric_loops
from softiou import overlap_statistics, targets
from softiou.metrics import (
    MeanDice,
    MeanIoU,
    SoftDice,
    SoftIoU,
    SoftOverlapMetric,
    SoftScores,
    overlap_counts,
    overlap_masses,
)
from softiou.targets import Target

METRICS: dict[str, Callable[..., SoftOverlapMetric]] = {
    f"{name}_{per[0]}": lambda C, kind=kind, per=per, **options: kind(C, per=per, **options)
    for name, kind in (("soft_iou", SoftIoU), ("soft_dice", SoftDice))
    for per in ("dataset", "image", "class")
}


def score(kind: Any, probs: Tensor, target: Tensor | Target, **settings: Any) -> float:
    metric = kind(probs.shape[1], **settings)
    metric.update(probs, target)
    return float(metric.compute().item())


def random_probs(*shape: int) -> Tensor:
    """Probabilities (N, C, *S) in float64."""
    return torch.randn(*shape, dtype=torch.float64).softmax(1)


# Values by hand

# Two images of one pixel, foreground 1/2 against 1 and 1/4 against 1/2; class 2 occurs nowhere.
PROBS = torch.tensor([[[0.5], [0.5], [0.0]], [[0.75], [0.25], [0.0]]], dtype=torch.float64)
TARGET = torch.tensor([[[0.0], [1.0], [0.0]], [[0.5], [0.5], [0.0]]], dtype=torch.float64)
# P, Y, D: class 0 1/2 0 1/2 and 3/4 1/2 1/4; class 1 1/2 1 1/2 and 1/4 1/2 1/4.
BY_HAND = {
    "soft_iou_d": ((5 / 4 + 1 / 2 - 3 / 4) / (5 / 2) + (3 / 4 + 3 / 2 - 3 / 4) / 3) / 2,
    "soft_iou_i": (1 / 2 + (2 / 3 + 1 / 2) / 2) / 2,
    "soft_iou_c": (2 / 3 + (1 / 2 + 1 / 2) / 2) / 2,
    "soft_dice_d": (1 / (7 / 4) + (3 / 2) / (9 / 4)) / 2,
    "soft_dice_i": (2 / 3 + (4 / 5 + 2 / 3) / 2) / 2,
    "soft_dice_c": (4 / 5 + (2 / 3 + 2 / 3) / 2) / 2,
}


@pytest.mark.parametrize("name", METRICS)
def test_scores_by_hand(name: str) -> None:
    metric = METRICS[name](3)
    metric.update(PROBS, TARGET)
    found = metric.compute()
    assert found.item() == pytest.approx(BY_HAND[name], abs=1e-15)
    assert (found.dtype, found.shape) == (torch.float64, ())


def test_soft_scores_by_hand() -> None:
    metric = SoftScores(3)
    metric.update(PROBS, TARGET)
    found = {name: value.item() for name, value in metric.compute().items()}
    assert found == pytest.approx(BY_HAND, abs=1e-15)


def test_masses_by_hand() -> None:
    masses = overlap_masses(PROBS, TARGET)
    assert masses.P.tolist() == [[0.5, 0.5, 0.0], [0.75, 0.25, 0.0]]
    assert masses.Y.tolist() == [[0.0, 1.0, 0.0], [0.5, 0.5, 0.0]]
    assert masses.D.tolist() == [[0.5, 0.5, 0.0], [0.25, 0.25, 0.0]]
    assert masses.occurs().tolist() == [[False, True, False], [True, True, False]]


def test_scores_of_each_class() -> None:
    metric = SoftIoU(3, per="none")
    metric.update(PROBS, TARGET)
    assert metric.compute().tolist() == pytest.approx([0.4, 0.5, math.nan], nan_ok=True)


def test_votes_of_annotators_by_hand() -> None:
    """Foreground of 3 pixels: 1/2 and 1 against 1/2 and 1; nobody judged the last."""
    raters = torch.tensor([[[0, 1, 255], [1, 255, 255]]])
    probs = torch.tensor([[[0.5, 0.0, 0.2], [0.5, 1.0, 0.8]]])
    assert score(SoftIoU, probs, targets.votes(raters), ignore_index=255) == 1
    probs[0, :, 1] = 0.5
    assert score(SoftDice, probs, targets.votes(raters, ignore_index=255)) == pytest.approx(
        (2 / 3 + 4 / 5) / 2  # class 0: 1 and 1/2, D 1/2; class 1: 1 and 3/2, D 1/2
    )


def test_product_form_is_not_one_at_the_truth() -> None:
    """And pays for exaggeration; the metric form does not."""
    y, bold = torch.full((1, 2, 4), 0.5), torch.tensor([[[0.0] * 4, [1.0] * 4]])

    def product_dice(p: Tensor) -> Tensor:
        sums = overlap_statistics(p, y, activation="none")
        return 2 * sums.M / (sums.P + sums.Y)

    assert product_dice(y).tolist() == [[0.5, 0.5]]
    assert product_dice(bold)[0, 1].item() == pytest.approx(2 / 3)
    assert score(SoftDice, y, y) == score(SoftIoU, y, y) == 1
    assert overlap_masses(bold, y).dice()[0, 1].item() == pytest.approx(2 / 3)


# The slow reference: function, class in one update, class in several


@st.composite
def batches(draw: st.DrawFn, kinds: tuple[str, ...] = ("hard", "dense", "votes")) -> dict[str, Any]:
    """Probabilities and a target of any kind; `loops` is what the reference reads."""
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    N, C, P = draw(st.integers(1, 4)), draw(st.integers(2, 4)), draw(st.integers(1, 8))
    probs = np.moveaxis(rng.dirichlet(np.full(C, 0.5), (N, P)), -1, 1).copy()
    kind = draw(st.sampled_from(kinds))
    target: NDArray[Any] = rng.choice([*range(C), 255], (N, P))
    loops = target
    if kind == "dense":
        target = np.moveaxis(rng.dirichlet(np.ones(C), (N, P)), -1, 1).copy()
        target[:, :, rng.random(P) < 0.2] = 255
        loops = target
    if kind == "votes":
        target = rng.choice([*range(C), 255, -1], (N, 3, P))
        share = np.stack([(target == c).sum(1) for c in range(C)], 1)  # (N, C, P)
        voters = share.sum(1, keepdims=True)
        loops = np.where(voters > 0, share / np.maximum(voters, 1), 255.0)
    return {
        "kind": kind,
        "probs": probs,
        "target": target,
        "loops": loops,
        "valid": rng.random((N, P)) < 0.7 if draw(st.booleans()) else None,
    }


def tensors(
    batch: dict[str, Any], images: slice = slice(None)
) -> tuple[Tensor, Tensor | Target, Tensor | None]:
    """probs, target, valid of some of the images."""
    probs, target = (torch.from_numpy(batch[name][images]) for name in ("probs", "target"))
    valid = None if batch["valid"] is None else torch.from_numpy(batch["valid"][images])
    return probs, targets.votes(target) if batch["kind"] == "votes" else target, valid


@given(batches(), st.integers(0, 4))
def test_several_updates_agree_with_loops(batch: dict[str, Any], cut: int) -> None:
    C = batch["probs"].shape[1]
    sums = metric_loops.masses(
        batch["probs"], batch["loops"], ignore_index=255, valid=batch["valid"]
    )
    probs, target, valid = tensors(batch)
    found = overlap_masses(probs, target, ignore_index=255, valid=valid)
    for name, expected in zip("PYD", sums, strict=True):
        np.testing.assert_allclose(getattr(found, name), expected, atol=1e-12)
    metric = SoftScores(C, ignore_index=255)
    parts = [METRICS[name](C, ignore_index=255) for name in METRICS]
    for images in (slice(0, cut), slice(cut, None)):
        if len(batch["probs"][images]):
            for m in (metric, *parts):
                m.update(*tensors(batch, images))
    scores = metric_loops.soft_scores(sums)
    by_name = {name: value.item() for name, value in metric.compute().items()}
    assert by_name == pytest.approx(scores, abs=1e-12, nan_ok=True)
    by_part = {name: part.compute().item() for name, part in zip(METRICS, parts, strict=True)}
    assert by_part == pytest.approx(scores, abs=1e-12, nan_ok=True)


@given(batches())
def test_forward_returns_the_score_of_the_batch_and_adds_it(batch: dict[str, Any]) -> None:
    metric = SoftIoU(batch["probs"].shape[1], ignore_index=255)
    first = metric(*tensors(batch)).item()
    assert metric(*tensors(batch)).item() == pytest.approx(first, nan_ok=True)
    assert metric.compute().item() == pytest.approx(first, nan_ok=True)
    assert len(metric.sums().P) == 2 * len(batch["probs"])


# Properties


@given(batches())
def test_scores_lie_in_0_to_1_and_dice_is_not_below_iou(batch: dict[str, Any]) -> None:
    metric = SoftScores(batch["probs"].shape[1], ignore_index=255)
    metric.update(*tensors(batch))
    found = metric.compute()
    for per in "dic":
        iou, dice = found[f"soft_iou_{per}"].item(), found[f"soft_dice_{per}"].item()
        assert math.isnan(iou) == math.isnan(dice)
        assert math.isnan(iou) or 0 <= iou <= dice <= 1


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.float16, torch.bfloat16])
def test_the_truth_scores_exactly_one_and_nothing_else_does(dtype: torch.dtype) -> None:
    y = random_probs(3, 4, 50).to(dtype)
    metric = SoftScores(4)
    metric.update(y, y)
    assert {value.item() for value in metric.compute().values()} == {1.0}
    other = y.clone()
    other[0, :2, 0] = y[0, [1, 0], 0]
    assert all(value < 1 for value in (score(SoftIoU, other, y), score(SoftDice, other, y)))


@pytest.mark.parametrize("per", ["dataset", "image", "class", "none"])
@pytest.mark.parametrize(("soft", "hard"), [(SoftIoU, MeanIoU), (SoftDice, MeanDice)])
def test_hard_predictions_of_hard_targets_score_the_same(soft: Any, hard: Any, per: str) -> None:
    preds, target = torch.randint(0, 4, (3, 7, 9)), torch.randint(0, 4, (3, 7, 9))
    preds[preds == 3], target[0] = 0, target[0].where(target[0] != 1, 255)
    metrics = soft(5, per=per, ignore_index=255), hard(5, per=per, ignore_index=255)
    metrics[0].update(F.one_hot(preds, 5).movedim(-1, 1).float(), target)
    metrics[1].update(preds, target)
    found, expected = (metric.compute() for metric in metrics)
    torch.testing.assert_close(found, expected, rtol=0, atol=0, equal_nan=True)


def test_hard_equals_one_hot_soft() -> None:
    probs, target = random_probs(2, 3, 9), torch.randint(0, 3, (2, 9))
    one_hot = F.one_hot(target, 3).mT.double()
    assert score(SoftIoU, probs, target) == pytest.approx(score(SoftIoU, probs, one_hot))


@given(batches(kinds=("dense",)))
def test_order_of_images_pixels_and_classes_does_not_matter(batch: dict[str, Any]) -> None:
    metrics = [SoftScores(batch["probs"].shape[1], ignore_index=255) for _ in range(2)]
    metrics[0].update(*tensors(batch))
    names = ("probs", "target", "valid")
    backwards = {k: None if batch[k] is None else np.flip(batch[k]).copy() for k in names}
    metrics[1].update(*tensors({**backwards, "kind": "dense"}))
    one, other = ({k: v.item() for k, v in m.compute().items()} for m in metrics)
    assert one == pytest.approx(other, abs=1e-12, nan_ok=True)


def test_space_can_have_any_shape() -> None:
    probs, target = random_probs(2, 3, 4, 6), random_probs(2, 3, 4, 6)
    expected = score(SoftIoU, probs.flatten(2), target.flatten(2))
    assert score(SoftIoU, probs, target) == pytest.approx(expected)


def test_ignored_pixels_are_cut_out() -> None:
    probs, target = random_probs(2, 3, 9), torch.randint(0, 3, (2, 9))
    soft = F.one_hot(target, 3).mT.double()
    expected = score(SoftIoU, probs[..., 3:], target[:, 3:])
    valid = torch.ones(2, 9, dtype=torch.bool)
    valid[:, :3] = False
    probs[..., :3] = math.nan
    marked = target.where(valid, 255)
    metric = SoftIoU(3)
    metric.update(probs, target, valid)
    assert metric.compute().item() == pytest.approx(expected)
    for ignored in (marked, soft.where(valid.unsqueeze(1), 255), targets.HardTarget(marked)):
        assert score(SoftIoU, probs, ignored, ignore_index=255) == pytest.approx(expected)


def test_every_kind_of_target_is_what_it_becomes_when_written_out() -> None:
    probs, labels = random_probs(2, 3, 6, 5), torch.randint(0, 3, (2, 6, 5))
    for target in (
        targets.boundary(labels, epsilon=0.5, width=1),
        targets.teacher(torch.randn(2, 3, 3, 3)),
        targets.mix((0.5, labels), (0.5, random_probs(2, 3, 6, 5))),
    ):
        space = targets.as_target(target, logits_shape=(2, 3, 6, 5))
        written = space.dense(3, torch.float64).y
        assert score(SoftIoU, probs, target) == pytest.approx(score(SoftIoU, probs, written))


def test_more_certain_is_not_better_against_doubt() -> None:
    """Annotators split evenly: the share of votes beats either certainty."""
    raters = targets.votes(torch.tensor([[[0] * 8, [1] * 8]]))
    half, certain = torch.full((1, 2, 8), 0.5), torch.eye(2)[:, :1].expand(2, 8).unsqueeze(0)
    assert score(SoftIoU, half, raters) == 1
    assert score(SoftIoU, certain, raters) == pytest.approx((1 / 2 + 0) / 2)


# Nothing there


@pytest.mark.parametrize("name", METRICS)
def test_nothing_valid_is_nan(name: str) -> None:
    metric = METRICS[name](3, ignore_index=255)
    metric.update(torch.full((2, 3, 4), 1 / 3), torch.full((2, 4), 255))
    assert math.isnan(metric.compute().item())


@pytest.mark.filterwarnings("ignore:The ``compute`` method:UserWarning")
def test_no_image_at_all_is_nan() -> None:
    found = SoftScores(3).compute()
    assert list(found) == list(BY_HAND)
    assert all(math.isnan(value.item()) for value in found.values())


def test_a_class_with_neither_prediction_nor_target_is_left_out() -> None:
    assert score(SoftIoU, PROBS, PROBS) == 1


# Precision


@pytest.mark.parametrize("dtype", [torch.float32, torch.float16, torch.bfloat16])
def test_low_precision_probabilities_are_added_up_well(dtype: torch.dtype) -> None:
    """What the values say, to seven digits: the sums are not in their dtype."""
    probs, target = random_probs(2, 3, 300, 300).to(dtype), random_probs(2, 3, 300, 300)
    expected = score(SoftIoU, probs.double(), target.float().double())
    assert score(SoftIoU, probs, target.float()) == pytest.approx(expected, abs=1e-6)


def test_more_than_2_to_the_24_pixels_do_not_saturate() -> None:
    side = 4100
    probs = torch.zeros(1, 2, side, side, dtype=torch.float16)
    probs[:, 0] = 1
    masses = overlap_masses(probs, torch.zeros(1, side, side, dtype=torch.uint8))
    assert masses.P[0, 0].item() == pytest.approx(side**2, rel=1e-7)


# The life of a metric


def test_reset_forgets() -> None:
    metric = SoftIoU(2)
    metric.update(torch.tensor([[[0.0], [1.0]]]), torch.tensor([[0]]))
    assert metric.compute().item() == 0
    metric.reset()
    metric.update(torch.tensor([[[0.0], [1.0]]]), torch.tensor([[1]]))
    assert metric.compute().item() == 1


def test_pickling_keeps_what_was_seen() -> None:
    metric = SoftScores(3, ignore_index=255)
    metric.update(PROBS, TARGET)
    copy = pickle.loads(pickle.dumps(metric))
    for m in (metric, copy):
        m.update(PROBS, TARGET.flip(0))
    one, other = ({k: v.item() for k, v in m.compute().items()} for m in (metric, copy))
    assert one == other
    assert copy.ignore_index == 255


def test_half_precision_models_leave_the_masses_alone() -> None:
    metric = SoftScores(3)
    module = torch.nn.ModuleDict({"head": torch.nn.Linear(1, 1), "metric": metric})
    module.to(torch.float16)
    metric.update(PROBS, TARGET)
    module.half().to(torch.bfloat16)
    assert metric.sums().P.dtype == torch.float64
    assert metric.compute()["soft_iou_d"].item() == pytest.approx(BY_HAND["soft_iou_d"])


def test_no_graph_is_kept() -> None:
    metric = SoftIoU(3)
    metric.update(PROBS.clone().requires_grad_(), TARGET)
    assert not metric.sums().P.requires_grad


# Errors


def test_logits_raise() -> None:
    with pytest.raises(ValueError, match=r"`probs` to be probabilities .*softmax\(1\)`"):
        SoftIoU(3).update(torch.randn(2, 3, 8), torch.zeros(2, 8, dtype=torch.long))


def test_not_a_number_raises() -> None:
    probs = torch.full((2, 3, 8), 1 / 3)
    probs[1, 2, 7] = math.nan
    with pytest.raises(ValueError, match=r"mean sum of an image is nan"):
        SoftIoU(3).update(probs, torch.zeros(2, 8, dtype=torch.long))


def test_an_unnamed_mark_of_ignored_pixels_raises() -> None:
    target = torch.full((1, 2, 4), 0.5)
    target[..., 0] = 255
    with pytest.raises(ValueError, match=r"`target` to be .* `valid` or `ignore_index`"):
        SoftIoU(2).update(torch.full((1, 2, 4), 0.5), target)


@pytest.mark.parametrize("shape", [(2, 4, 8, 8), (2, 8), (3,)])
def test_wrong_number_of_classes_raises(shape: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"`probs` to have shape \(N, C, \*S\) with C = 3"):
        SoftIoU(3).update(torch.rand(shape), torch.zeros(2, 8, 8, dtype=torch.long))


def test_wrong_space_raises() -> None:
    with pytest.raises(ValueError, match=r"`target` to have shape \(N, \*S\) = \(2, 8, 8\)"):
        SoftIoU(3).update(torch.rand(2, 3, 8, 8), torch.zeros(2, 8, 4, dtype=torch.long))


def test_predicted_classes_raise() -> None:
    with pytest.raises(TypeError, match=r"`probs` to be floating .*MeanIoU"):
        overlap_masses(torch.zeros(2, 3, 8).long(), torch.zeros(2, 8).long())


@pytest.mark.parametrize("metric", [SoftIoU, SoftDice, SoftScores])
def test_a_binary_problem_has_two_classes(metric: Any) -> None:
    with pytest.raises(ValueError, match=r"`num_classes` to be at least 2, but got 1"):
        metric(1)


def test_unknown_per_raises() -> None:
    with pytest.raises(ValueError, match=r"`per` to be one of 'dataset', .* but got 'batch'"):
        SoftIoU(2, per="batch")


def test_counts_and_masses_agree_on_which_classes_occur() -> None:
    preds, target = torch.randint(0, 3, (4, 2)), torch.randint(0, 3, (4, 2))
    masses = overlap_masses(F.one_hot(preds, 3).mT.float(), target)
    assert torch.equal(masses.occurs(), overlap_counts(preds, target, num_classes=3).occurs())
