"""Tone, blur, lost bands and noise: what changes, by how much, and what stays."""

import math

import pytest
import torch

from softiou.data.sensors import SensorNoise

NAN = float("nan")


@pytest.fixture
def strongest(monkeypatch: pytest.MonkeyPatch) -> None:
    """Draw the largest of every range."""
    monkeypatch.setattr(torch.Tensor, "uniform_", lambda tensor, low, high: tensor.fill_(high))


def test_nothing_is_nothing() -> None:
    image = torch.zeros(3, 2, 2, dtype=torch.uint8)
    before = torch.random.get_rng_state()
    assert SensorNoise()(image) is image
    assert torch.equal(torch.random.get_rng_state(), before)


@pytest.mark.usefixtures("strongest")
def test_gamma_by_hand() -> None:
    image = torch.tensor([0, 51, 255], dtype=torch.uint8).view(1, 1, 3)
    changed = SensorNoise(gamma=math.log(2))(image)  # squares
    assert changed.flatten().tolist() == [0, 10, 255]
    bands = torch.tensor([-0.5, 0.5, 2.0]).view(1, 1, 3)  # beyond the range, too
    torch.testing.assert_close(
        SensorNoise(gamma=math.log(2))(bands).flatten(), torch.tensor([-0.5, 0.25, 4.0])
    )


@pytest.mark.usefixtures("strongest")
def test_blur_is_a_gaussian() -> None:
    image = torch.zeros(1, 21, 21)
    image[0, 10, 10] = 1
    row = SensorNoise(blur=1.5)(image)[0].sum(0)
    steps = torch.arange(-5, 6)
    expected = torch.exp(-steps.square() / (2 * 1.5**2))
    torch.testing.assert_close(row[5:16], expected / expected.sum(), atol=1e-5, rtol=0)


def test_blur_of_the_smallest_image() -> None:
    image = torch.full((3, 1, 2), 7, dtype=torch.uint8)
    assert torch.equal(SensorNoise(blur=16.0)(image), image)


@pytest.mark.usefixtures("strongest")
def test_noise_has_its_deviation() -> None:
    image = torch.full((3, 64, 64), 128, dtype=torch.uint8)
    values = SensorNoise(noise=0.1)(image).float()
    assert float(values.std()) == pytest.approx(25.5, rel=0.05)
    assert float(values.mean()) == pytest.approx(128, abs=1)


def test_one_band_is_lost_as_often_as_said() -> None:
    image = torch.rand(4, 8, 8)
    lost = [
        (SensorNoise(channel_dropout=0.25)(image).flatten(1).std(dim=1) < 1e-6).sum().item()
        for _ in range(400)
    ]
    assert set(lost) == {0, 1}
    assert sum(lost) / 400 == pytest.approx(0.25, abs=0.1)


def test_missing_values_stay_missing_and_spread_nowhere() -> None:
    image = torch.rand(2, 9, 9)
    image[0, 4, 4] = NAN
    changed = SensorNoise(0.3, 2.0, 0.5, 0.1)(image)
    assert torch.equal(changed.isnan(), image.isnan())
