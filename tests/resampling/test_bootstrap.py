import math
import time
from functools import partial
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from torch import Tensor

from evaluation_files import statistics_of as listed_statistics
from reference import figure_loops
from softiou.metrics import EvaluationScores, OverlapCounts, OverlapMasses, mean_score
from softiou.metrics.bins import CalibrationBins, equal_mass, num_fine_bins
from softiou.metrics.counts import AnswerCounts
from softiou.metrics.decoding import decode_target
from softiou.metrics.weighted import MetricValues, weighted_mean, worst_group_sizes, worst_means
from softiou.resampling import ImageStatistics, gather_image_statistics, weighted_metrics
from softiou.resampling.bootstrap import (
    bootstrap_metrics,
    intervals,
    mirrored_interval,
    percentile_interval,
    resample,
    resample_in_chunks,
)

stats: Any = pytest.importorskip("scipy.stats")

Array = NDArray[np.float64]

ERRORS = ("ece_d", "cece_d", "mce_d", "bece_d")


def random_counts(rng: np.random.Generator, N: int, C: int) -> Array:
    """Counts (3, N, C) of images that lack classes; the last image may be empty."""
    present = rng.integers(0, 50, (N, C)) * (rng.random((N, C)) < 0.6)
    predicted = rng.integers(0, 50, (N, C)) * (rng.random((N, C)) < 0.6)
    right = np.minimum(present, predicted) * rng.random((N, C))
    counts = np.stack([np.floor(right), predicted, present]).astype(np.float64)
    counts[:, -1] *= rng.random() < 0.5
    return counts


def random_bins(rng: np.random.Generator, *shape: int) -> Array:
    """Bins (3, ...) with empty ones; the last image may be empty."""
    count = rng.integers(0, 30, shape) * (rng.random(shape) < 0.7)
    bins = np.stack([count, count * rng.random(shape), np.floor(count * rng.random(shape))])
    bins[:, -1] *= rng.random() < 0.5
    return bins


def overlap(counts: Array) -> OverlapCounts:
    return OverlapCounts(*torch.from_numpy(counts).long())


def calibration(bins: Array) -> CalibrationBins:
    count, confidence, correct = torch.from_numpy(bins)
    return CalibrationBins(count.long(), confidence, correct)


def arrays(rng: np.random.Generator, N: int, C: int) -> dict[str, Array]:
    return {
        "counts": random_counts(rng, N, C),
        "boundary": random_counts(rng, N, C),
        "bins": random_bins(rng, N, 5),
        "boundary_bins": random_bins(rng, N, 5),
        "class_bins": random_bins(rng, N, C, 5),
        "sums": rng.random((2, N)),
        "pixels": rng.integers(1, 50, N).astype(np.float64),
        "energy": np.where(rng.random(N) < 0.2, math.nan, rng.random(N)),
    }


def statistics_of(known: dict[str, Array]) -> ImageStatistics:
    return ImageStatistics(
        counts=overlap(known["counts"]),
        boundary=overlap(known["boundary"]),
        bins=calibration(known["bins"]),
        boundary_bins=calibration(known["boundary_bins"]),
        class_bins=calibration(known["class_bins"]),
        brier=torch.from_numpy(known["sums"][0]),
        nll=torch.from_numpy(known["sums"][1]),
        pixels=torch.from_numpy(known["pixels"]),
        energy=torch.from_numpy(known["energy"]),
    )


def naive_figures(known: dict[str, Array], chosen: NDArray[np.int64]) -> dict[str, float]:
    """Figures of a list of images, which may name one several times."""
    found = figure_loops.overlap_figures(known["counts"][:, chosen])
    found |= figure_loops.bin_figures(known["bins"][:, chosen])
    pixels = known["pixels"][chosen].sum()
    return found | {
        "biou_d": figure_loops.mean(figure_loops.of_target(known["boundary"][:, chosen].sum(1))),
        "bece_d": figure_loops.error(known["boundary_bins"][:, chosen].sum(1)),
        "cece_d": figure_loops.class_bin_error(known["class_bins"][:, chosen]),
        "brier": float(known["sums"][0, chosen].sum() / pixels),
        "nll": float(known["sums"][1, chosen].sum() / pixels),
        "ged": figure_loops.mean(known["energy"][chosen]),
    }


def ones(N: int) -> Tensor:
    return torch.ones(1, N, dtype=torch.float64)


# Drawing


def test_draws_are_those_of_the_seed_on_every_machine() -> None:
    numbers = np.random.RandomState(1).randint(0, 2**32, (4, 5), dtype=np.uint32)  # MT19937
    wanted = [np.bincount(row % 5, minlength=5).tolist() for row in numbers]
    assert wanted[0] == [1, 0, 0, 2, 2]
    assert resample(5, 4, seed=1).tolist() == wanted
    assert resample(5, 4, seed=2).tolist() != wanted


def test_draws_do_not_depend_on_the_chunks() -> None:
    whole = resample(7, 1000, seed=3)
    chunks = list(resample_in_chunks(7, 1000, seed=3, width=2**17))
    assert len(chunks) == 250
    assert torch.equal(torch.cat(chunks), whole)


def test_memory_is_bounded_by_chunks() -> None:
    sizes = [chunk.numel() for chunk in resample_in_chunks(100_000, 12, seed=0, width=1)]
    assert sizes == [500_000, 500_000, 200_000]
    assert len(next(resample_in_chunks(10, 12, seed=0, width=10**9))) == 1


def test_draws_are_uniform_and_with_replacement() -> None:
    draws = resample(20, 5000, seed=0)
    assert (draws.sum(1) == 20).all()
    # Each image is Binomial(20, 1 / 20): mean 1, and missing in (1 - 1 / 20)^20 of the draws.
    assert torch.allclose(draws.mean(0), torch.ones(20).double(), atol=0.07)
    assert float((draws == 0).double().mean()) == pytest.approx(0.95**20, abs=0.01)


@pytest.mark.parametrize(("images", "resamples"), [(0, 1), (1, 0)])
def test_there_must_be_something_to_draw(images: int, resamples: int) -> None:
    with pytest.raises(ValueError, match="to be at least 1, but got 0"):
        resample(images, resamples, seed=0)


# Figures


def test_weights_count_images_by_hand() -> None:
    right, there = torch.tensor([[1, 0], [3, 1]]), torch.tensor([[2, 0], [3, 1]])
    statistics = ImageStatistics(OverlapCounts(right, there, there))
    found = weighted_metrics(statistics, torch.tensor([[1.0, 1], [2, 0], [0, 1]]).double())
    assert found.metrics["accuracy"].tolist() == [5 / 6, 1 / 2, 1]
    # IoU 1/3 and undefined in the first image; 1 and 1 in the second.
    assert found.per_class["iou"][0].tolist() == [4 / 6, 1]
    assert found.metrics["miou_d"].tolist() == pytest.approx([5 / 6, 1 / 3, 1])
    assert found.metrics["miou_i"].tolist() == pytest.approx([4 / 6, 1 / 3, 1])
    assert found.metrics["miou_c"].tolist() == pytest.approx([5 / 6, 1 / 3, 1])
    assert found.metrics["miou_i_q10"].tolist() == pytest.approx([1 / 3, 1 / 3, 1])
    assert math.isnan(found.per_class["iou"][1, 1])


@given(st.integers(0, 2**32 - 1))
def test_every_figure_is_that_of_the_naive_loop(seed: int) -> None:
    rng = np.random.default_rng(seed)
    N, C = int(rng.integers(1, 40)), int(rng.integers(2, 5))
    known = arrays(rng, N, C)
    chosen = rng.integers(0, N, (3, N))
    weights = np.stack([np.bincount(row, minlength=N) for row in chosen]).astype(np.float64)
    found = weighted_metrics(statistics_of(known), torch.from_numpy(weights)).metrics
    for r, row in enumerate(chosen):
        wanted = naive_figures(known, row)
        assert set(wanted) == set(found)
        for name, value in wanted.items():
            assert float(found[name][r]) == pytest.approx(value, abs=1e-9, nan_ok=True), name


def test_figures_of_the_images_are_those_of_the_metrics() -> None:
    counts = overlap(random_counts(np.random.default_rng(0), 30, 4))
    masses = OverlapMasses(*torch.rand(3, 30, 4, generator=torch.Generator().manual_seed(0)))
    figures = weighted_metrics(ImageStatistics(counts, masses=masses), ones(30))
    found = figures.metrics
    for name in ("iou", "dice"):
        of_classes = getattr(masses.merge_images(), name)()
        torch.testing.assert_close(figures.per_class[f"soft_{name}"], of_classes.double())
    for per in ("dataset", "image", "class"):
        wanted = mean_score(counts, OverlapCounts.iou, per=per)
        assert float(found[f"miou_{per[0]}"]) == pytest.approx(float(wanted))
        soft = mean_score(masses, OverlapMasses.dice, per=per)
        assert float(found[f"soft_dice_{per[0]}"]) == pytest.approx(float(soft))
    for per, name in (("image", "miou_i"), ("class", "miou_c")):
        wanted = mean_score(counts, OverlapCounts.iou, per=per, worst=[10, 5])
        assert [float(found[f"{name}_q{q}"]) for q in (10, 5)] == pytest.approx(wanted.tolist())


def test_adaptive_bins_are_made_anew_for_each_weighting() -> None:
    rng = np.random.default_rng(0)
    fine = calibration(random_bins(rng, 6, num_fine_bins(3)))
    statistics = ImageStatistics(overlap(random_counts(rng, 6, 2)), fine_bins=fine)
    weights = resample(6, 3, seed=0)
    found = weighted_metrics(statistics, weights).metrics["ace_d"]
    for row, value in zip(weights.long(), found, strict=True):
        chosen = torch.arange(6).repeat_interleave(row)
        pooled = fine.apply(partial(torch.index_select, dim=0, index=chosen)).merge_images()
        assert float(value) == pytest.approx(float(equal_mass(pooled, 3).error()))


def test_answers_of_independent_classes() -> None:
    counts = AnswerCounts(*torch.randint(5, 9, (4, 10, 3), generator=torch.manual_seed(0)))
    found = weighted_metrics(ImageStatistics(counts), ones(10)).metrics
    assert float(found["accuracy"]) == pytest.approx(float(counts.accuracy()))


@pytest.mark.parametrize("percent", [1, 5, 10, 50, 100])
def test_worst_images_with_ties_and_however_often_they_are_drawn(percent: int) -> None:
    values = torch.tensor([0.5, 0.1, math.nan, 0.1, 0.9]).double()
    weights = torch.tensor([[0, 200, 7, 0, 1], [30, 0, 0, 0, 30], [0, 0, 5, 0, 0]]).double()
    (found,) = worst_means(values, weights, percent=(percent,))
    for row, value in zip(weights.long(), found, strict=True):
        copies = values.repeat_interleave(row).tolist()
        wanted = figure_loops.worst(copies, percent)
        assert float(value) == pytest.approx(wanted, nan_ok=True)


def test_worst_images_beyond_the_head_of_the_order() -> None:
    """The lowest images are hardly drawn, so that the mean has to look further than usual."""
    values = torch.arange(200).double()
    weights = torch.zeros(1, 200).double()
    weights[0, 100:] = 2
    (found,) = worst_means(values, weights, percent=(5,))
    assert float(found) == pytest.approx(102)  # 100 to 104, twice each


def test_mean_over_images_leaves_out_undefined_ones() -> None:
    values = torch.tensor([1.0, math.nan, 4.0]).double()
    weights = torch.tensor([[1, 5, 1], [1, 0, 2], [0, 3, 0]]).double()
    assert weighted_mean(values, weights).tolist() == pytest.approx([2.5, 3, math.nan], nan_ok=True)


def test_mean_over_images_shows_a_nan_that_is_no_missing_value() -> None:
    values, known = torch.tensor([1.0, math.nan, math.nan]), torch.tensor([True, False, True])
    assert weighted_mean(values, ones(3), valid=known).isnan().all()
    assert weighted_mean(values[:2], ones(2), valid=known[:2]).tolist() == [1]
    bins = random_bins(np.random.default_rng(0), 5, 4)
    bins[:, 0], bins[0, 1] = 0, 3  # no pixels, and some
    counts = overlap(random_counts(np.random.default_rng(0), 5, 2))
    plain = weighted_metrics(ImageStatistics(counts, bins=calibration(bins)), ones(5)).metrics
    assert 0 <= float(plain["ece_i"]) <= 1
    bins[1, 1, 2] = math.nan
    statistics = ImageStatistics(counts, bins=calibration(bins))
    found = weighted_metrics(statistics, ones(5)).metrics
    assert all(found[name].isnan().all() for name in ("ece_i", "ece_d", "mce_d"))
    assert not {"ece_i", "ece_d", "mce_d"} & set(intervals(statistics, resamples=20).metrics)


def test_wrong_weights() -> None:
    statistics = ImageStatistics(overlap(random_counts(np.random.default_rng(0), 3, 2)))
    with pytest.raises(TypeError, match=r"to be float64, but got torch\.float32"):
        weighted_metrics(statistics, torch.ones(1, 3))
    with pytest.raises(ValueError, match=r"with N = 3, like the statistics, but got \(1, 2\)"):
        weighted_metrics(statistics, ones(2))


# Intervals


def test_percentiles_are_those_of_numpy_and_leave_undefined_ones_out() -> None:
    samples = torch.rand(501, 3, generator=torch.Generator().manual_seed(0)).double()
    samples[::7, 1] = math.nan
    samples[:, 2] = math.nan
    found = percentile_interval(samples, level=90)
    wanted = np.nanpercentile(samples[:, :2].numpy(), [5, 95], axis=0).T
    assert found[:2].numpy() == pytest.approx(wanted)
    assert found[2].isnan().all()
    assert percentile_interval(samples[:, 0], level=90).tolist() == found[0].tolist()


@pytest.mark.parametrize("level", [0, 100, -5])
def test_level_is_per_cent(level: float) -> None:
    with pytest.raises(ValueError, match="`level` to be between 0 and 100 per cent, but got"):
        percentile_interval(torch.rand(5).double(), level=level)


def test_interval_is_that_of_the_naive_loop_on_the_same_draws() -> None:
    known = arrays(np.random.default_rng(3), 25, 3)
    draws = resample(25, 200, seed=4)
    loop = [
        naive_figures(known, np.repeat(np.arange(25), row.astype(int))) for row in draws.numpy()
    ]
    found = intervals(statistics_of(known), resamples=200, seed=4, level=80)
    assert set(found.metrics) == {name for name in loop[0] if "_q" not in name}
    plain = naive_figures(known, np.arange(25))
    for name, interval in found.metrics.items():
        wanted = np.nanpercentile([figures[name] for figures in loop], [10, 90])
        if name in ERRORS:  # mirrored squares
            reach = np.abs(wanted**2 - plain[name] ** 2).max()
            wanted = np.sqrt((plain[name] ** 2 + np.array([-reach, reach])).clip(0, 1))
        assert interval == pytest.approx(tuple(wanted), abs=1e-6), name


@pytest.mark.parametrize("name", ["miou_d", "miou_i", "accuracy", "ece_i"])
def test_interval_agrees_with_scipy(name: str) -> None:
    known = arrays(np.random.default_rng(5), 40, 3)

    def statistic(chosen: NDArray[np.int64]) -> float:
        part = known["bins" if name == "ece_i" else "counts"][:, chosen]
        figures = figure_loops.bin_figures if name == "ece_i" else figure_loops.overlap_figures
        return figures(part)[name]

    theirs = stats.bootstrap(
        (np.arange(40),), statistic, vectorized=False, n_resamples=1000, method="percentile", rng=0
    )
    own = intervals(statistics_of(known)).metrics[name]
    # The end of an interval of R resamples has a standard error of 2.7 sd / sqrt(R).
    allowed = 4 * 2.7 * theirs.standard_error / math.sqrt(1000)
    assert own == pytest.approx(tuple(theirs.confidence_interval), abs=allowed)
    assert allowed < 0.2 * (own[1] - own[0])


def test_interval_covers_a_known_mean() -> None:
    """95 % of the data sets have an interval that holds the mean of the world they come from."""
    scores = np.random.default_rng(0).beta(5, 2, (60, 1000))  # images, data sets; the mean is 5 / 7
    drawn = weighted_mean(torch.from_numpy(scores), resample(60, 2000, seed=0))
    low, high = percentile_interval(drawn).unbind(1)
    covered = float(((low <= 5 / 7) & (high >= 5 / 7)).double().mean())
    assert 0.92 < covered < 0.97


def test_equal_images_have_an_interval_without_width() -> None:
    known = arrays(np.random.default_rng(1), 5, 3)
    known = {name: np.repeat(x.take([0], _axis(name)), 8, _axis(name)) for name, x in known.items()}
    statistics = statistics_of(known)
    plain = weighted_metrics(statistics, ones(8)).metrics
    found = intervals(statistics, resamples=50).metrics
    assert len(found) > 15
    for name, (low, high) in found.items():
        assert low == pytest.approx(float(plain[name]), abs=1e-12), name
        assert high == pytest.approx(low, abs=1e-12), name


def test_mirrored_interval_by_hand() -> None:
    samples = torch.linspace(0.3, 0.5, 3).double().unsqueeze(1)
    # Percentiles 25 and 75 are 0.35 and 0.45: 0.4 is in the middle, 0.3 is 0.15 from the upper one.
    found = mirrored_interval(samples, torch.tensor([0.3]), level=50)
    assert found[0].tolist() == pytest.approx([0.15, 0.45])
    found = mirrored_interval(samples[:, 0], torch.tensor(0.4), level=50, power=2)
    squares = [0.4**2 - (0.4**2 - 0.35**2), 0.4**2 + (0.45**2 - 0.4**2)]
    reach = max(0.4**2 - squares[0], squares[1] - 0.4**2)
    assert found.tolist() == pytest.approx([(0.16 - reach) ** 0.5, (0.16 + reach) ** 0.5])
    ends = mirrored_interval(samples[:, 0], torch.tensor(0.95), level=50)
    assert ends.tolist() == pytest.approx([0.35, 1])  # cut
    assert mirrored_interval(torch.nan * samples, torch.tensor([0.3])).isnan().all()


def calibration_world(
    rng: np.random.Generator, N: int, overconfidence: float, *, pixels: int = 300
) -> Array:
    """Bins (3, N, 15) of images; how sure a model may be differs from one to the next."""
    confidence = 0.15 + 0.85 * rng.beta(2, 1, (N, pixels))
    image = np.where(overconfidence > 0, 0.1, 0) * rng.standard_normal((N, 1)) * (1 - confidence)
    right = rng.random((N, pixels)) < confidence - overconfidence + image
    index = np.minimum((15 * confidence).astype(int), 14) + 15 * np.arange(N)[:, None]
    weights = (np.ones_like(confidence), confidence, right.astype(float))
    return np.stack([np.bincount(index.ravel(), x.ravel(), 15 * N).reshape(N, 15) for x in weights])


@pytest.mark.parametrize("overconfidence", [0.0, 0.02, 0.1])
@pytest.mark.parametrize("N", [20, 60])
def test_intervals_cover_the_calibration_error_of_the_population(
    overconfidence: float, N: int
) -> None:
    """Binomial: 80 data sets at 95 % have 76 +- 2 hits; the percentile interval has 0 at N = 60."""
    rng = np.random.default_rng(0)
    world = calibration_world(rng, 20_000, overconfidence).sum(1)
    truth = figure_loops.error(world) if overconfidence else 0.0
    hits = 0
    counts = overlap(random_counts(rng, N, 2))
    for _ in range(80):
        bins = calibration(calibration_world(rng, N, overconfidence))
        statistics = ImageStatistics(counts, bins=bins)
        low, high = intervals(statistics, resamples=300).metrics["ece_d"]
        assert low <= float(bins.merge_images().error()) <= high
        hits += low <= truth <= high
    assert hits >= 72
    assert high - low < 0.1


def test_calibrated_model_has_errors_of_chance_alone() -> None:
    """Every percentile interval of an error lies above the estimate itself, or nearly so."""
    bins = calibration_world(np.random.default_rng(1), 60, 0.0)
    classes = np.stack([bins, calibration_world(np.random.default_rng(2), 60, 0.0)], 2)
    counts = overlap(random_counts(np.random.default_rng(0), 60, 2))
    statistics = ImageStatistics(
        counts, bins=calibration(bins), class_bins=calibration(classes),
        boundary_bins=calibration(bins),
    )  # fmt: skip
    drawn, plain = bootstrap_metrics(statistics), weighted_metrics(statistics, ones(60))
    assert float(percentile_interval(drawn.metrics["cece_d"])[0]) > float(plain.metrics["cece_d"])
    found = intervals(statistics)
    for name in ERRORS:
        low, high = found.metrics[name]
        assert low <= float(plain.metrics[name]) <= high, name
    assert found.metrics["ece_d"][0] == found.metrics["cece_d"][0] == 0
    for pair, error in zip(found.per_class["cece"], plain.per_class["cece"][0], strict=True):
        assert pair is not None
        assert 0 == pair[0] < float(error) < pair[1]


@given(st.integers(0, 2**32 - 1))
@settings(max_examples=25)
def test_intervals_hold_the_estimate(seed: int) -> None:
    rng = np.random.default_rng(seed)
    statistics = statistics_of(arrays(rng, int(rng.integers(120, 140)), 3))
    plain = weighted_metrics(statistics, ones(statistics.num_images)).metrics
    found = intervals(statistics, resamples=400)
    assert {"miou_i_q10", *ERRORS} < set(found.metrics)
    for name, (low, high) in found.metrics.items():
        assert low - 1e-9 <= float(plain[name]) <= high + 1e-9, name


def world_of_scores(rng: np.random.Generator, N: int) -> OverlapCounts:
    """Counts (N, 2) whose IoU are nearly beta(5, 2), in the first class alone."""
    right = (1e6 * rng.beta(5, 2, (N, 1)) * [1, 0]).astype(int)
    there = np.full((N, 1), 10**6) * [1, 0]
    return overlap(np.stack([right, right, there]).astype(np.float64))


def test_worst_cases_of_few_images_have_no_interval() -> None:
    rng = np.random.default_rng(0)
    kept = {20: set(), 90: set(), 91: {"10"}, 180: {"10"}, 181: {"10", "5"}, 200: {"10", "5"}}
    for N, percent in kept.items():
        found = intervals(ImageStatistics(world_of_scores(rng, N)), resamples=50).metrics
        wanted = {f"miou_{per}_q{q}" for per in "ic" for q in percent}
        assert {name for name in found if "_q" in name} == wanted
        assert "miou_d" in found


def test_worst_cases_count_the_images_that_have_a_score() -> None:
    counts = np.ones((3, 300, 3))
    counts[:, 50:, 1] = 0  # a class of 50 images
    counts[:, :, 2] = 0  # and one of none
    counts[:, 250:] = 0  # images without labels
    assert worst_group_sizes(overlap(counts)) == {
        "miou_i_q10": 25, "miou_c_q10": 5, "miou_i_q5": 13, "miou_c_q5": 3
    }  # fmt: skip
    assert set(worst_group_sizes(overlap(0 * counts)).values()) == {0}


def test_intervals_cover_the_worst_images_of_the_population() -> None:
    rng = np.random.default_rng(0)
    world = np.sort(rng.beta(5, 2, 10**6))
    truth, hits = world[: 10**5].mean(), 0
    for _ in range(80):
        statistics = ImageStatistics(world_of_scores(rng, 200))
        low, high = intervals(statistics, resamples=300).metrics["miou_i_q10"]
        hits += low <= truth <= high
    assert hits >= 69


def _axis(name: str) -> int:
    """Where the images are."""
    return 0 if name in ("pixels", "energy") else 1


def test_of_one_image_nothing_can_be_said() -> None:
    found = intervals(statistics_of(arrays(np.random.default_rng(0), 1, 3)))
    assert (found.metrics, found.per_class) == ({}, {})


def test_undefined_figures_have_no_interval() -> None:
    counts = random_counts(np.random.default_rng(0), 6, 3)
    counts[:, :, 1] = 0  # a class that never occurs
    found = intervals(ImageStatistics(overlap(counts)), resamples=20)
    low, high = found.per_class["iou"][0] or (math.nan, math.nan)
    assert 0 <= low < high <= 1
    assert found.per_class["iou"][1] is None
    nothing = intervals(ImageStatistics(overlap(0 * counts)), resamples=20)
    assert nothing.metrics == {}


def test_parts_decide_which_figures_there_are() -> None:
    known = arrays(np.random.default_rng(0), 6, 3)
    found = intervals(ImageStatistics(overlap(known["counts"])), resamples=20)
    assert set(found.per_class) == {"iou", "iou_c", "dice", "accuracy"}
    wanted = figure_loops.overlap_figures(known["counts"])
    assert set(found.metrics) == {name for name in wanted if "_q" not in name}


def test_same_seed_same_result_in_any_chunks(monkeypatch: pytest.MonkeyPatch) -> None:
    statistics = statistics_of(arrays(np.random.default_rng(0), 12, 3))
    whole = bootstrap_metrics(statistics, resamples=100, seed=5)
    monkeypatch.setattr("softiou.resampling.bootstrap._CHUNK", 200)
    parts = bootstrap_metrics(statistics, resamples=100, seed=5)
    for name, values in _all(whole).items():
        assert torch.allclose(_all(parts)[name], values, atol=1e-12, equal_nan=True), name
    other = bootstrap_metrics(statistics, resamples=100, seed=6)
    assert not torch.equal(other.metrics["miou_d"], whole.metrics["miou_d"])


def test_groups_are_drawn_as_one() -> None:
    statistics = statistics_of(arrays(np.random.default_rng(1), 8, 3))
    alone = bootstrap_metrics(statistics, resamples=50, seed=3)
    each = bootstrap_metrics(statistics, resamples=50, seed=3, groups=torch.arange(8))
    # Every image three times, apart from each other: what is drawn is the same, three times over.
    copies = statistics.apply(lambda x: torch.cat([x, x, x]))
    groups = torch.arange(8, dtype=torch.int32).repeat(3)
    grouped = bootstrap_metrics(copies, resamples=50, seed=3, groups=groups)
    for name, values in _all(alone).items():
        assert torch.equal(_all(each)[name].nan_to_num(-1), values.nan_to_num(-1)), name
        if "_q" not in name:  # of 24 images the worst tenth is not three times that of 8
            assert torch.allclose(_all(grouped)[name], values, atol=1e-12, equal_nan=True), name
    apart = bootstrap_metrics(copies, resamples=50, seed=3).metrics["miou_d"]
    assert apart.std() < 0.8 * alone.metrics["miou_d"].std()  # of 24 images, as if all differed


@pytest.mark.parametrize(
    "groups",
    [torch.arange(7), torch.tensor([0, 1, 3, 3]), torch.tensor([-1, 0, 1, 1]), torch.zeros(4)],
)
def test_groups_are_numbered_without_a_gap(groups: Tensor) -> None:
    statistics = statistics_of(arrays(np.random.default_rng(0), 4, 2))
    with pytest.raises(ValueError, match="4 integers, one for each image"):
        bootstrap_metrics(statistics, resamples=5, groups=groups)


def _all(figures: MetricValues) -> dict[str, Tensor]:
    return {**figures.metrics} | {f"class {n}": x for n, x in figures.per_class.items()}


def test_ten_thousand_resamples_are_quick() -> None:
    """In processor time, for all figures of 500 images and 19 classes; half of it is usual.

    Once of three times: a neighbour on the same core makes any one of them slow.
    """
    known = arrays(np.random.default_rng(0), 500, 19)
    statistics = statistics_of(known)
    bootstrap_metrics(statistics, resamples=10)

    def seconds() -> float:
        start = time.process_time()
        intervals(statistics)
        return time.process_time() - start

    assert any(seconds() < 2 for _ in range(3))


# What is known of the images


def test_images_of_an_evaluation() -> None:
    images: list[dict[str, Any]] = [
        {
            "stem": "a",
            "counts": {"0": [1, 2, 3], "2": [4, 5, 6]},
            "bins": {"count": [1, 0], "confidence": [0.25, 0], "correct": [1, 0]},
            "brier": 0.5,
            "nll": 0.25,
            "pixels": 9,
            "boundary_counts": {"1": [1, 1, 1]},
            "boundary_bins": {"count": [0, 2], "confidence": [0, 1.5], "correct": [0, 1]},
        },
        {
            "stem": "b",
            "counts": {},
            "bins": {"count": [0, 3], "confidence": [0, 2.5], "correct": [0, 3]},
            "brier": 0,
            "nll": 0,
            "pixels": 0,
            "boundary_counts": {},
        },
    ]
    found = listed_statistics(images, num_classes=3)
    assert found.num_images == 2
    assert found.width == 3
    assert found.counts.true_positives.tolist() == [[1, 0, 4], [0, 0, 0]]
    assert found.counts.predicted.tolist() == [[2, 0, 5], [0, 0, 0]]
    assert found.counts.present.tolist() == [[3, 0, 6], [0, 0, 0]]
    assert found.bins is not None
    assert found.bins.count.tolist() == [[1, 0], [0, 3]]
    assert found.bins.confidence.tolist() == [[0.25, 0], [0, 2.5]]
    assert found.bins.correct.tolist() == [[1, 0], [0, 3]]
    assert found.boundary is not None
    assert found.boundary.present.tolist() == [[0, 1, 0], [0, 0, 0]]
    assert found.boundary_bins is None  # the second image has none
    assert found.nll is not None
    assert found.nll.tolist() == [0.25, 0]
    assert found.pixels is not None
    assert found.pixels.tolist() == [9, 0]


def test_null_of_an_evaluation_is_nan() -> None:
    """As a model writes that gave NaN in the second image."""
    bins = {"count": [2, 1], "confidence": [0.5, 1.0], "correct": [1, 1]}
    images: list[dict[str, Any]] = [
        {"counts": {}, "bins": bins, "brier": 0.5, "nll": 0.25, "pixels": 3},
        {"counts": {}, "bins": bins | {"confidence": [None, 1.0]}, "brier": None, "nll": None,
         "pixels": 3},
    ]  # fmt: skip
    found = listed_statistics(images, num_classes=2)
    assert found.bins is not None
    assert found.brier is not None
    assert found.nll is not None
    assert found.bins.confidence[0].tolist() == [0.5, 1.0]
    assert found.bins.confidence.isnan().tolist() == [[False, False], [True, False]]
    assert found.brier.isnan().tolist() == found.nll.isnan().tolist() == [False, True]
    figures = weighted_metrics(found, ones(2)).metrics
    assert all(figures[name].isnan().all() for name in ("ece_d", "ece_i", "brier", "nll"))


def test_sums_without_pixels_are_left_out() -> None:
    images = [{"counts": {}, "brier": 1.0, "nll": 2.0}]
    found = listed_statistics(images, num_classes=2)
    assert (found.brier, found.nll, found.pixels) == (None, None, None)
    assert listed_statistics([], num_classes=2).num_images == 0


def test_pass_over_the_pixels_gives_the_figures_of_the_metrics() -> None:
    generator = torch.Generator().manual_seed(0)
    metric = EvaluationScores(num_classes=3)
    probs = torch.rand(4, 3, 6, 6, generator=generator).double().softmax(1)
    target = torch.randint(0, 3, (4, 6, 6), generator=generator)
    metric.update(probs, target)
    decoded = decode_target(target, num_classes=3)
    statistics = gather_image_statistics(probs, probs.argmax(1), decoded, num_classes=3)
    found = weighted_metrics(statistics, ones(4)).metrics
    wanted = {name: float(value) for name, value in metric.compute().items()}
    assert {name: float(found[name]) for name in wanted} == pytest.approx(wanted)


def test_parts_must_fit_together() -> None:
    known = arrays(np.random.default_rng(0), 3, 2)
    counts = overlap(known["counts"])
    with pytest.raises(ValueError, match=r"`bins_count` to have 3 images.*got \(2, 5\)"):
        ImageStatistics(counts, bins=calibration(known["bins"][:, :2]))
    with pytest.raises(ValueError, match="`pixels` together with `brier` and `nll`, but got None"):
        ImageStatistics(counts, nll=torch.zeros(3))
