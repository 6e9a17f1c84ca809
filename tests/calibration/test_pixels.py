"""Pixels to calibrate on: which ones, and that their logits are those of the whole image."""

from typing import Any

import pytest
import torch
from torch import Tensor

from inference.tiny_models import TinyModel, strided
from softiou.calibration import sample_pixels
from softiou.calibration.pixels import draw_pixels, logits_at
from softiou.data import DatasetDescription, DigitScenes
from softiou.data.base import valid_pixels
from softiou.errors import CheckpointError, DataError
from softiou.inference import predict_logits
from softiou.models import ModelSpec, SegmentationModel

CLASSES = DatasetDescription(("ground", "box", "disc"))


class _Digits(DigitScenes):
    """Three small scenes; the first has all its labels, the second few and the third none."""

    def __getitem__(self, index: int) -> Any:
        sample = super().__getitem__(index)
        target = sample["target"].clone()
        if index == 1:
            target[..., 2:, :] = 255
        if index == 2:
            target.fill_(255)
        return sample | {"target": target}


@pytest.fixture(scope="module")
def model() -> TinyModel:
    torch.manual_seed(0)
    return strided(11)


@pytest.mark.parametrize("size", [(1, 1), (33, 47), (64, 40)])
@pytest.mark.parametrize("real", [False, True])
def test_logits_are_those_of_the_whole_image(size: tuple[int, int], real: bool) -> None:
    spec = ModelSpec("fpn", "tu-test_efficientnet", 3)
    model = SegmentationModel(spec).eval() if real else strided()
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    places = torch.randperm(size[0] * size[1])
    found = logits_at(model, image, places, precision="fp32")
    expected = predict_logits(model, image, precision="fp32").flatten(1).T[places]
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-4)


def test_valid_pixels_of_hard_and_soft_targets() -> None:
    hard = torch.tensor([[0, 255], [2, 1]])
    assert valid_pixels(hard, CLASSES).tolist() == [[True, False], [True, True]]
    soft = torch.tensor([[[0.5, 255.0]], [[0.5, 255.0]], [[0.0, 255.0]]])
    assert valid_pixels(soft, CLASSES).tolist() == [[True, False]]


def test_draw_is_even_without_return_and_repeatable() -> None:
    valid = torch.zeros(40, 50, dtype=torch.bool)
    valid[10:30] = True
    places = draw_pixels(valid, 300, (0, 7))
    assert len(places) == len(set(places.tolist())) == 300
    assert valid.flatten()[places].all()
    assert torch.equal(places, places.sort().values)
    assert torch.equal(places, draw_pixels(valid, 300, (0, 7)))
    assert not torch.equal(places, draw_pixels(valid, 300, (0, 8)))
    assert not torch.equal(places, draw_pixels(valid, 300, (1, 7)))
    assert places.double().mean() == pytest.approx(1000, abs=60)  # five standard errors
    assert draw_pixels(valid, 5000, (0, 7)).tolist() == list(range(500, 1500))


@pytest.mark.parametrize("labels", ["hard", "soft"])
def test_as_many_pixels_of_each_image_with_their_truth(model: TinyModel, labels: Any) -> None:
    scenes = _Digits("val", labels=labels, size=3)
    pixels = sample_pixels(model, scenes, precision="fp32", most=600)
    assert len(pixels.logits) == len(pixels.target) == 200 + 128  # two rows of the second
    assert pixels.logits.shape[1] == 11
    assert pixels.logits.dtype == torch.float32
    _assert_belong(pixels.logits[200:], pixels.target[200:], model, scenes[1])


def _assert_belong(logits: Tensor, target: Tensor, model: TinyModel, sample: Any) -> None:
    """The second scene was taken whole: all that counts, in order."""
    whole = predict_logits(model, sample["image"], precision="fp32")
    torch.testing.assert_close(logits, whole[:, :2].flatten(1).T, rtol=1e-4, atol=1e-4)
    truth = sample["target"][..., :2, :].flatten(-2)
    assert torch.equal(target, truth if truth.ndim == 1 else truth.T)


def test_an_image_gives_the_same_pixels_whatever_comes_before(model: TinyModel) -> None:
    scenes = DigitScenes("val", size=4)
    first = sample_pixels(model, scenes, precision="fp32", most=400)
    again = sample_pixels(model, scenes, precision="fp32", most=400, samples=iter(scenes))
    assert torch.equal(first.logits, again.logits)
    other = sample_pixels(model, scenes, precision="fp32", most=400, seed=1)
    assert not torch.equal(first.target, other.target)


def test_votes_are_shares(model: TinyModel) -> None:
    scenes = DigitScenes("val", size=1)
    sample = scenes[0]
    votes = torch.stack([sample["target"], (sample["target"] + 1) % 11])
    voted: Any = [sample | {"target": votes}]
    pixels = sample_pixels(model, scenes, precision="fp32", samples=voted)
    assert pixels.target.shape == (4096, 11)
    assert set(pixels.target.flatten().tolist()) == {0, 0.5}


def test_data_without_labels_are_refused(model: TinyModel) -> None:
    scenes = _Digits("val", size=3)
    unlabelled: Any = [scenes[2]]
    with pytest.raises(DataError, match=r"'val' has no labelled pixel .* --split"):
        sample_pixels(model, scenes, precision="fp32", samples=unlabelled)


def test_model_that_predicts_nan_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(
        "softiou.calibration.pixels.logits_at",
        lambda *_, **__: torch.tensor([[0.0, torch.nan, 1.0]]),
    )
    scenes = DigitScenes("val", labels="hard", size=1)
    with pytest.raises(CheckpointError, match="are NaN or infinite: its training has diverged"):
        sample_pixels(strided(11), scenes, precision="fp32")
