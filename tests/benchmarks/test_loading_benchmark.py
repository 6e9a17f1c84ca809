"""The loader beside plain loops: all do the same work."""

from pathlib import Path

import pytest
import torch

from benchmarks import loading


def test_all_load_batches_of_the_same_shape(tmp_path: Path) -> None:
    loading.write_images(tmp_path, (160, 120), count=3)
    batch = loading.ours(tmp_path, (32, 48))(0)
    for other in (loading.plain, loading.opencv):
        images, labels = other(tmp_path, (32, 48))(0)
        assert batch["image"].shape == images.shape == (8, 3, 32, 48)
        assert batch["image"].dtype == images.dtype == torch.uint8
        assert batch["target"].shape == labels.shape == (8, 32, 48)
        assert batch["target"].dtype == labels.dtype == torch.int64


def test_rates_are_counted_of_all() -> None:
    found = loading.measure((160, 120), (32, 48), rounds=2)
    assert found["ratio"] == found["softiou"] / found["loop"] > 0
    assert found["ratio_to_albumentations"] == found["softiou"] / found["albumentations"] > 0


@pytest.mark.slow
def test_a_start_is_measured_with_and_without_what_is_remembered() -> None:
    found = loading.measure_start(200, rounds=1)
    assert set(found) == {"nothing_remembered", "first", "other"}
    for one in found.values():
        assert 0 < one["open_cpu_s"] <= one["cpu_s"]
        assert one["resident_mb"] < 100
