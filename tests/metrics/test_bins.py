import numpy as np
import pytest
import torch
from hypothesis import given
from hypothesis import strategies as st
from torch import Tensor

from softiou.metrics import CalibrationBins
from softiou.metrics.bins import PARTS, TAIL, equal_mass, equal_width, fine_bins, num_fine_bins


def bins_of(confidence: Tensor, correct: Tensor, num_bins: int) -> CalibrationBins:
    """Fine bins (1, F) of some pixels (P,)."""
    pixels = CalibrationBins(
        torch.ones(1, len(confidence), dtype=torch.int64),
        confidence.double().unsqueeze(0),
        correct.double().unsqueeze(0),
    )
    return pixels.merge(fine_bins(confidence, num_bins).unsqueeze(0), num_fine_bins(num_bins))


def counts(*of_bins: int) -> CalibrationBins:
    count = torch.tensor([of_bins])
    return CalibrationBins(count, count.double(), count.double())


# Values by hand


def test_fine_bins_by_hand() -> None:
    """One bin has 16 parts, the last of which, from 15/16, is halved towards 1 again and again."""
    p = torch.tensor([0.0, 1 / 16, 0.5, 0.5 - 1e-7, 15 / 16, 31 / 32, 63 / 64, 1.0])
    assert fine_bins(p, 1).tolist() == [0, 1, 8, 7, 15, 15, 16, 31]
    assert fine_bins(torch.tensor([31 / 32 + 1e-6]), 1).tolist() == [16]


def test_what_is_no_probability_is_in_the_outer_bins() -> None:
    p = torch.tensor([-0.5, 1.5, float("nan"), float("inf")])
    assert fine_bins(p, 2).tolist() == [0, 47, 0, 47]


def test_bins_of_equal_width_by_hand() -> None:
    p = torch.tensor([0.1, 0.3, 0.30001, 0.95, 1.0])
    fine = bins_of(p, torch.tensor([0, 1, 1, 1, 0]), 4)
    found = equal_width(fine)
    assert found.count.tolist() == [[1, 2, 0, 2]]
    assert found.correct.tolist() == [[0, 2, 0, 1]]
    assert found.confidence[0].tolist() == pytest.approx([0.1, 0.60001, 0, 1.95])
    assert equal_width(fine, 2).count.tolist() == [[3, 2]]
    assert found.error().item() == pytest.approx((0.1 + (2 - 0.60001) + 0.95) / 5)
    assert found.largest_error().item() == pytest.approx((2 - 0.60001) / 2)


def test_bins_of_equal_mass_by_hand() -> None:
    """Ranks of the middles: 1.5, 4, 5.5, 8 of 10 pixels, in two halves."""
    found = equal_mass(counts(3, 2, 1, 4), 2)
    assert found.count.tolist() == [[5, 5]]
    assert equal_mass(counts(0, 1, 0, 1), 2).count.tolist() == [[1, 1]]
    assert equal_mass(counts(10, 0, 0, 1), 3).count.tolist() == [[0, 10, 1]]
    assert equal_mass(counts(0, 0), 3).count.tolist() == [[0, 0, 0]]


# References and properties


@given(st.integers(0, 2**32 - 1), st.integers(1, 20), st.sampled_from(["float32", "float64"]))
def test_fine_bins_refine_those_of_equal_width(seed: int, num_bins: int, dtype: str) -> None:
    rng = np.random.default_rng(seed)
    edges = np.arange(num_bins + 1) / num_bins
    p = np.concatenate([rng.random(50), 1 - rng.random(20) ** 9, edges]).astype(dtype)
    p = np.concatenate([p, np.nextafter(p, np.float32(0), dtype=dtype)])
    p = np.sort(p.clip(0, 1))
    fine = fine_bins(torch.from_numpy(p), num_bins)
    assert bool((fine.diff() >= 0).all())
    assert 0 <= int(fine.min()) <= int(fine.max()) < num_fine_bins(num_bins)
    wide = equal_width(bins_of(torch.from_numpy(p), torch.zeros(len(p)), num_bins))
    expected = np.bincount(
        np.minimum((p.astype(np.float64) * num_bins).astype(int), num_bins - 1), minlength=num_bins
    )
    assert wide.count[0].tolist() == expected.tolist()


def test_bins_of_equal_mass_hold_as_many_pixels_each() -> None:
    """Where most of the pixels are all but sure, as those of a trained model."""
    p = 1 - torch.rand(100_000, dtype=torch.float64) ** 5 / 2
    fine = bins_of(p, torch.bernoulli(p), 15)
    mass = equal_mass(fine, 15)
    wide = equal_width(fine)
    share = mass.count[0, :-1] / len(p)
    assert wide.count.max() > 0.6 * len(p)
    assert share.sub(1 / 15).abs().max() < 0.03


def test_error_of_equal_mass_agrees_with_sorting() -> None:
    """The reference cuts the sorted pixels; fine bins move the cuts by a few pixels."""
    p = 0.5 + 0.5 * torch.rand(100_000, dtype=torch.float64)
    correct = torch.bernoulli(p**2)
    order = p.argsort()
    parts = zip(p[order].chunk(10), correct[order].chunk(10), strict=True)
    expected = sum(abs(float((y - q).sum())) for q, y in parts) / len(p)
    found = equal_mass(bins_of(p, correct, 15), 10).error().item()
    assert found == pytest.approx(expected, abs=1e-3)
    assert expected > 0.15


# Nothing there, and what is no number


def test_without_pixels_errors_are_nan() -> None:
    assert bool(counts(0, 0).error().isnan().all())
    assert bool(counts(0, 0).largest_error().isnan().all())


def test_nan_is_not_lost_in_the_maximum() -> None:
    bins = CalibrationBins(
        torch.tensor([[1, 1, 0]]), torch.tensor([[float("nan"), 1, 0]]), torch.zeros(1, 3)
    )
    assert bool(bins.largest_error().isnan().all())
    assert bool(bins.error().isnan().all())


def test_wrong_numbers_of_bins_raise() -> None:
    fine = counts(*[1] * (6 * PARTS + TAIL))
    with pytest.raises(ValueError, match=r"`num_bins` to divide 6, .* but got 4"):
        equal_width(fine, 4)
    with pytest.raises(ValueError, match=r"`num_bins` to be at least 1"):
        equal_width(fine, 0)
    with pytest.raises(ValueError, match=r"`num_bins` to be at least 1"):
        equal_mass(fine, 0)
