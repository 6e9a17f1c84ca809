"""softiou export, and softiou predict from what it writes."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from softiou.calibration import Calibration, Change, save_calibration
from softiou.checkpoints import load_trained
from softiou.data import read_image
from softiou.exporting import export_model, open_exported
from softiou.inference import predict_probs
from softiou.temperature import LogitScaling

Run = Callable[..., Any]
COLD = LogitScaling("temperature", (0.5,))


def _calibrate(run: Path, scaling: LogitScaling) -> None:
    zero = Change(1.0, 1.0)
    found = Calibration(scaling, "shapes", "val", "hard", 3, 100, 0, nll=zero, ece=zero)
    save_calibration(found, load_trained(run))


def test_onnx_says_what_is_inside_and_predicts_the_same_masks(
    softiou: Run, run_copy: Path, shapes: Path
) -> None:
    _calibrate(run_copy, COLD)
    result = softiou("export", run_copy, "--to", "onnx", "--out", "made/model.onnx")
    assert (result.status, result.err) == (0, "")
    lines = result.out.splitlines()
    assert lines[:3] == [
        "calibration  temperature 2.000 included",
        "images       uint8 RGB (N, 3, H, W) in 0..255",
        "probs        float32 (N, 3, H, W)",
    ]
    assert lines[3].startswith("checked      largest difference in a probability ")
    assert float(lines[3].split()[-1]) < 1e-5
    assert lines[4].startswith("wrote        made/model.onnx (")

    images = shapes / "test" / "images"
    command = (
        "predict",
        "made/model.onnx",
        images,
        "--probabilities",
        "--overlays",
        "--calibrated",
    )
    predicted = softiou(*command)
    assert (predicted.status, predicted.err) == (0, "")
    assert predicted.out == (
        "calibrated: temperature, included in model.onnx\n3 of 3 masks written to predictions\n"
    )
    model = load_trained(run_copy).model
    for file in images.iterdir():
        probs = predict_probs(model, read_image(file), precision="fp32", scaling=COLD)
        with Image.open(f"predictions/{file.stem}.png") as mask:
            assert np.array_equal(np.asarray(mask), probs.argmax(0).numpy())
        found = np.load(f"predictions/{file.stem}.probs.npy")
        np.testing.assert_allclose(found, probs.numpy(), rtol=0, atol=0.001)
        assert Path(f"predictions/{file.stem}.overlay.jpg").is_file()


def test_the_file_lies_in_the_run_or_beside_the_checkpoint(softiou: Run, run_copy: Path) -> None:
    _calibrate(run_copy, LogitScaling("vector", (1.0, 2.0, 3.0), (0.0, 0.0, 1.0)))
    path = run_copy / "model.safetensors"
    result = softiou("export", run_copy, "--to", "safetensors")
    assert result.status == 0, result.err
    lines = result.out.splitlines()
    assert lines[0] == "calibration  vector included"
    assert lines[1] == "checked      largest difference in a probability 0.0e+00"
    assert lines[2].startswith(f"wrote        {path} (")
    softiou("export", run_copy, "--to", "safetensors").assert_refused("exists", "--overwrite")
    again = softiou("export", run_copy, "--to", "safetensors", "--uncalibrated", "--overwrite")
    assert again.status == 0
    assert again.out.startswith("calibration  none included (`softiou calibrate` fits one)\n")
    assert open_exported(path).info.scaling is None
    checkpoint = run_copy / "checkpoints" / "last.ckpt"
    result = softiou("export", checkpoint, "--to", "safetensors", "--json")
    written = json.loads(result.out)
    assert written["path"] == str(run_copy / "checkpoints" / "last.safetensors")
    assert (written["info"]["scaling"], written["difference"]) == (None, 0)
    assert written["size_bytes"] == Path(written["path"]).stat().st_size


@pytest.mark.slow
def test_torch_export_of_floating_images(softiou: Run, run_copy: Path, shapes: Path) -> None:
    result = softiou("export", run_copy, "--to", "torch-export", "--input-dtype", "float32")
    assert result.status == 0, result.err
    least = "images       float32 RGB (N, 3, H, W) in 0..1, at least 33 pixels per side"
    assert result.out.splitlines()[1] == least
    file = run_copy / "model.pt2"
    image = shapes / "test" / "images" / "test0.png"
    softiou("predict", file, image).assert_refused("which can run any code", "add --trust")
    predicted = softiou("predict", file, image, "--trust")
    assert (predicted.status, predicted.out) == (0, "1 of 1 masks written to predictions\n")
    probs = predict_probs(
        load_trained(run_copy).model,
        read_image(shapes / "test" / "images" / "test0.png"),
        precision="fp32",
    )
    with Image.open("predictions/test0.png") as mask:
        assert np.array_equal(np.asarray(mask), probs.argmax(0).numpy())


def test_corrupt_images_cost_no_other(
    softiou: Run, run_copy: Path, shapes: Path, tmp_path: Path
) -> None:
    trained = load_trained(run_copy)
    file = tmp_path / "m.safetensors"
    export_model(trained, file, to="safetensors")
    images = Path(shutil.copytree(shapes / "test" / "images", "images"))
    (images / "test1.png").write_bytes(b"none")
    result = softiou("predict", file, images, "--window", "32")
    assert result.status == 1
    assert result.out.startswith("2 of 3 masks written to predictions\nfailed  images/test1.png")


def test_teacher(softiou: Run, run_copy: Path, shapes: Path) -> None:
    path = run_copy / "checkpoints" / "best.ckpt"
    content = torch.load(path, weights_only=True)
    weights = content["state_dict"]
    for name in [name for name in weights if name.startswith("model.")]:
        weights[f"teacher.module.{name.removeprefix('model.')}"] = weights[name]
    torch.save(content, path)
    teacher = ("--model", "teacher")
    result = softiou("export", run_copy, "--to", "safetensors", *teacher)
    assert result.status == 0, result.err
    file = run_copy / "model.teacher.safetensors"
    assert open_exported(file).info.weights == "teacher"
    image = shapes / "test" / "images" / "test0.png"
    assert softiou("predict", file, image, *teacher).status == 0
    softiou("export", run_copy, "--to", "safetensors")
    students = run_copy / "model.safetensors"
    softiou("predict", students, image, *teacher).assert_refused(
        "contains the weights of the student"
    )


def test_refuses(softiou: Run, run_copy: Path, shapes: Path) -> None:
    softiou("export", "nowhere", "--to", "onnx").assert_refused("nowhere does not exist")
    wrong = softiou("export", run_copy, "--to", "onnx", "--out", "model.pt2")
    wrong.assert_refused("--out model.pt2: the name of a file for --to onnx must end in .onnx")
    plain = softiou("export", run_copy, "--to", "onnx", "--calibrated")
    plain.assert_refused("has no calibration", "softiou calibrate")
    assert softiou("export", run_copy).status == 2
    file = run_copy / "model.safetensors"
    images = shapes / "test" / "images"
    softiou("predict", file, images).assert_refused("model.safetensors does not exist")
    assert softiou("export", run_copy, "--to", "safetensors").status == 0
    refused = softiou("predict", file, images, "--calibrated")
    refused.assert_refused("was exported without a calibration")
    assert not Path("predictions").exists()
    assert sorted(path.name for path in Path().iterdir()) == ["run"]


def test_settings_of_the_run_are_not_needed(softiou: Run, run_copy: Path, tmp_path: Path) -> None:
    """The file holds all that there is to know."""
    assert softiou("export", run_copy, "--to", "safetensors", "--out", "m.safetensors").status == 0
    shutil.rmtree(run_copy)
    info = open_exported(tmp_path / "m.safetensors").info
    assert info.description.classes == ("ground", "box", "nothing")
    assert json.loads(json.dumps(info.model))["architecture"] == "linknet"
    assert info.step > 0
