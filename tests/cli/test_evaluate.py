"""softiou evaluate: how the model is run, and its calibration beside the plain figures."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

Run = Callable[..., Any]


def _content(run: Path) -> dict[str, Any]:
    content: dict[str, Any] = json.loads((run / "evaluation.json").read_text())
    return content


def test_calibration_is_reported_before_and_after(
    softiou: Run, run_copy: Path, shapes: Path
) -> None:
    assert softiou("calibrate", run_copy, shapes).status == 0
    result = softiou("evaluate", run_copy, shapes, "--split", "val")
    assert result.status == 0, result.err
    assert "after temperature" in result.out
    assert "was fitted on this split" in result.out
    other = softiou("evaluate", run_copy, shapes, "--split", "train", "--out", "elsewhere")
    assert "was fitted on this split" not in other.out
    content = _content(run_copy)
    calibrated = content["calibrated"]
    assert (calibrated["split"], calibrated["data"]) == ("val", str(shapes))
    assert (calibrated["kind"], calibrated["path"]) == ("temperature", "best.calibration.json")
    assert calibrated["metrics"]["nll"] < content["metrics"]["nll"]  # of the data it was fitted on
    low, high = content["intervals"]["miou_d"]
    assert f"{low:.1f}..{high:.1f}" in result.out


def test_a_calibration_is_fitted_to_the_labels_that_are_asked_for(
    softiou: Run, run_copy: Path, shapes: Path
) -> None:
    assert softiou("calibrate", run_copy, shapes, "--labels", "hard").status == 0
    wrong = softiou("evaluate", run_copy, shapes, "--labels", "soft", "--out", "wrong")
    doubt = "the calibration was fitted to hard labels, but these labels are soft: fit it again "
    assert doubt + "with softiou calibrate --labels soft" in wrong.out
    assert softiou("calibrate", run_copy, shapes, "--labels", "soft").status == 0
    content = json.loads((run_copy / "checkpoints/best.calibration.json").read_text())
    assert content["labels"] == "soft"
    right = softiou("evaluate", run_copy, shapes, "--labels", "soft", "--out", "right")
    assert "the calibration was fitted to" not in right.out


def test_masks_that_change_are_scored_again(softiou: Run, run_copy: Path, shapes: Path) -> None:
    assert softiou("calibrate", run_copy, shapes).status == 0
    softiou("evaluate", run_copy, shapes, "--split", "val")
    assert "miou_d" not in _content(run_copy)["calibrated"]["metrics"]  # the same masks
    assert softiou("calibrate", run_copy, shapes, "--kind", "vector").status == 0
    softiou("evaluate", run_copy, shapes, "--split", "val")
    found = _content(run_copy)["calibrated"]["metrics"]
    assert {"miou_d", "miou_i", "miou_c", "accuracy"} <= found.keys()


def test_calibration_of_another_checkpoint_is_told_and_left_out(
    softiou: Run, run_copy: Path, shapes: Path
) -> None:
    assert softiou("calibrate", run_copy, shapes).status == 0
    sidecar = run_copy / "checkpoints" / "best.calibration.json"
    sidecar.write_text(sidecar.read_text().replace('"sha256": "', '"sha256": "0'))
    result = softiou("evaluate", run_copy, shapes, "--split", "val")
    assert result.status == 0, result.err
    assert "not calibrated: " in result.out
    assert "was fitted for another checkpoint" in result.out
    assert _content(run_copy)["calibrated"] is None


def test_windows_flips_and_scales(softiou: Run, run_copy: Path, shapes: Path) -> None:
    options = ("--window", "32x24", "--overlap", "0.25", "--flips", "--scales", "1,1.5")
    result = softiou("evaluate", run_copy, shapes, "--split", "val", "--json", *options)
    assert result.status == 0, result.err
    content = json.loads(result.out)
    assert content == _content(run_copy)
    assert content["inference"] == {
        "window_px": [32, 24],
        "overlap": 0.25,
        "flips": True,
        "scales": [1.0, 1.5],
        "precision": "fp32",
    }
    assert softiou("evaluate", run_copy, shapes, "--split", "val").status == 0
    assert _content(run_copy)["metrics"] != content["metrics"]


def test_window_that_is_none(softiou: Run, run_copy: Path, shapes: Path) -> None:
    result = softiou("evaluate", run_copy, shapes, "--split", "val", "--window", "wide")
    result.assert_refused("--window", "'wide'")
