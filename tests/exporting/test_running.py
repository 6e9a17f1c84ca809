"""Exported files as predictors: around them, beside them, and without the libraries of training."""

import io
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
import torch.nn.functional as F
from PIL import Image
from safetensors.torch import load_file, save_file
from torch import Tensor

from marks import slow
from softiou._screen import progress_of
from softiou.checkpoints import TrainedModel
from softiou.errors import CheckpointError, ConfigError, DataError
from softiou.exporting import FORMATS, Exported, Format, Report, is_exported, open_exported
from softiou.exporting.metadata import to_strings
from softiou.exporting.running import as_dtype
from softiou.inference import InferenceSettings, predict_probs, probability_bands
from softiou.jobs.images import find_items
from softiou.jobs.predicting import Predictions
from softiou.temperature import LogitScaling

Files = dict[Format, Report]
Opened = dict[Format, Exported]
every_format = pytest.mark.parametrize("to", FORMATS)


def _image(*size: int) -> Tensor:
    return torch.randint(0, 256, (3, *size), dtype=torch.uint8)


def _predict(file: Exported, image: Tensor, **settings: Any) -> Tensor:
    bands = probability_bands(file.predictor, image, settings=InferenceSettings(**settings))
    return torch.cat([probs for _, probs in bands], dim=1)


# Windows, flips and scales


@pytest.mark.parametrize(
    "settings", [{"flips": True}, {"window_px": (32, 40), "batch_size": 3}, {"window_px": (20, 20)}]
)
@every_format
def test_files_predict_what_the_checkpoint_does(
    small: TrainedModel, sharp: LogitScaling, opened: Opened, to: Format, settings: dict[str, Any]
) -> None:
    image = _image(61, 75)
    expected = predict_probs(
        small.model, image, precision="fp32", settings=InferenceSettings(**settings), scaling=sharp
    )
    torch.testing.assert_close(_predict(opened[to], image, **settings), expected, rtol=0, atol=1e-5)


@pytest.mark.parametrize("to", ["onnx", "torch-export"])
def test_scales_resize_probabilities(opened: Opened, to: Format) -> None:
    image = _image(40, 50)
    larger = F.interpolate(image[None] / 255, (60, 75), mode="bilinear", antialias=True)
    seen = (larger * 255).round().byte()
    predictor = opened[to].predictor
    expected = F.interpolate(predictor.probs(seen, (60, 75)), (40, 50), mode="bilinear")[0]
    found = _predict(opened[to], image, scales=(1.5,))
    torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    torch.testing.assert_close(found.sum(0), torch.ones(40, 50))


def test_scales_are_near_those_of_the_checkpoint(
    small: TrainedModel, sharp: LogitScaling, opened: Opened
) -> None:
    """There the logits are resized, here the probabilities, and uint8 images rounded."""
    image = F.interpolate(_image(8, 8)[None].float(), (64, 80), mode="bilinear")[0].byte()
    settings = InferenceSettings(scales=(0.75, 1.5))
    found = _predict(opened["onnx"], image, scales=(0.75, 1.5))
    expected = predict_probs(small.model, image, precision="fp32", settings=settings, scaling=sharp)
    assert (found - expected).abs().mean() < 0.02
    assert (found.argmax(0) == expected.argmax(0)).float().mean() > 0.97


def test_images_that_are_too_small(opened: Opened) -> None:
    with pytest.raises(DataError, match="needs at least 17 pixels per side, but got 20 x 16"):
        _predict(opened["torch-export"], _image(16, 20))
    with pytest.raises(DataError, match="--to safetensors"):
        _predict(opened["torch-export"], _image(40, 40), scales=(0.25,))


def test_images_in_the_dtype_of_the_program() -> None:
    values, shares = torch.tensor([0, 51, 255], dtype=torch.uint8), torch.tensor([0, 0.2, 1])
    assert as_dtype(values, "uint8") is values
    assert torch.equal(as_dtype(shares, "uint8"), values)
    assert torch.equal(as_dtype(torch.tensor([-0.1, 1.1]), "uint8"), values[[0, 2]])
    torch.testing.assert_close(as_dtype(values, "float32"), shares)
    assert as_dtype(shares.half(), "float32").dtype == torch.float32


@every_format
def test_predictors_say_what_they_are(files: Files, opened: Opened, to: Format) -> None:
    exported = opened[to]
    assert exported.path == files[to].path
    assert exported.predictor.num_classes == 3
    assert exported.predictor.device == torch.device("cpu")


def test_programs_of_torch_move_to_a_device(files: Files) -> None:
    """To one that every machine has, and that computes shapes alone."""
    device = torch.device("meta")
    predictor = open_exported(files["torch-export"].path, device=device, trust=True).predictor
    assert predictor.device == device
    probs = predictor.probs(_image(40, 50)[None].to(device), (40, 50))
    assert (probs.device, probs.shape) == (device, (1, 3, 40, 50))


@pytest.mark.gpu
@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
def test_programs_of_torch_on_a_gpu(files: Files, opened: Opened) -> None:
    image = _image(61, 75)
    predictor = open_exported(
        files["torch-export"].path, device=torch.device("cuda"), trust=True
    ).predictor
    probs = predictor.probs(image[None].cuda(), (61, 75))[0]
    expected = _predict(opened["torch-export"], image)
    torch.testing.assert_close(probs.cpu(), expected, rtol=0, atol=0.01)


def test_onnxruntime_takes_a_gpu_and_as_many_threads_as_torch(
    files: Files, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: dict[str, Any] = {}
    session = onnxruntime.InferenceSession

    def open_session(path: str, options: Any, *, providers: list[str]) -> Any:
        asked.update(threads=options.intra_op_num_threads, providers=providers)
        return session(path, options, providers=["CPUExecutionProvider"])

    there = ["TensorrtExecutionProvider", "CUDAExecutionProvider", "CPUExecutionProvider"]
    monkeypatch.setattr(onnxruntime, "get_available_providers", lambda: there)
    monkeypatch.setattr(onnxruntime, "InferenceSession", open_session)
    open_exported(files["onnx"].path)
    assert asked == {"threads": torch.get_num_threads(), "providers": there[1:]}


# Files that cannot be run


def test_names() -> None:
    assert is_exported(Path("a/model.ONNX"))
    assert not is_exported(Path("runs/x/checkpoints/best.ckpt"))


def test_images_that_are_too_small_are_named(opened: Opened, tmp_path: Path) -> None:
    """As in the case 25 of ../shared/cases: the others are predicted."""
    for name, size in (("fine", (50, 71)), ("row", (1, 71)), ("tiny", (5, 5))):
        Image.fromarray(_image(*size).permute(1, 2, 0).numpy()).save(tmp_path / f"{name}.png")
    file = opened["torch-export"]
    items = find_items(tmp_path)
    shown = progress_of(False)
    predictions = Predictions(items, file.predictor, file.description, InferenceSettings(), shown)
    saved = predictions.save(tmp_path / "out")
    assert (saved.written, saved.interrupted) == (1, False)
    for line, name, found in zip(saved.failed, ("row", "tiny"), ("71 x 1", "5 x 5"), strict=True):
        assert line.startswith(f"{tmp_path / name}.png: The program needs at least 17 pixels")
        assert f"but got {found}. Use larger windows" in line
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["fine.png"]


def test_a_file_that_lies_where_export_writes_it_is_named(files: Files, tmp_path: Path) -> None:
    """As in the case 28 of ../shared/cases."""
    best = tmp_path / "checkpoints" / "best.onnx"
    best.parent.mkdir()
    best.write_bytes(files["onnx"].path.read_bytes())
    with pytest.raises(CheckpointError, match=rf"model\.onnx does not exist: .*Found {best}\."):
        open_exported(tmp_path / "model.onnx")


def test_no_such_file(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match=r"none\.onnx does not exist"):
        open_exported(tmp_path / "none.onnx")
    (tmp_path / "a.bin").touch()
    with pytest.raises(ConfigError, match=r"a\.bin has none of the suffixes \.onnx, \.pt2"):
        open_exported(tmp_path / "a.bin")


@every_format
def test_damaged_files(files: Files, to: Format, tmp_path: Path) -> None:
    path = tmp_path / files[to].path.name
    content = files[to].path.read_bytes()
    for cut in (content[: len(content) // 2], b"", b"no such format"):
        path.write_bytes(cut)
        with pytest.raises(CheckpointError, match=path.name):
            open_exported(path, trust=True)


def _with_strings(file: Report, strings: dict[str, str], folder: Path) -> Path:
    """Copy a file, and give it another description of itself."""
    path = folder / file.path.name
    if path.suffix == ".onnx":
        model = onnx.load(file.path)
        onnx.helper.set_model_props(model, strings)
        onnx.save(model, path)
    elif path.suffix == ".safetensors":
        save_file(load_file(file.path), path, metadata=strings)
    else:
        _edit(file.path, path, {"extra/softiou.json": lambda _: json.dumps(strings).encode()})
    return path


def _edit(source: Path, path: Path, edits: dict[str, Callable[[bytes], bytes]]) -> None:
    """Copy an archive with some members changed."""
    with zipfile.ZipFile(source) as old, zipfile.ZipFile(path, "w") as new:
        for name in old.namelist():
            edit = edits.get(name.partition("/")[2])
            content = old.read(name)
            new.writestr(name, edit(content) if edit else content)


@every_format
def test_files_that_others_wrote(files: Files, to: Format, tmp_path: Path) -> None:
    path = _with_strings(files[to], {"author": "somebody"}, tmp_path)
    with pytest.raises(CheckpointError, match=r"was not written by `softiou export`"):
        open_exported(path, trust=True)


@every_format
def test_files_of_a_newer_softiou(files: Files, to: Format, tmp_path: Path) -> None:
    strings = {**to_strings(files[to].info), "softiou_format": "2"}
    with pytest.raises(CheckpointError, match=r"has the format 2, newer .* \(1\)\. Update"):
        open_exported(_with_strings(files[to], strings, tmp_path), trust=True)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("classes", None, r"description\.classes: Field required"),
        ("classes", "no list", r"description\.classes: Input should be a valid tuple"),
        ("palette", "[[1, 2]]", r"description\.palette"),
        ("ignore_index", "[]", r"description\.ignore_index: Input should be a valid integer"),
        ("calibration", '{"kind": "vector"}', r"scaling\.scale: Field required"),
        (
            "input",
            '{"dtype": "int7", "smallest_px": 1}',
            "input_dtype: Input should be 'uint8' or 'float32'",
        ),
        ("softiou_format", "first", "ValueError"),
    ],
)
def test_damaged_descriptions(
    files: Files, key: str, value: str | None, message: str, tmp_path: Path
) -> None:
    strings = {**to_strings(files["safetensors"].info), "note": "not JSON {"}
    strings.pop(key)
    if value is not None:
        strings[key] = value
    path = _with_strings(files["safetensors"], strings, tmp_path)
    with pytest.raises(CheckpointError, match=rf"the metadata is damaged: .*{message}"):
        open_exported(path)


def test_one_temperature_is_a_string_of_its_own(files: Files) -> None:
    from dataclasses import replace

    info = replace(files["onnx"].info, scaling=LogitScaling("temperature", (0.8,)))
    assert float(to_strings(info)["temperature"]) == pytest.approx(1.25)
    assert to_strings(replace(info, scaling=None))["temperature"] == "1.0"


def test_weights_that_do_not_fit_their_model(files: Files, tmp_path: Path) -> None:
    file = files["safetensors"]
    strings = to_strings(file.info)
    for change, message in (
        ({"num_classes": 4}, "do not match its model"),
        ({"depth": 4}, r"settings unknown to this softiou: \['depth'\]"),
        ({"encoder": None}, "has an invalid model specification"),
    ):
        model: dict[str, Any] = {**file.info.model, **change}
        model = {key: value for key, value in model.items() if value is not None or key == "depth"}
        path = _with_strings(file, {**strings, "model": json.dumps(model)}, tmp_path)
        with pytest.raises(CheckpointError, match=message):
            open_exported(path)


class _Evil:
    def __reduce__(self) -> Any:
        return os.mkdir, ("evil",)


def _pickled_example(_: bytes) -> bytes:
    buffer = io.BytesIO()
    torch.save(_Evil(), buffer)
    return buffer.getvalue()


def _evil_guard(content: bytes) -> bytes:
    program = json.loads(content)
    program["guards_code"] = ["__import__('os').mkdir('evil')"]
    return json.dumps(program).encode()


def _evil_expression(content: bytes) -> bytes:
    """Change every symbolic size to text that sympy would evaluate."""
    return re.sub(
        rb'"expr_str": "[^"]*"', b"\"expr_str\": \"__import__('os').mkdir('evil')\"", content
    )


@pytest.mark.parametrize(
    "edits",
    [
        {},
        {"data/sample_inputs/model.pt": _pickled_example},
        {"models/model.json": _evil_guard},
        {"models/model.json": _evil_expression},
    ],
)
def test_programs_of_torch_are_not_opened_without_trust(
    files: Files, edits: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(torch.export, "load", lambda *_, **__: pytest.fail("it was loaded"))
    monkeypatch.setattr(torch, "load", lambda *_, **__: pytest.fail("it was loaded"))
    path = tmp_path / "evil.pt2"
    _edit(files["torch-export"].path, path, edits)
    with pytest.raises(CheckpointError, match=r"evil\.pt2 is a torch.export program.* add --trust"):
        open_exported(path)
    assert not Path("evil").exists()


def test_a_broken_graph(files: Files, tmp_path: Path) -> None:
    path = tmp_path / "broken.pt2"
    _edit(files["torch-export"].path, path, {"models/model.json": lambda _: b"{}"})
    with pytest.raises(CheckpointError, match=r"broken\.pt2 is damaged"):
        open_exported(path, trust=True)


def test_archives_of_other_programs(tmp_path: Path) -> None:
    path = tmp_path / "other.pt2"
    program = torch.export.export(torch.nn.ReLU(), (torch.zeros(2),))
    torch.export.save(program, path)
    with pytest.raises(CheckpointError, match="not written by `softiou export`"):
        open_exported(path, trust=True)


@pytest.mark.parametrize("place", ["../secret.bin", "{outside}"])
def test_onnx_reads_no_numbers_from_outside_its_folder(place: str, tmp_path: Path) -> None:
    outside = tmp_path / "secret.bin"
    outside.write_bytes(bytes(16))
    weight = onnx.TensorProto(name="w", data_type=1, dims=[4], data_location="EXTERNAL")
    values = {"location": place.format(outside=outside), "offset": "0", "length": "16"}
    for key, value in values.items():
        weight.external_data.add(key=key, value=value)
    x, y = (onnx.helper.make_tensor_value_info(name, 1, [4]) for name in ("images", "probs"))
    node = onnx.helper.make_node("Add", ["images", "w"], ["probs"])
    graph = onnx.helper.make_graph([node], "graph", [x], [y], [weight])
    opset = onnx.helper.make_opsetid("", 18)
    path = tmp_path / "folder" / "model.onnx"
    path.parent.mkdir()
    model = onnx.helper.make_model(graph, opset_imports=[opset], ir_version=9)
    path.write_bytes(model.SerializeToString())
    with pytest.raises(CheckpointError, match="External data path"):
        open_exported(path)


def test_without_onnxruntime(files: Files, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(ConfigError, match=r"pip install onnxruntime"):
        open_exported(files["onnx"].path)


# Without the libraries of training

PREDICT = """
import sys

class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {refused!r}:
            raise ModuleNotFoundError(f"refused: {{name}}", name=name)

sys.meta_path.insert(0, Refuse())
sys.argv = ["softiou", "predict", {file!r}, {image!r}, "--out", {out!r}]
sys.argv += ["--probabilities", "--flips", "--trust"]
from softiou.cli import main
main()
"""
TRAINING = ("pytorch_lightning", "lightning", "tensorboard")
BUILDING = ("segmentation_models_pytorch", "timm", "transformers", "safetensors")


@pytest.mark.parametrize("to", ["onnx", *slow(*(one for one in FORMATS if one != "onnx"))])
def test_predict_runs_without(
    small: TrainedModel, sharp: LogitScaling, files: Files, to: Format, tmp_path: Path
) -> None:
    image = tmp_path / "image.png"
    pixels = np.random.default_rng(0).integers(0, 256, (45, 60, 3), dtype=np.uint8)
    Image.fromarray(pixels).save(image)
    refused = TRAINING if to == "safetensors" else TRAINING + BUILDING
    out, file = tmp_path / "out", files[to].path
    code = PREDICT.format(refused=refused, file=str(file), image=str(image), out=str(out))
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=False, timeout=600
    )
    said = done.stderr.replace("softiou: loading PyTorch ...\n", "")  # on slow machines
    assert (done.returncode, said) == (0, "")
    assert (
        done.stdout
        == f"calibrated: vector, included in {file.name}\n1 of 1 masks written to {out}\n"
    )
    rgb = torch.from_numpy(pixels).permute(2, 0, 1)
    flips = InferenceSettings(flips=True)
    expected = predict_probs(small.model, rgb, precision="fp32", settings=flips, scaling=sharp)
    probs = np.load(out / "image.probs.npy").astype(np.float32)
    # safetensors run in the fastest precision of this machine
    atol = 0.05 if to == "safetensors" else 0.001
    np.testing.assert_allclose(probs, expected.numpy(), rtol=0, atol=atol)
    with Image.open(out / "image.png") as mask:
        same = np.asarray(mask) == expected.argmax(0).numpy()
        assert (mask.getpalette() or [])[:9] == [9, 9, 9, 200, 0, 0, 0, 0, 90]
    assert same.mean() > (0.97 if to == "safetensors" else 0.9999)
