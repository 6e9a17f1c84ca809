"""Models: what happens around the network, and every way that building one can fail."""

import socket
import time
import urllib.request
import warnings
from pathlib import Path
from typing import Any

import pytest
import segmentation_models_pytorch as smp
import torch
from safetensors.torch import save_file

from softiou.errors import CheckpointError
from softiou.models import IMAGENET_MEAN, IMAGENET_STD, ModelSpec, SegmentationModel, architectures
from softiou.models.weights import no_waiting_offline

ENCODER = "tu-test_efficientnet"  # the smallest that there is


def _model(
    architecture: str = "fpn", encoder: str = ENCODER, classes: int = 3
) -> SegmentationModel:
    return SegmentationModel(ModelSpec(architecture, encoder, classes)).eval()


def test_bytes_and_floats_agree() -> None:
    model = _model()
    images = torch.randint(0, 256, (2, 3, 64, 64), dtype=torch.uint8)
    torch.testing.assert_close(model(images), model(images / 255))


def test_network_sees_normalised_images(monkeypatch: pytest.MonkeyPatch) -> None:
    model = _model()
    seen: list[torch.Tensor] = []

    def record(images: torch.Tensor) -> torch.Tensor:
        seen.append(images)
        return images

    monkeypatch.setattr(model.net, "forward", record)
    mean, std = (torch.tensor(v).view(3, 1, 1) for v in (IMAGENET_MEAN, IMAGENET_STD))
    model((mean + 2 * std).expand(1, 3, 20, 40))
    # Two deviations above the mean, and the mean itself in the padding on the right and below.
    assert seen[0].shape == (1, 3, 32, 64)
    torch.testing.assert_close(seen[0][..., :20, :40], torch.full((1, 3, 20, 40), 2.0))
    assert seen[0][..., 20:, :].abs().max() == 0
    assert seen[0][..., 40:].abs().max() == 0


@pytest.mark.parametrize(
    ("architecture", "stride", "input_stride"),
    [
        ("deeplabv3", 8, 8),
        ("deeplabv3plus", 4, 16),
        ("fpn", 4, 32),
        ("linknet", 1, 32),
        ("pspnet", 8, 8),
        ("segformer", 4, 32),
        ("unet", 1, 32),
        ("upernet", 4, 32),
    ],
)
def test_logits_come_at_the_stride_of_the_decoder(
    architecture: str, stride: int, input_stride: int
) -> None:
    model = _model(architecture)
    assert model.input_stride == input_stride
    assert model(torch.zeros(1, 3, 64, 96)).shape == (1, 3, 64 // stride, 96 // stride)
    assert model.predict_logits(torch.zeros(1, 3, 50, 70)).shape == (1, 3, 50, 70)


@pytest.mark.parametrize("architecture", ["fpn", "unet", "pspnet"])
def test_padding_keeps_logits_aligned_with_the_image(architecture: str) -> None:
    model = _model(architecture)
    height, width = 50, 70
    image = torch.rand(1, 3, height, width)
    # The same image, padded by hand with the mean colour: the crop of its logits is the result.
    padded = torch.tensor(IMAGENET_MEAN).view(1, 3, 1, 1).repeat(1, 1, 64, 96)
    padded[..., :height, :width] = image
    if architecture == "pspnet":
        padded = padded[..., :56, :72]  # its stride is 8
    expected = model.predict_logits(padded)[..., :height, :width]
    torch.testing.assert_close(model.predict_logits(image), expected)


def test_upsampling_is_bilinear_and_exact_for_ramps() -> None:
    model = _model()
    # A ramp sampled at the centres of cells of 4 pixels is a ramp again between them.
    rows = (torch.arange(16) * 4 + 1.5).view(1, 1, 16, 1).expand(1, 1, 16, 24)
    full = model.upsample(rows, (60, 90))
    assert full.shape == (1, 1, 60, 90)
    expected = torch.arange(60.0).view(60, 1).expand(60, 90)
    torch.testing.assert_close(full[0, 0, 2:], expected[2:])


def test_spec_is_plain_and_builds_the_same_model() -> None:
    model = _model()
    assert model.spec.as_dict() == {
        "architecture": "fpn",
        "encoder": ENCODER,
        "num_classes": 3,
        "output_stride": None,
        "auxiliary": False,
        "settings": None,
    }
    again = SegmentationModel(ModelSpec(**model.spec.as_dict())).eval()
    again.load_state_dict(model.state_dict())
    images = torch.rand(1, 3, 32, 32)
    assert torch.equal(again(images), model(images))


# Weights from a file


def _encoder_weights(encoder: str = ENCODER) -> dict[str, torch.Tensor]:
    weights = _model(encoder=encoder).net.encoder.state_dict()
    return {name: value.contiguous() for name, value in weights.items()}


def _encoder_file(path: Path, encoder: str = ENCODER) -> Path:
    save_file(_encoder_weights(encoder), path)
    return path


def test_local_encoder_weights_are_loaded(tmp_path: Path) -> None:
    torch.manual_seed(1)
    weights = _encoder_weights()
    save_file(weights | {"head.of.a.classifier": torch.ones(3)}, tmp_path / "encoder.safetensors")
    model = SegmentationModel(
        ModelSpec("unet", ENCODER, 5), encoder_weights=str(tmp_path / "encoder.safetensors")
    )
    own = model.net.encoder.state_dict()
    assert list(own) == list(weights)
    assert all(torch.equal(own[name], weights[name]) for name in own)


def test_weights_of_another_encoder_are_refused(tmp_path: Path) -> None:
    file = _encoder_file(tmp_path / "other.safetensors", "tu-test_resnet")
    with pytest.raises(CheckpointError, match=r"does not fit the encoder: \d+ tensors are missing"):
        SegmentationModel(ModelSpec("fpn", ENCODER, 3), encoder_weights=str(file))


def test_weights_of_another_shape_are_refused(tmp_path: Path) -> None:
    weights = _encoder_weights()
    name = next(iter(weights))
    save_file(weights | {name: torch.ones(7)}, tmp_path / "shape.safetensors")
    with pytest.raises(CheckpointError, match=f"0 tensors are missing and 1 have .* {name}"):
        SegmentationModel(
            ModelSpec("fpn", ENCODER, 3), encoder_weights=str(tmp_path / "shape.safetensors")
        )


def test_damaged_and_missing_files_are_refused(tmp_path: Path) -> None:
    file = _encoder_file(tmp_path / "cut.safetensors")
    file.write_bytes(file.read_bytes()[:1000])
    with pytest.raises(CheckpointError, match="is not a readable safetensors file"):
        SegmentationModel(ModelSpec("fpn", ENCODER, 3), encoder_weights=str(file))
    with pytest.raises(CheckpointError, match=r"there is no file .*Use none, imagenet or the path"):
        SegmentationModel(ModelSpec("fpn", ENCODER, 3), encoder_weights=str(tmp_path / "none"))


# Names


def test_architectures_are_those_of_the_library() -> None:
    assert {"deeplabv3plus", "fpn", "segformer", "unet"} <= set(architectures())
    assert architectures() == sorted(architectures())


# Downloads


def _imagenet(encoder: str) -> SegmentationModel:
    return SegmentationModel(ModelSpec("unet", encoder, 3), encoder_weights="imagenet")


def test_failed_download_names_the_way_out(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(*_: Any, **__: Any) -> None:
        raise OSError("the proxy says no")

    monkeypatch.setattr(smp, "create_model", fail)
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: socket.socket())
    with pytest.raises(CheckpointError) as caught:
        _imagenet("resnet18")
    assert str(caught.value) == (
        "Cannot download the ImageNet weights of 'resnet18'. Set model.encoder_weights to a local "
        "safetensors file, or to none to start from scratch. (the proxy says no)"
    )


def test_encoder_without_imagenet_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: socket.socket())
    monkeypatch.setitem(smp.encoders.encoders["resnet18"], "pretrained_settings", {"ssl": {}})
    with pytest.raises(CheckpointError, match=r"no ImageNet weights of 'resnet18'.*\['ssl'\]"):
        _imagenet("resnet18")


def test_encoder_of_timm_without_pretrained_weights() -> None:
    spec = ModelSpec("deeplabv3plus", "tu-cspresnet50d", 3)
    with pytest.raises(
        CheckpointError, match=r"no ImageNet weights of 'tu-cspresnet50d'\. Set it to"
    ):
        SegmentationModel(spec, encoder_weights="imagenet")


def test_a_proxy_is_trusted_to_know_a_way(monkeypatch: pytest.MonkeyPatch) -> None:
    from huggingface_hub import constants

    def unplugged(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    monkeypatch.setattr(socket, "create_connection", unplugged)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    for proxies, offline in (({"https": "http://proxy:3128"}, False), ({}, True)):
        monkeypatch.setattr(urllib.request, "getproxies", lambda found=proxies: found)
        with no_waiting_offline():
            assert constants.HF_HUB_OFFLINE is offline
        assert constants.HF_HUB_OFFLINE is False


@pytest.mark.parametrize("encoder", ["resnet18", "tu-test_resnet"])
def test_without_network_the_error_comes_at_once(
    encoder: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unplugged(*_: Any, **__: Any) -> None:
        raise OSError("no route to host")

    from huggingface_hub import constants

    monkeypatch.setattr(socket, "create_connection", unplugged)
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path))
    for name in ("http_proxy", "https_proxy", "all_proxy"):
        monkeypatch.delenv(name, raising=False)
        monkeypatch.delenv(name.upper(), raising=False)
    before, start = constants.HF_HUB_OFFLINE, time.monotonic()
    with pytest.raises(CheckpointError, match="Cannot download the ImageNet weights"):
        _imagenet(encoder)
    assert time.monotonic() - start < 10  # Hugging Face would retry for 24 to 48 seconds
    assert before == constants.HF_HUB_OFFLINE


def test_names_of_timm_ask_for_their_own_weights(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[Any] = []
    create = smp.create_model

    def record(*names: str, encoder_weights: Any, **options: Any) -> Any:
        asked.append(encoder_weights)
        return create(*names, encoder_weights=None, **options)

    monkeypatch.setattr(smp, "create_model", record)
    monkeypatch.setattr(socket, "create_connection", lambda *_, **__: socket.socket())
    with warnings.catch_warnings():
        warnings.simplefilter("error")  # segmentation_models_pytorch warns of anything but True
        _imagenet(ENCODER)
        _imagenet("resnet18")
        SegmentationModel(ModelSpec("unet", ENCODER, 3))
    assert asked == [True, "imagenet", None]
