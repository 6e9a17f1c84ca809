"""softiou calibrate, and what predict does with it."""

import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from softiou.checkpoints import load_trained
from softiou.data import read_image
from softiou.inference import best_device, predict_logits
from softiou.temperature import LogitScaling

Run = Callable[..., Any]


def _content(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "checkpoints/best.calibration.json").read_text())
    return content


def test_calibrate_writes_beside_the_checkpoint(softiou: Run, run_copy: Path, shapes: Path) -> None:
    result = softiou("calibrate", run_copy, shapes)
    assert (result.status, result.err) == (0, "")
    content = _content(run_copy)
    lines = result.out.splitlines()
    temperature = 1 / content["scale"][0]
    where = f"5760 pixels of 3 images of {shapes}, val"
    assert lines[0] == f"temperature {temperature:.3f}: {where}"
    before, after = content["nll"]["before"], content["nll"]["after"]
    assert lines[1] == f"NLL       {before:.4f} -> {after:.4f}"
    ece = content["ece"]
    assert (
        lines[2] == f"ECE       {ece['before']:.2f} -> {ece['after']:.2f} per cent, on these pixels"
    )
    assert lines[3:] == [f"wrote     {run_copy / 'checkpoints' / 'best.calibration.json'}"]
    assert after < before
    again = json.loads(softiou("calibrate", run_copy, shapes, "--json").out)
    assert again["checkpoint"] == str(run_copy)
    assert again["scaling"] == {key: content[key] for key in ("kind", "scale", "bias")}
    assert (again["nll"], again["ece"]) == (content["nll"], content["ece"])
    assert (content["split"], content["labels"], content["pixels"]) == ("val", "hard", 5760)


@pytest.mark.parametrize(
    ("kind", "says"), [("class_temperature", "temperatures "), ("vector", "scales ")]
)
def test_other_kinds_and_splits(
    softiou: Run, run_copy: Path, shapes: Path, kind: str, says: str
) -> None:
    result = softiou("calibrate", run_copy, shapes, "--kind", kind, "--split", "train")
    assert result.status == 0, result.err
    assert result.out.startswith(says)
    content = _content(run_copy)
    assert (content["kind"], content["split"], len(content["scale"])) == (kind, "train", 3)
    again = softiou("calibrate", run_copy, shapes)
    assert f"replaced  {kind} fitted on {shapes}, train\n" in again.out
    assert _content(run_copy)["kind"] == "temperature"


def test_what_was_taught_softly_is_calibrated_softly(
    softiou: Run, run_copy: Path, shapes: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from softiou import checkpoints

    def load(*arguments: Any, **options: Any) -> Any:
        trained = load_trained(*arguments, **options)
        trained.config["labels"]["kind"] = "soft"
        return trained

    monkeypatch.setattr(checkpoints, "load_trained", load)
    assert softiou("calibrate", run_copy, shapes).status == 0
    assert _content(run_copy)["labels"] == "soft"


def test_calibrate_refuses_what_does_not_fit(softiou: Run, run_copy: Path, shapes: Path) -> None:
    softiou("calibrate", run_copy, "digits").assert_refused("digits: 3 classes instead of 11")
    softiou("calibrate", "nowhere", shapes).assert_refused("nowhere does not exist")
    softiou("calibrate", run_copy, shapes, "--split", "vla").assert_refused("'vla'", "train, val")
    teacher = softiou("calibrate", run_copy, shapes, "--model", "teacher")
    teacher.assert_refused("has no teacher")
    assert softiou("calibrate", run_copy, shapes, "--kind", "matrix").status == 2
    assert not (run_copy / "checkpoints" / "best.calibration.json").exists()


def test_a_newer_calibration_is_not_replaced(softiou: Run, run_copy: Path, shapes: Path) -> None:
    path = run_copy / "checkpoints" / "best.calibration.json"
    path.write_text('{"schema_version": 9}')
    softiou("calibrate", run_copy, shapes).assert_refused("format 9", "Update softiou")
    assert path.read_text() == '{"schema_version": 9}'


def test_predict_applies_the_calibration(softiou: Run, run_copy: Path, shapes: Path) -> None:
    image = shapes / "test" / "images" / "test0.png"
    command = ("predict", run_copy, image, "--probabilities")
    missing = softiou(*command, "--calibrated")
    missing.assert_refused("has no calibration", f"softiou calibrate {run_copy}")
    assert not Path("predictions").exists()
    assert softiou("calibrate", run_copy, shapes).status == 0
    assert softiou(*command, "--out", "plain", "--uncalibrated").status == 0
    assert softiou(*command, "--out", "scaled").status == 0
    scale = _content(run_copy)["scale"][0]
    trained = load_trained(run_copy)
    model = trained.model.to(best_device())
    logits = predict_logits(model, read_image(image), precision="fp32").cpu()
    for out, factor in (("plain", 1.0), ("scaled", scale)):
        expected = (logits * factor).softmax(0).numpy()
        found = np.load(f"{out}/test0.probs.npy")
        np.testing.assert_allclose(found, expected, rtol=0, atol=1e-3)
    with Image.open("plain/test0.png") as plain, Image.open("scaled/test0.png") as scaled:
        assert np.array_equal(np.asarray(plain), np.asarray(scaled))


def test_a_calibration_of_another_checkpoint_is_refused(
    softiou: Run, run_copy: Path, shapes: Path
) -> None:
    assert softiou("calibrate", run_copy, shapes).status == 0
    checkpoints = run_copy / "checkpoints"
    shutil.copy(checkpoints / "last.ckpt", checkpoints / "best.ckpt")
    with (checkpoints / "best.ckpt").open("ab") as file:
        file.write(b"\0")  # the best and the last may be the same
    refused = softiou("predict", run_copy, shapes / "test" / "images", "--calibrated")
    refused.assert_refused("fitted for another checkpoint", "softiou calibrate")
    told = softiou("predict", run_copy, shapes / "test" / "images")
    assert told.status == 0
    assert "not calibrated: " in told.out


@pytest.mark.parametrize(
    ("scales", "says"),
    [
        ((1.0, -0.2, 2.0), "doubtful: a scale is not positive"),
        ((1.0, 0.01, 2.0), "doubtful: a temperature is at the limit of the allowed range"),
        ((1.0, 100.0, 2.0), "doubtful: a temperature is at the limit of the allowed range"),
        ((1.0, 0.5, 2.0), None),
    ],
)
def test_fit_that_nobody_should_trust_is_told(
    scales: tuple[float, ...],
    says: str | None,
    softiou: Run,
    run_copy: Path,
    shapes: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    scaling = LogitScaling("vector", scales, (0.0, 0.0, 0.0))
    monkeypatch.setattr("softiou.calibration.fitting.fit_scaling", lambda *_, **__: scaling)
    result = softiou("calibrate", run_copy, shapes, "--kind", "vector")
    assert result.status == 0, result.err
    assert ("doubtful" in result.out) == (says is not None)
    assert says is None or says in result.out
