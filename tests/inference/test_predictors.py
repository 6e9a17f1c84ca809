"""What stands between images and probabilities, and that windows are laid around anything."""

import subprocess
import sys

import torch
from torch import Tensor

from inference.tiny_models import pointwise, strided
from softiou.inference import (
    WHOLE_IMAGE,
    InferenceSettings,
    ModelPredictor,
    predict_bands,
    probability_bands,
)
from softiou.temperature import LogitScaling


class Brightness:
    """Two classes: how bright a pixel is, and how dark."""

    num_classes, device = 2, torch.device("cpu")

    def probs(self, images: Tensor, size: tuple[int, int]) -> Tensor:
        assert images.shape[-2:] == size
        bright = images.float().mean(1, keepdim=True) / 255
        return torch.cat([bright, 1 - bright], dim=1)


def test_anything_can_predict_in_windows() -> None:
    image = torch.randint(0, 256, (3, 50, 70), dtype=torch.uint8)
    settings = InferenceSettings(window_px=(16, 24), flips=True, batch_size=3)
    bands = list(probability_bands(Brightness(), image, settings=settings))
    assert len(bands) > 1
    found = torch.cat([probs for _, probs in bands], dim=1)
    torch.testing.assert_close(found[0], image.float().mean(0) / 255)
    assert [rows.start for rows, _ in bands[1:]] == [rows.stop for rows, _ in bands[:-1]]


def test_a_model_is_a_predictor() -> None:
    model, scaling = pointwise(), LogitScaling("temperature", (3.0,))
    predictor = ModelPredictor(model, "fp32", scaling)
    assert (predictor.num_classes, predictor.device) == (3, torch.device("cpu"))
    images = torch.rand(2, 3, 9, 5)
    with torch.inference_mode():
        expected = (3 * model.predict_logits(images)).softmax(1)
        torch.testing.assert_close(predictor.probs(images, (9, 5)), expected)
        plain = ModelPredictor(model, "fp32").probs(images, (9, 5))
    torch.testing.assert_close(
        plain.log() * 3 - (plain.log() * 3).logsumexp(1, True), expected.log()
    )


def test_the_size_before_is_reached_from_the_logits() -> None:
    model = strided(stride=8)
    images = torch.rand(1, 3, 24, 32)
    with torch.inference_mode():
        probs = ModelPredictor(model, "fp32").probs(images, (12, 16))
        logits = model(images)
    # Cells of 4 pixels of 24 x 32, so of 2 of 12 x 16: pixel 1 and 2 lie between cells 0 and 1.
    expected = (0.75 * logits[..., 0, 0] + 0.25 * logits[..., 0, 1]).softmax(1)
    edge = probs[..., 0, 1]
    torch.testing.assert_close(edge, expected)


def test_bands_of_a_model_are_those_of_its_predictor() -> None:
    model, image = strided(), torch.rand(3, 33, 47)
    (whole,) = predict_bands(model, image, precision="fp32", settings=WHOLE_IMAGE)
    (same,) = probability_bands(ModelPredictor(model, "fp32"), image, settings=WHOLE_IMAGE)
    assert whole[0] == same[0]
    assert torch.equal(whole[1], same[1])


def test_inference_does_not_import_what_builds_models() -> None:
    code = (
        "import sys, softiou.inference, softiou.exporting\n"
        "heavy = {'pytorch_lightning', 'segmentation_models_pytorch', 'timm', 'transformers'}\n"
        "print(sorted(heavy & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
