"""Images of rare classes are drawn more often."""

from collections import Counter

import numpy as np
import pytest
import torch

from softiou.data import (
    Augmentation,
    CustomDataset,
    DatasetDescription,
    TrainingStream,
    repeat_factors,
)
from softiou.data.repeating import repeated

DESCRIPTION = DatasetDescription(("common", "rare", "never"), ignore_index=255)


def dataset(*targets: torch.Tensor) -> CustomDataset:
    """A data set of black images."""
    image = torch.zeros(3, 4, 4, dtype=torch.uint8)
    samples = [{"image": image, "target": target} for target in targets]
    return CustomDataset(samples, DESCRIPTION, "train")  # type: ignore[arg-type]


def hard(*classes: int) -> torch.Tensor:
    """Labels (4, 4) that contain some values, and 255 elsewhere."""
    labels = torch.full((16,), 255)
    labels[: len(classes)] = torch.tensor(classes)
    return labels.view(4, 4)


def soft(*classes: int) -> torch.Tensor:
    """The same as `hard`, as probabilities (3, 4, 4)."""
    labels = hard(*classes)
    one_hot = torch.nn.functional.one_hot(labels.where(labels != 255, 0), 3).movedim(-1, 0)
    return one_hot.float().where(labels != 255, 255.0)


@pytest.mark.parametrize("kind", [hard, soft])
def test_factors_are_the_roots_of_the_ratios(kind: object) -> None:
    assert callable(kind)
    found = repeat_factors(dataset(*(kind(0) for _ in range(7)), kind(0, 1)), threshold=0.5)
    assert found.tolist() == [1] * 7 + [2]  # sqrt(0.5 / (1 / 8))


def test_an_image_without_labels_has_factor_1() -> None:
    assert repeat_factors(dataset(hard(0), hard()), threshold=1.0).tolist() == [2**0.5, 1]


def test_expected_counts_are_proportional_to_the_factors() -> None:
    factors = np.array([1.0, 1.0, 2.0, 4.0])
    counts = np.zeros(4)
    for epoch in range(4000):
        drawn = np.bincount(repeated(factors, seed=(epoch,)), minlength=4)
        assert (abs(drawn - 4 * factors / 8) < 1).all()
        counts += drawn / 4000
    np.testing.assert_allclose(counts, 4 * factors / 8, atol=0.02)


def test_equal_factors_draw_each_once() -> None:
    for epoch in range(100):
        assert repeated(np.ones(7), seed=(epoch,)).tolist() == list(range(7))


def test_the_stream_draws_them_in_any_order() -> None:
    samples = dataset(*(hard(0) for _ in range(7)), hard(0, 1))
    factors = np.array([1.0] * 7 + [8.0])

    def stream() -> TrainingStream:
        return TrainingStream(samples, Augmentation((4, 4)), seed=3, factors=factors)

    stems = [stream()[draw]["stem"] for draw in range(32)]  # a new stream for each draw
    assert stems == [one["stem"] for one in map(stream().__getitem__, range(32))]
    counts = Counter(stems)
    assert counts[samples.stems[7]] in range(16, 20)  # 8 / 15 of 32, in each epoch 4 or 5
    assert [stems[0:8], stems[8:16]] != [stems[8:16], stems[16:24]]
