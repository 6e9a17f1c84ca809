"""Exported files: what they compute, say of themselves, and what is left when it goes wrong."""

import copy
import json
import stat
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from safetensors import safe_open
from torch import Tensor, nn

from exporting.exported_models import CLASSES, draw, trained_model
from softiou.checkpoints import TrainedModel, file_sha256
from softiou.errors import ConfigError, RunExistsError
from softiou.exporting import (
    FORMATS,
    TOLERANCE,
    Exported,
    ExportError,
    Format,
    Probabilities,
    Report,
    example_images,
    export_model,
    largest_difference,
    open_exported,
    trace,
    writing,
)
from softiou.exporting import files as export_files
from softiou.models import TRANSFORMERS, ModelSpec, SegmentationModel
from softiou.temperature import LogitScaling

Files = dict[Format, Report]
Opened = dict[Format, Exported]
SIZES = [(1, 64, 96), (2, 101, 77), (3, 40, 33), (1, 160, 192), (1, 17, 250)]
every_format = pytest.mark.parametrize("to", FORMATS)


def _images(*shape: int) -> Tensor:
    return torch.randint(0, 256, (shape[0], 3, *shape[1:]), dtype=torch.uint8)


def _expected(model: SegmentationModel, images: Tensor, scaling: LogitScaling | None) -> Tensor:
    with torch.inference_mode():
        logits = model.predict_logits(images)
        return (logits if scaling is None else scaling.apply(logits)).softmax(1)


# What they compute


@pytest.mark.parametrize("size", SIZES)
@every_format
def test_probabilities_are_those_of_the_model(
    small: TrainedModel, sharp: LogitScaling, opened: Opened, to: Format, size: tuple[int, int, int]
) -> None:
    images = _images(*size)
    expected = _expected(small.model, images, sharp)
    probs = opened[to].predictor.probs(images, size[1:])
    assert probs.dtype == torch.float32
    torch.testing.assert_close(probs, expected, rtol=0, atol=1e-5)
    assert expected.std() > 0.1  # there was something to compute


def test_onnx_takes_images_below_the_stride(
    small: TrainedModel, sharp: LogitScaling, opened: Opened
) -> None:
    images = _images(2, 5, 1)
    predictor = opened["onnx"].predictor
    expected = _expected(small.model, images, sharp)
    torch.testing.assert_close(predictor.probs(images, (5, 1)), expected, rtol=0, atol=1e-5)


@every_format
def test_the_file_was_checked(files: Files, to: Format) -> None:
    report = files[to]
    assert 0 <= report.difference < 1e-5
    assert report.size_bytes == report.path.stat().st_size > 100_000


def test_floating_images_and_plain_logits(small: TrainedModel) -> None:
    program = trace(small.model, None, input_dtype="float32").module()
    images = torch.rand(1, 3, 50, 70)
    torch.testing.assert_close(
        program(images), _expected(small.model, images, None), rtol=0, atol=1e-6
    )


def test_the_module_is_what_is_traced(small: TrainedModel, sharp: LogitScaling) -> None:
    images = _images(2, 33, 47)
    with torch.inference_mode():
        probs = Probabilities(small.model, sharp)(images)
    assert probs.shape == (2, 3, 33, 47)
    torch.testing.assert_close(probs, _expected(small.model, images, sharp), rtol=0, atol=1e-6)


PAIRS = [
    ("deeplabv3", "resnet18"),
    ("deeplabv3plus", "mobilenet_v2"),
    ("dpt", "tu-vit_tiny_patch16_224"),
    ("fpn", "efficientnet-b0"),
    ("linknet", "resnet18"),
    ("manet", "resnet18"),
    ("pan", "resnet18"),
    ("pspnet", "resnet18"),
    ("segformer", "mit_b0"),
    ("unet", "xception"),
    ("unetplusplus", "resnet18"),
    ("upernet", "tu-convnext_atto"),
]


@pytest.mark.slow
@pytest.mark.parametrize(("architecture", "encoder"), PAIRS)
def test_architectures(architecture: str, encoder: str, tmp_path: Path) -> None:
    _check_onnx(ModelSpec(architecture, encoder, 3), tmp_path)


@pytest.mark.slow
def test_transformers(tmp_path: Path) -> None:
    transformers = pytest.importorskip("transformers", reason="needs softiou[transformers]")
    config = transformers.SegformerConfig(
        hidden_sizes=[8, 8, 16, 16],
        depths=[1, 1, 1, 1],
        num_attention_heads=[1, 1, 2, 2],
        decoder_hidden_size=16,
    )
    settings = json.loads(config.to_json_string(use_diff=False))
    _check_onnx(ModelSpec(TRANSFORMERS, "SegFormer", 3, settings=settings), tmp_path)


def _check_onnx(spec: ModelSpec, folder: Path) -> None:
    """Export a model whose logits are as sharp as those of a trained one, and run the file."""
    trained = trained_model(draw(spec), folder)
    with torch.inference_mode():
        deviation = float(trained.model(_images(1, 64, 96)).std(1).mean())
    sharpened = LogitScaling("temperature", (3 / deviation,))
    report = export_model(trained, folder / "model.onnx", to="onnx", scaling=sharpened)
    assert report.difference <= TOLERANCE
    exported = open_exported(report.path)
    least = exported.info.smallest_px
    for count, *sides in SIZES[:3]:
        height, width = (max(side, least) for side in sides)
        images = _images(count, height, width)
        difference = exported.predictor.probs(images, (height, width)) - _expected(
            trained.model, images, sharpened
        )
        assert difference.abs().max() <= TOLERANCE


# What they say of themselves


def _strings(report: Report) -> dict[str, str]:
    """Read the metadata without our own reader."""
    if report.path.suffix == ".onnx":
        model = onnx.load(report.path)
        return {entry.key: entry.value for entry in model.metadata_props}
    if report.path.suffix == ".pt2":
        with zipfile.ZipFile(report.path) as archive:
            name = next(name for name in archive.namelist() if name.endswith("extra/softiou.json"))
            return dict(json.loads(archive.read(name)))
    with safe_open(report.path, framework="np") as file:
        return dict(file.metadata())


@every_format
def test_metadata(small: TrainedModel, sharp: LogitScaling, files: Files, to: Format) -> None:
    strings = _strings(files[to])
    assert json.loads(strings["classes"]) == ["ground", "bôx", "disc"]
    assert json.loads(strings["palette"]) == [[9, 9, 9], [200, 0, 0], [0, 0, 90]]
    assert strings["ignore_index"] == "7"
    assert strings["softiou_format"] == "1"
    assert strings["softiou_version"] == "0.1.0"
    expected = {"kind": "vector", "scale": list(sharp.scale), "bias": list(sharp.bias)}
    assert json.loads(strings["calibration"]) == expected
    assert "temperature" not in strings
    assert json.loads(strings["input"]) == {
        "name": "images",
        "dtype": "uint8",
        "range": [0, 255],
        "colours": "RGB",
        "layout": "NCHW",
        "smallest_px": 17 if to == "torch-export" else 1,
    }
    model = json.loads(strings["model"])
    assert (model["architecture"], model["encoder"]) == ("deeplabv3plus", "tu-test_efficientnet")
    assert (model["num_classes"], model["auxiliary"]) == (3, False)
    source = json.loads(strings["source"])
    assert source == {"sha256": file_sha256(small.path), "weights": "student", "step": 3}


@every_format
def test_what_is_read_is_what_was_written(
    files: Files, opened: Opened, sharp: LogitScaling, to: Format
) -> None:
    info = opened[to].info
    assert info == files[to].info
    assert (info.description, info.scaling) == (CLASSES, sharp)


def test_sizes_are_free_and_named(files: Files) -> None:
    session = onnxruntime.InferenceSession(files["onnx"].path)
    (images,), (probs,) = session.get_inputs(), session.get_outputs()
    assert (images.name, images.type) == ("images", "tensor(uint8)")
    assert images.shape == ["batch", 3, "height", "width"]
    assert (probs.name, probs.type) == ("probs", "tensor(float)")
    assert probs.shape == ["batch", 3, "height", "width"]
    onnx.checker.check_model(onnx.load(files["onnx"].path))


def test_torch_export_runs_in_torch_alone(
    small: TrainedModel, sharp: LogitScaling, files: Files
) -> None:
    program = torch.export.load(files["torch-export"].path).module()
    images = _images(1, 64, 96)
    expected = _expected(small.model, images, sharp)
    torch.testing.assert_close(program(images), expected, rtol=0, atol=1e-6)


def test_safetensors_hold_what_predicts(small: TrainedModel, files: Files) -> None:
    with safe_open(files["safetensors"].path, framework="pt") as file:
        names = set(file.keys())
    own = {name for name in small.model.state_dict() if not name.startswith("auxiliary.")}
    assert names == own
    assert len(own) < len(small.model.state_dict())


@every_format
def test_files_are_for_all_who_may_read_the_folder(
    files: Files, tmp_path: Path, to: Format
) -> None:
    (tmp_path / "other").touch()
    expected = stat.S_IMODE((tmp_path / "other").stat().st_mode)
    assert stat.S_IMODE(files[to].path.stat().st_mode) == expected


# What goes wrong


def test_nothing_is_overwritten(small: TrainedModel, tmp_path: Path) -> None:
    path = tmp_path / "model.safetensors"
    path.write_text("mine")
    with pytest.raises(RunExistsError, match=r"model\.safetensors already exists.*--overwrite"):
        export_model(small, path, to="safetensors")
    assert path.read_text() == "mine"
    export_model(small, path, to="safetensors", overwrite=True)
    assert open_exported(path).info.scaling is None


def test_a_file_that_differs_is_not_kept(
    small: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def write_others(model: SegmentationModel, strings: dict[str, str], path: Path) -> None:
        other = copy.deepcopy(model)
        torch.nn.init.normal_(other.net.segmentation_head[0].bias)
        export_files.write_safetensors(other, strings, path)

    monkeypatch.setattr(writing, "write_safetensors", write_others)
    path = tmp_path / "model.safetensors"
    path.write_text("mine")
    message = r"tu-test_efficientnet, as \.safetensors, computes .* by \d\.\de-\d+, more than 1e-04"
    with pytest.raises(ExportError, match=message):
        export_model(small, path, to="safetensors", overwrite=True)
    assert [file.name for file in tmp_path.iterdir()] == ["model.safetensors"]
    assert path.read_text() == "mine"


def test_differences_are_found(small: TrainedModel, files: Files) -> None:
    """Of another calibration than the file's."""
    images = example_images(1, stride=16)
    exported = open_exported(files["onnx"].path)
    assert largest_difference(exported, small.model, None, images) > 0.1


def test_no_number_is_an_infinite_difference(small: TrainedModel, files: Files) -> None:
    class Broken:
        num_classes, device = 3, torch.device("cpu")

        def probs(self, images: Tensor, size: tuple[int, int]) -> Tensor:
            return torch.full((len(images), 3, *size), torch.nan)

    exported = Exported(files["onnx"].info, Broken(), Path("x"))
    images = [_images(1, 20, 20)]
    assert largest_difference(exported, small.model, None, images) == torch.inf


def test_examples_are_odd_and_several() -> None:
    shapes = [tuple(images.shape) for images in example_images(17, stride=16)]
    assert shapes == [(2, 3, 101, 134), (1, 3, 96, 112), (1, 3, 17, 20)]
    first, again = (example_images(300, stride=32)[0] for _ in range(2))
    assert first.shape[-2:] == (305, 338)
    assert torch.equal(first, again)
    assert first.float().std() > 30


def test_a_program_that_fails_is_told_and_not_kept(
    small: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(*_: Any, **__: Any) -> Any:
        raise AssertionError("Guard failed: height == 3\nand more")

    monkeypatch.setattr(writing, "largest_difference", fail)
    with pytest.raises(ExportError, match=r"cannot be run: Guard failed: height == 3\."):
        export_model(small, tmp_path / "m.safetensors", to="safetensors")
    assert list(tmp_path.iterdir()) == []


def test_what_is_missing_to_run_the_file_is_told(
    small: TrainedModel, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refuse(*_: Any, **__: Any) -> Any:
        raise ConfigError("Running an ONNX file needs onnxruntime.")

    monkeypatch.setattr(writing, "open_exported", refuse)
    with pytest.raises(ConfigError, match="needs onnxruntime"):
        export_model(small, tmp_path / "m.safetensors", to="safetensors")
    assert list(tmp_path.iterdir()) == []


class _DependsOnValues(nn.Module):
    def forward(self, images: Tensor) -> Tensor:
        return images if images.sum() > 0 else -images


def test_a_model_that_cannot_be_traced(small: TrainedModel) -> None:
    model = draw(ModelSpec("linknet", "tu-test_efficientnet", 3))
    model.net.decoder = _DependsOnValues()
    with pytest.raises(ExportError, match="linknet with tu-test_efficientnet cannot be traced"):
        trace(model, None, input_dtype="uint8")


def test_an_operator_without_counterpart(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program: Any = None
    monkeypatch.setattr(torch.onnx, "export", lambda *_, **__: None)
    with pytest.raises(ExportError, match=r"cannot be written as ONNX: the exporter returned"):
        export_files.write_onnx(program, {}, tmp_path / "m.onnx")


@pytest.mark.parametrize("package", ["onnx", "onnxscript"])
def test_without_the_extra(package: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    program: Any = None
    monkeypatch.setitem(__import__("sys").modules, package, None)
    with pytest.raises(ConfigError, match=r"pip install onnx onnxscript onnxruntime"):
        export_files.write_onnx(program, {}, tmp_path / "m.onnx")


def test_numpy_and_onnxruntime_alone(
    files: Files, sharp: LogitScaling, small: TrainedModel
) -> None:
    """As the page for users says it."""
    session = onnxruntime.InferenceSession(files["onnx"].path)
    image = np.random.default_rng(0).integers(0, 256, (41, 50, 3), dtype=np.uint8)
    (probs,) = session.run(None, {"images": image.transpose(2, 0, 1)[None]})
    expected = _expected(small.model, torch.from_numpy(image).permute(2, 0, 1)[None], sharp)
    np.testing.assert_allclose(probs, expected.numpy(), rtol=0, atol=1e-5)


def test_shifted_windows_are_refused_at_once() -> None:
    swin = ModelSpec("upernet", "tu-swin_tiny_patch4_window7_224", 3)
    with pytest.raises(ExportError, match=r"shifted windows of Swin models\. Use --to safetensors"):
        trace(_named(swin), None, input_dtype="uint8")
    settings = {"model_type": "mask2former", "backbone_config": {"model_type": "swin"}}
    with pytest.raises(ExportError, match="somebody/model cannot be traced"):
        trace(
            _named(ModelSpec("transformers", "somebody/model", 3, settings=settings)),
            None,
            input_dtype="uint8",
        )


def _named(spec: ModelSpec) -> SegmentationModel:
    """A model of another kind with that name; nothing of it is run."""
    model = draw(ModelSpec("linknet", "tu-test_efficientnet", 3))
    model.spec = spec
    return model
