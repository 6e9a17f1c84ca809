"""Probabilities of whole images, windows, flips, scales and bands."""

import platform
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor

from inference.tiny_models import TinyModel, constant, local, pointwise, strided
from softiou.inference import (
    WHOLE_IMAGE,
    InferenceSettings,
    best_device,
    best_precision,
    emulation,
    predict_bands,
    predict_batch,
    predict_logits,
    predict_probs,
)
from softiou.models import ModelSpec, SegmentationModel
from softiou.temperature import LogitScaling

SIZES = [(1, 1), (40, 24), (33, 47), (64, 64), (100, 3)]
TEMPERATURE = LogitScaling("temperature", (0.4,))
VECTOR = LogitScaling("vector", (0.5, 1.0, 2.0), (0.5, -0.5, 0.0))


@pytest.fixture(scope="module")
def model() -> SegmentationModel:
    torch.manual_seed(0)
    return SegmentationModel(ModelSpec("fpn", "tu-test_efficientnet", 3)).eval()


def _image(*size: int) -> Tensor:
    return torch.randint(0, 256, (3, *size), dtype=torch.uint8)


def _predict(model: SegmentationModel, image: Tensor, **settings: Any) -> Tensor:
    return predict_probs(model, image, precision="fp32", settings=InferenceSettings(**settings))


# The whole image


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("size", SIZES)
def test_probabilities_have_the_size_of_the_image_and_sum_to_one(
    model: SegmentationModel, size: tuple[int, int], precision: Any
) -> None:
    probs = predict_probs(model, _image(*size), precision=precision)
    assert probs.shape == (3, *size)
    assert probs.dtype == torch.float32
    assert probs.min() >= 0
    torch.testing.assert_close(probs.sum(0), torch.ones(size))


def test_probabilities_are_the_softmax_of_the_logits(model: SegmentationModel) -> None:
    image = torch.rand(3, 33, 47)
    with torch.inference_mode():
        expected = model.predict_logits(image.unsqueeze(0)).softmax(1)[0]
    torch.testing.assert_close(predict_probs(model, image, precision="fp32"), expected)


@pytest.mark.parametrize("scaling", [None, TEMPERATURE, VECTOR])
def test_one_pass_gives_plain_and_calibrated_probabilities(
    model: SegmentationModel, scaling: LogitScaling | None
) -> None:
    image = _image(33, 47)
    logits = predict_logits(model, image, precision="fp32")
    scaled = logits if scaling is None else scaling.apply(logits, dim=0)
    probs = predict_probs(model, image, precision="fp32", scaling=scaling)
    assert torch.equal(probs, scaled.softmax(0))


def test_precision_follows_the_hardware() -> None:
    assert best_device().type in ("cpu", "cuda", "mps", "xpu")
    assert best_precision(torch.device("mps")) == "fp32"


@pytest.mark.parametrize("supported", [True, False])
def test_a_precision_that_the_processor_emulates_is_named(
    supported: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.ops.mkldnn, "_is_mkldnn_bf16_supported", lambda: supported)
    cpu = torch.device("cpu")
    line = "precision: bf16 is emulated on this CPU, up to 15 times slower than fp32"
    assert emulation(cpu, "bf16") == ([] if supported else [line])
    assert emulation(cpu, "fp32") == emulation(torch.device("cuda"), "bf16") == []


# Flips and scales


def test_flips_average_the_image_and_its_mirror_image(model: SegmentationModel) -> None:
    image = _image(33, 47)
    mirrored = _predict(model, image.flip(-1)).flip(-1)
    expected = (_predict(model, image) + mirrored) / 2
    torch.testing.assert_close(_predict(model, image, flips=True), expected)
    assert (mirrored - expected).abs().max() > 1e-3  # there was something to average


@pytest.mark.parametrize("size", SIZES)
def test_scales_average_at_the_size_of_the_image(
    model: SegmentationModel, size: tuple[int, int]
) -> None:
    image = _image(*size)
    parts = [_predict(model, image, scales=(scale,)) for scale in (0.5, 1.0, 1.75)]
    together = _predict(model, image, scales=(0.5, 1.0, 1.75))
    assert together.shape == (3, *size)
    torch.testing.assert_close(together, torch.stack(parts).mean(0))


@pytest.mark.parametrize("scale", [0.5, 1.5, 2.0])
def test_a_scaled_image_is_seen_by_the_network_and_its_logits_are_resized(scale: float) -> None:
    model = strided(stride=4)
    image = torch.rand(3, 32, 64)  # the scaled sizes are multiples of the stride
    scaled = F.interpolate(image.unsqueeze(0), scale_factor=scale, mode="bilinear", antialias=True)
    with torch.inference_mode():
        logits = F.interpolate(model(scaled), (32, 64), mode="bilinear")
    expected = logits.softmax(1)[0]
    torch.testing.assert_close(_predict(model, image, scales=(scale,)), expected)


@pytest.mark.parametrize("scale", [0.4, 0.9, 1.3])
def test_scales_keep_things_in_their_place(scale: float) -> None:
    """Sizes that are no multiple of a stride: the middle of a bright square stays where it is."""
    image = torch.zeros(3, 61, 83)
    image[:, 20:40, 30:60] = 1
    model = pointwise(2)
    model.net.weight.data[:] = 0
    model.net.weight.data[1] = 1
    probs = (
        _predict(model, image, scales=(scale,))[1]
        - _predict(model, image, scales=(scale,))[1].min()
    )
    mass = probs / probs.sum()
    assert float((mass.sum(1) * torch.arange(61)).sum()) == pytest.approx(29.5, abs=0.25)
    assert float((mass.sum(0) * torch.arange(83)).sum()) == pytest.approx(44.5, abs=0.25)


@pytest.mark.parametrize("scaling", [TEMPERATURE, VECTOR])
def test_each_view_is_calibrated_before_it_is_averaged(scaling: LogitScaling) -> None:
    model, image = strided(), _image(24, 40)
    settings = InferenceSettings(flips=True)
    views = [image, image.flip(-1)]
    logits = [predict_logits(model, view, precision="fp32") for view in views]
    first, second = (scaling.apply(z, dim=0).softmax(0) for z in logits)
    probs = predict_probs(model, image, precision="fp32", settings=settings, scaling=scaling)
    torch.testing.assert_close(probs, (first + second.flip(-1)) / 2)


# Windows


def _by_hand(
    model: SegmentationModel, image: Tensor, window: tuple[int, int], overlap: float, **views: Any
) -> NDArray[np.float64]:
    """Add up weighted windows and divide by the sum of the weights, all of the image at once."""
    height, width = image.shape[-2:]
    total = np.zeros((model.spec.num_classes, height, width))
    weights = np.zeros((height, width))
    for top, h in _spans(height, window[0], overlap):
        for left, w in _spans(width, window[1], overlap):
            probs = _predict(model, image[:, top : top + h, left : left + w], **views)
            weight = np.outer(_hann(h), _hann(w))
            total[:, top : top + h, left : left + w] += weight * probs.double().numpy()
            weights[top : top + h, left : left + w] += weight
    return total / weights


def _spans(length: int, window_px: int, overlap: float) -> Iterator[tuple[int, int]]:
    size = min(window_px, length)
    start = 0
    while True:
        yield min(start, length - size), size
        if start + size >= length:
            return
        start += max(1, round(size * (1 - overlap)))


def _hann(size: int) -> NDArray[np.float64]:
    return np.sin(np.pi * (np.arange(size) + 0.5) / size) ** 2


@pytest.mark.parametrize("batch_size", [1, 3])
@pytest.mark.parametrize(
    ("size", "window", "overlap"),
    [
        ((70, 90), (32, 32), 0.5),
        ((70, 90), (32, 48), 0.0),
        ((97, 33), (24, 40), 0.75),  # narrower than a window
        ((20, 30), (64, 64), 0.5),  # smaller than a window
        ((150, 40), (100, 40), 0.3),  # bands of more rows than are handed out at once
        ((1, 50), (16, 16), 0.5),
    ],
)
def test_windows_blend_as_by_hand(
    size: tuple[int, int], window: tuple[int, int], overlap: float, batch_size: int
) -> None:
    model, image = strided(stride=8), _image(*size)
    expected = _by_hand(model, image, window, overlap)
    probs = _predict(model, image, window_px=window, overlap=overlap, batch_size=batch_size)
    np.testing.assert_allclose(probs.numpy(), expected, rtol=0, atol=1e-5)
    torch.testing.assert_close(probs.sum(0), torch.ones(size))


def test_windows_of_a_real_network_blend_as_by_hand(model: SegmentationModel) -> None:
    image = _image(70, 90)
    views: dict[str, Any] = {"flips": True, "scales": (0.75, 1.0)}
    expected = _by_hand(model, image, (64, 64), 0.5, **views)
    probs = _predict(model, image, window_px=(64, 64), batch_size=2, **views)
    np.testing.assert_allclose(probs.numpy(), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("overlap", [0.0, 0.3, 0.5, 0.9])
def test_a_constant_model_returns_the_constant(overlap: float) -> None:
    probs = _predict(constant(2, 0, -1), _image(61, 47), window_px=(16, 20), overlap=overlap)
    expected = torch.tensor([2.0, 0, -1]).softmax(0).view(3, 1, 1).expand(3, 61, 47)
    torch.testing.assert_close(probs, expected, rtol=0, atol=2e-6)


def test_a_pointwise_model_does_not_notice_windows() -> None:
    model, image = pointwise(), _image(61, 47)
    probs = _predict(model, image, window_px=(16, 20), overlap=0.4)
    torch.testing.assert_close(probs, _predict(model, image), rtol=0, atol=1e-5)


def test_an_equivariant_model_does_not_notice_windows_away_from_their_borders() -> None:
    model, image = local(radius=2), _image(61, 47)
    window, overlap = (24, 24), 0.25
    far = torch.ones(61, 47, dtype=torch.bool)
    for axis, length in enumerate((61, 47)):
        for start, size in _spans(length, window[axis], overlap):
            for border in (start, start + size):
                if 0 < border < length:  # the border of the image is everybody's
                    far.movedim(axis, 0)[border - 2 : border + 2] = False
    probs, whole = _predict(model, image, window_px=window, overlap=overlap), _predict(model, image)
    gap = (probs - whole).abs().amax(0)
    assert far.float().mean() > 0.4
    assert gap[far].max() < 1e-5
    assert gap[~far].max() > 1e-3  # at the borders there is a difference to see


def test_a_window_as_large_as_the_image_is_the_image(model: SegmentationModel) -> None:
    image = _image(33, 47)
    whole = _predict(model, image)
    for window in ((33, 47), (64, 1000)):
        torch.testing.assert_close(_predict(model, image, window_px=window), whole)


# Bands


@pytest.mark.parametrize("overlap", [0.0, 0.5, 0.8])
def test_bands_are_the_image_in_order(overlap: float) -> None:
    model, image = strided(), _image(203, 50)
    settings = InferenceSettings(window_px=(96, 32), overlap=overlap, batch_size=2)
    bands = list(predict_bands(model, image, precision="fp32", settings=settings))
    rows = [row for part, _ in bands for row in range(part.start, part.stop)]
    assert rows == list(range(203))
    assert max(band.shape[1] for _, band in bands) <= 64
    # All bands are still what they were, though the memory of the windows was used again.
    together = torch.cat([band for _, band in bands], 1)
    np.testing.assert_allclose(
        together.numpy(), _by_hand(model, image, (96, 32), overlap), rtol=0, atol=1e-5
    )


def test_without_windows_there_is_one_band(model: SegmentationModel) -> None:
    image = _image(33, 47)
    ((rows, probs),) = predict_bands(model, image, precision="fp32", settings=WHOLE_IMAGE)
    assert (rows.start, rows.stop) == (0, 33)
    assert torch.equal(probs, predict_probs(model, image, precision="fp32"))


def test_windows_run_in_half_precision(model: SegmentationModel) -> None:
    image, settings = _image(70, 90), InferenceSettings(window_px=(64, 64))
    half = predict_probs(model, image, precision="bf16", settings=settings)
    full = predict_probs(model, image, precision="fp32", settings=settings)
    assert half.dtype == torch.float32
    torch.testing.assert_close(half, full, rtol=0, atol=0.02)


# Batches


@pytest.mark.parametrize(
    "settings",
    [
        WHOLE_IMAGE,
        InferenceSettings(batch_size=3, flips=True),
        InferenceSettings(window_px=(32, 32), batch_size=3),
    ],
)
def test_a_batch_is_its_images(model: SegmentationModel, settings: InferenceSettings) -> None:
    images = torch.stack([_image(40, 56) for _ in range(5)])
    options: dict[str, Any] = {"precision": "fp32", "settings": settings, "scaling": TEMPERATURE}
    probs = predict_batch(model, images, **options)
    alone = torch.stack([predict_probs(model, image, **options) for image in images])
    torch.testing.assert_close(probs, alone)


class _Counting(TinyModel):
    """Remembers the shapes that it was given."""

    def __init__(self) -> None:
        super().__init__(torch.nn.Conv2d(3, 2, 1), num_classes=2, stride=1)
        self.shapes: list[tuple[int, ...]] = []

    def forward(self, images: Tensor) -> Tensor:
        self.shapes.append(tuple(images.shape))
        return super().forward(images)


def test_batch_size_bounds_a_pass() -> None:
    model = _Counting()
    _predict(model, _image(32, 80), window_px=(32, 32), overlap=0.5, batch_size=3)
    assert model.shapes == [(3, 3, 32, 32), (1, 3, 32, 32)]
    model.shapes.clear()
    settings = InferenceSettings(batch_size=2)
    predict_batch(model, torch.rand(5, 3, 8, 8), precision="fp32", settings=settings)
    assert [shape[0] for shape in model.shapes] == [2, 2, 1]


# Memory

MEMORY = """
import resource, sys
sys.path.insert(0, {tests!r})
import torch
from inference.tiny_models import pointwise
from softiou.inference import InferenceSettings, predict_bands

def mebibytes():
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

model = pointwise(19)
def run(side):
    image = torch.zeros(3, side, side, dtype=torch.uint8)
    settings = InferenceSettings(window_px=(256, 256), overlap=0.125)
    rows = 0
    for part, probs in predict_bands(model, image, precision="fp32", settings=settings):
        rows += probs.shape[1]
    return rows

run(300)
before = mebibytes()
assert run({side}) == {side}
print(mebibytes() - before)
"""


@pytest.mark.slow
@pytest.mark.skipif(platform.system() != "Linux", reason="ru_maxrss is in other units elsewhere")
def test_memory_is_that_of_a_row_of_windows() -> None:
    """The probabilities of the image would be 1.1 GB, the image itself is 46 MiB."""
    code = MEMORY.format(tests=str(Path(__file__).parents[1]), side=4000)
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
    assert done.returncode == 0, done.stderr
    assert float(done.stdout) < 400
