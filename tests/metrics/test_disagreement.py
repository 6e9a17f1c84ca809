import math
import pickle
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from reference import metric_loops
from softiou import targets
from softiou.metrics import GeneralizedEnergyDistance, generalized_energy_distance, sample_levels


def ged(samples: Tensor, masks: Tensor, num_classes: int = 2, **settings: Any) -> list[float]:
    found = generalized_energy_distance(samples, masks, num_classes=num_classes, **settings)
    assert found.dtype == torch.float64
    return [float(x) for x in found]


# Values by hand

# Foreground: {1, 2} and {2}; IoU 1/2 with each other.
RATERS = torch.tensor([[[0, 1, 1, 0], [0, 0, 1, 0]]])


@pytest.mark.parametrize(
    ("sample", "expected"),
    [
        ([0, 0, 1, 0], 2 * (1 / 2 + 0) / 2 - 0 - 1 / 4),
        ([0, 1, 1, 1], 2 * (1 / 3 + 2 / 3) / 2 - 0 - 1 / 4),
        ([1, 0, 0, 0], 2 * 1 - 0 - 1 / 4),
        ([0, 0, 0, 0], 2 * 1 - 0 - 1 / 4),
    ],
)
def test_one_sample_by_hand(sample: list[int], expected: float) -> None:
    found = ged(torch.tensor([[sample]]), RATERS, classes=[1])
    assert found == pytest.approx([expected], abs=1e-15)


def test_several_samples_by_hand() -> None:
    """{2} and {1}: nothing in common; to the raters 1/2, 0 and 1/2, 1."""
    samples = torch.tensor([[[0, 0, 1, 0], [0, 1, 0, 0]]])
    expected = 2 * (1 / 2 + 0 + 1 / 2 + 1) / 4 - 2 / 4 - 1 / 4
    assert ged(samples, RATERS, classes=[1]) == pytest.approx([expected], abs=1e-15)


def test_mean_over_the_classes_in_either_mask_by_hand() -> None:
    """Of three classes 0 and 1 occur: IoU 1/2 and 0. With [1, 2] it is class 1 alone."""
    sample, mask = torch.tensor([[[0, 0]]]), torch.tensor([[[0, 1]]])
    assert ged(sample, mask, 3) == pytest.approx([2 * (1 - (1 / 2 + 0) / 2)])
    assert ged(sample, mask, 3, classes=[1, 2]) == [2.0]
    assert ged(sample, mask, 3, classes=[0]) == [1.0]
    assert ged(sample, mask, 3, classes=[2]) == [0.0]


def test_two_empty_masks_agree() -> None:
    """One of two annotators sees nothing; nor does the model."""
    sample, masks = torch.tensor([[[0, 0]]]), torch.tensor([[[0, 0], [0, 1]]])
    assert ged(sample, masks, classes=[1]) == [2 * (0 + 1) / 2 - 0 - 2 / 4]
    assert ged(sample, masks[:, :1], classes=[1]) == [0.0]


def test_a_pixel_counts_in_a_pair_where_both_labelled_it_by_hand() -> None:
    masks = torch.tensor([[[1, 1, 255], [255, 0, 1]]])
    sample = torch.tensor([[[1, 0, 0]]])
    between = (1 / 2 + 1) / 2  # {0} to {0, 1} of pixels 0, 1; {} to {2} of pixels 1, 2
    annotators = 2 / 4  # pixel 1 alone: {1} to {}
    expected = 2 * between - annotators
    assert ged(sample, masks, classes=[1], ignore_index=255) == pytest.approx([expected])


def test_metric_is_the_mean_over_images_by_hand() -> None:
    metric = GeneralizedEnergyDistance(2, classes=[1])
    metric.update(torch.tensor([[[0, 0, 1, 0]], [[1, 0, 0, 0]]]), RATERS.expand(2, -1, -1))
    found = metric.compute()
    assert found.item() == pytest.approx((1 / 4 + 7 / 4) / 2, abs=1e-15)
    assert (found.dtype, found.shape) == (torch.float64, ())


def test_levels_by_hand() -> None:
    probs = torch.tensor([[[1.0, 0.5, 0.2, 0.0], [0.0, 0.25, 0.2, 0.0], [0.0, 0.25, 0.6, 1.0]]])
    assert sample_levels(probs, 4).tolist() == [
        [[0, 0, 0, 2], [0, 0, 1, 2], [0, 1, 2, 2], [0, 2, 2, 2]]
    ]
    assert sample_levels(probs, 1).tolist() == [[[0, 1, 2, 2]]]


# The slow reference


@st.composite
def batches(draw: st.DrawFn) -> dict[str, Any]:
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    N, C, P = draw(st.integers(1, 3)), draw(st.integers(2, 4)), draw(st.integers(1, 8))
    S, R = draw(st.integers(1, 3)), draw(st.integers(1, 4))
    used = draw(st.integers(1, C))
    marks = draw(st.sampled_from([[], [255], [255, -1, 255]]))
    return {
        "samples": rng.integers(0, used, (N, S, P)),
        "masks": rng.choice([*range(used), *marks], (N, R, P)),
        "num_classes": C,
        "classes": draw(st.sampled_from([None, [0], [1], [1, 0]])),
        "ignore_index": draw(st.sampled_from([255, None, 0])),
        "valid": rng.random((N, P)) < 0.7 if draw(st.booleans()) else None,
    }


def tensors(batch: dict[str, Any], images: slice = slice(None)) -> list[Tensor | None]:
    """samples, masks, valid of some of the images."""
    values = (batch[name] for name in ("samples", "masks", "valid"))
    return [None if value is None else torch.from_numpy(value[images]) for value in values]


@given(batches(), st.integers(0, 3))
def test_agrees_with_loops_in_several_updates(batch: dict[str, Any], cut: int) -> None:
    expected = metric_loops.energy_distance(**batch)
    settings = {name: batch[name] for name in ("num_classes", "classes", "ignore_index")}
    samples, masks, valid = tensors(batch)
    found = generalized_energy_distance(samples, masks, valid=valid, **settings)  # type: ignore[arg-type]
    np.testing.assert_allclose(found, expected, atol=1e-12)
    metric = GeneralizedEnergyDistance(**settings)
    for images in (slice(0, cut), slice(cut, None)):
        if len(batch["masks"][images]):
            metric.update(*tensors(batch, images))  # type: ignore[arg-type]
    mean = metric_loops.mean(expected)
    assert metric.compute().item() == pytest.approx(mean, abs=1e-12, nan_ok=True)


@given(st.integers(0, 2**32 - 1), st.integers(2, 5), st.integers(1, 9))
def test_levels_agree_with_loops(seed: int, C: int, count: int) -> None:
    rng = np.random.default_rng(seed)
    probs = np.moveaxis(rng.dirichlet(np.full(C, 0.5), (2, 7)), -1, 1).copy()
    found = sample_levels(torch.from_numpy(probs), count)
    np.testing.assert_array_equal(found, metric_loops.sample_levels(probs, count))
    assert found.dtype == torch.int64


# Properties of the distance


@given(batches())
def test_the_masks_themselves_are_exactly_at_zero(batch: dict[str, Any]) -> None:
    masks = torch.from_numpy(batch["samples"])
    assert ged(masks, masks, batch["num_classes"], classes=batch["classes"]) == [0.0] * len(masks)


@given(batches())
def test_it_is_not_below_zero_for_a_single_class(batch: dict[str, Any]) -> None:
    """1 - IoU is of negative type; rounding apart."""
    samples = torch.from_numpy(batch["samples"])
    masks = torch.randint(0, 2, (len(samples), 3, samples.shape[2]))
    assert min(ged(samples, masks, batch["num_classes"], classes=[1])) > -1e-12


@given(batches())
def test_order_of_images_masks_and_pixels_does_not_matter(batch: dict[str, Any]) -> None:
    settings = {name: batch[name] for name in ("num_classes", "classes", "ignore_index")}
    samples, masks, _ = (x for x in tensors(batch))
    one = generalized_energy_distance(samples, masks, **settings)  # type: ignore[arg-type]
    other = generalized_energy_distance(samples.flip(0, 1, 2), masks.flip(0, 1, 2), **settings)  # type: ignore[union-attr]
    np.testing.assert_allclose(one, other.flip(0), atol=1e-12)


def test_repeating_the_samples_changes_nothing() -> None:
    samples, masks = torch.randint(0, 3, (2, 2, 30)), torch.randint(0, 3, (2, 4, 30))
    expected = ged(samples, masks, 3)
    assert ged(samples.repeat(1, 3, 1), masks, 3) == pytest.approx(expected)


def test_space_can_have_any_shape() -> None:
    samples, masks = torch.randint(0, 3, (2, 2, 4, 6)), torch.randint(0, 3, (2, 3, 4, 6))
    assert ged(samples, masks, 3) == ged(samples.flatten(2), masks.flatten(2), 3)


def test_ignored_pixels_are_cut_out() -> None:
    samples, masks = torch.randint(0, 3, (2, 2, 9)), torch.randint(0, 3, (2, 3, 9))
    expected = ged(samples[..., 2:], masks[..., 2:], 3)
    valid = torch.ones(2, 9, dtype=torch.bool)
    valid[:, :2] = False
    samples[..., :2] = 7  # nobody asks what was predicted there
    marked = masks.where(valid.unsqueeze(1), 255)
    assert ged(samples, masks, 3, valid=valid) == expected
    assert ged(samples, marked, 3, ignore_index=255) == expected
    assert ged(samples, marked, 3) == expected
    assert ged(samples, marked.to(torch.uint8), 3, ignore_index=255) == expected


def test_an_annotator_who_labelled_nothing_is_left_out() -> None:
    """So that images with fewer annotators can be padded."""
    samples, masks = torch.randint(0, 2, (2, 2, 9)), torch.randint(0, 2, (2, 3, 9))
    masks[:, 2] = 255
    assert ged(samples, masks, ignore_index=255) == ged(samples, masks[:, :2], ignore_index=255)


def test_an_image_that_nobody_labelled_is_left_out() -> None:
    samples, masks = torch.randint(0, 2, (2, 2, 9)), torch.randint(0, 2, (2, 3, 9))
    masks[1] = 255
    metric = GeneralizedEnergyDistance(2, ignore_index=255)
    metric.update(samples, masks)
    assert metric.compute().item() == ged(samples[:1], masks[:1])[0]
    metric.reset()
    metric.update(samples[1:], masks[1:])
    assert math.isnan(metric.compute().item())


@pytest.mark.parametrize("dtype", [torch.bool, torch.uint8, torch.int8, torch.int16, torch.int32])
def test_integer_dtypes_agree(dtype: torch.dtype) -> None:
    samples, masks = torch.randint(0, 2, (2, 2, 9)), torch.randint(0, 2, (2, 3, 9))
    assert ged(samples.to(dtype), masks.to(dtype)) == ged(samples, masks)


def test_autocast_does_not_touch_the_counts() -> None:
    samples, masks = torch.randint(0, 2, (1, 2, 5000)), torch.randint(0, 2, (1, 3, 5000))
    expected = ged(samples, masks)
    with torch.autocast("cpu", torch.bfloat16):
        assert ged(samples, masks) == expected


# Properties of the levels


def test_levels_of_two_classes_are_nested_level_sets() -> None:
    p = torch.rand(2, 5, 7, dtype=torch.float64)
    masks = sample_levels(torch.stack([1 - p, p], 1), 6)
    for i in range(6):
        assert torch.equal(masks[:, i], (p >= 1 - (i + 0.5) / 6).long())
    assert bool((masks.diff(dim=1) >= 0).all())


@pytest.mark.parametrize("R", [1, 2, 3, 4, 7])
def test_levels_of_vote_shares_give_the_votes_back(R: int) -> None:
    """As many masks as annotators: each pixel has the votes it had; nested annotators in full."""
    raters = torch.randint(0, 3, (2, R, 40))
    probs, _ = targets.vote_shares(raters, num_classes=3, ignore_index=None)
    assert torch.equal(sample_levels(probs, R).sort(1).values, raters.sort(1).values)
    cautious = torch.randint(0, 2, (2, R, 40)).sort(1).values
    probs, _ = targets.vote_shares(cautious, num_classes=2, ignore_index=None)
    assert ged(sample_levels(probs, R), cautious, classes=[1]) == [0.0, 0.0]


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16, torch.float32])
def test_levels_never_pick_a_class_without_probability(dtype: torch.dtype) -> None:
    """Half-precision probabilities may sum to less than the last level."""
    probs = torch.rand(1, 20, 500).softmax(1).to(dtype)
    probs[:, -1] = 0
    assert sample_levels(probs, 500).max() <= 18


def test_a_certain_map_has_one_mask() -> None:
    labels = torch.randint(0, 3, (2, 4, 5))
    probs = torch.nn.functional.one_hot(labels, 3).movedim(-1, 1).float()
    assert torch.equal(sample_levels(probs, 3), labels.unsqueeze(1).expand(-1, 3, -1, -1))


# The life of a metric


def test_half_precision_models_leave_the_sums_alone() -> None:
    metric = GeneralizedEnergyDistance(2)
    metric.update(RATERS[:, :1], RATERS)
    expected = metric.compute().item()
    torch.nn.ModuleDict({"metric": metric}).half().to(torch.bfloat16)
    assert metric.total.dtype == metric.images.dtype == torch.float64
    assert metric.compute().item() == expected


def test_reset_and_pickling() -> None:
    metric = GeneralizedEnergyDistance(2, classes=[1])
    metric.update(RATERS[:, :1], RATERS)
    copy = pickle.loads(pickle.dumps(metric))
    assert copy.compute().item() == 0.25
    metric.reset()
    metric.update(RATERS, RATERS)
    assert metric.compute().item() == 0


# Errors


@pytest.mark.parametrize(
    ("samples", "masks"),
    [((2, 8, 8), (2, 3, 8, 8)), ((2, 1, 8), (1, 3, 8)), ((2, 0, 8), (2, 3, 8)), ((2, 8), (2, 8))],
)
def test_wrong_shapes_raise(samples: tuple[int, ...], masks: tuple[int, ...]) -> None:
    with pytest.raises(ValueError, match=r"`samples` \(N, S, \*S\) and `masks` .*unsqueeze\(1\)"):
        ged(torch.zeros(samples).long(), torch.zeros(masks).long())


def test_probabilities_are_no_samples() -> None:
    with pytest.raises(TypeError, match=r"`samples` to hold integer .*`sample_levels"):
        ged(torch.rand(2, 3, 8), torch.zeros(2, 3, 8).long())
    with pytest.raises(TypeError, match=r"`masks` to hold integer class indices, but got"):
        ged(torch.zeros(2, 3, 8).long(), torch.rand(2, 3, 8))


def test_samples_outside_the_classes_raise() -> None:
    with pytest.raises(ValueError, match=r"`samples` to hold class indices in \[0, 1\].* 2 to 2"):
        ged(torch.full((1, 1, 4), 2), torch.zeros(1, 2, 4).long())


def test_wrong_valid_raises() -> None:
    zeros = torch.zeros(1, 2, 4).long()
    with pytest.raises(ValueError, match=r"`valid` to have shape \(N, \*S\) = \(1, 4\)"):
        ged(zeros, zeros, valid=torch.ones(4, dtype=torch.bool))


@pytest.mark.parametrize(
    ("num_classes", "classes", "message"),
    [
        (1, None, r"`num_classes` to be at least 2"),
        (2, [], r"`classes` to be distinct and not empty, but got \(\)"),
        (2, [1, 1], r"`classes` to be distinct and not empty, but got \(1, 1\)"),
        (2, [2], r"`classes` to be in \[0, 1\], but got 2"),
        (2, [-1], r"`classes` to be in \[0, 1\], but got -1"),
    ],
)
def test_wrong_classes_raise(num_classes: int, classes: list[int] | None, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        GeneralizedEnergyDistance(num_classes, classes=classes)


def test_wrong_levels_raise() -> None:
    with pytest.raises(ValueError, match=r"`count` to be at least 1, but got 0"):
        sample_levels(torch.rand(1, 2, 3), 0)
    with pytest.raises(ValueError, match=r"`probs` to have shape \(N, C, \*S\).*unsqueeze\(0\)"):
        sample_levels(torch.rand(2, 3), 2)
    with pytest.raises(TypeError, match=r"`probs` to be floating"):
        sample_levels(torch.zeros(1, 2, 3).long(), 2)
