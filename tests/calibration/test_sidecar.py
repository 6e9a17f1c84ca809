"""The file beside a checkpoint: what comes back, and for which checkpoint alone."""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch

from softiou.calibration import (
    Calibration,
    Change,
    calibrate,
    calibration_path,
    earlier_calibration,
    load_calibration,
    load_scaling,
    require_scaling,
    save_calibration,
)
from softiou.checkpoints import TrainedModel, entry, file_sha256, load_trained
from softiou.data import DigitScenes
from softiou.errors import CheckpointError
from softiou.models import ModelSpec, SegmentationModel
from softiou.temperature import KINDS, Kind, LogitScaling

SPEC = ModelSpec("linknet", "tu-test_efficientnet", 11)
VECTOR = LogitScaling("vector", (1 / 3, *[0.1] * 10), (2 / 7, *[-1e-17] * 10))
CALIBRATION = Calibration(
    scaling=VECTOR,
    data="digits",
    split="val",
    labels="hard",
    images=4,
    pixels=400,
    seed=0,
    nll=Change(0.7, 0.6),
    ece=Change(8.1, 1 / 3),
)


@pytest.fixture(scope="module")
def content() -> dict[str, Any]:
    """What Lightning would write for a model and its teacher."""
    torch.manual_seed(0)
    weights = SegmentationModel(SPEC).state_dict()
    state = {f"model.{name}": value for name, value in weights.items()}
    state |= {f"teacher.module.{name}": value for name, value in weights.items()}
    description = DigitScenes("val").description
    return {"softiou": entry(SPEC, description, {}), "state_dict": state, "global_step": 12}


@pytest.fixture
def trained(content: dict[str, Any], tmp_path: Path) -> TrainedModel:
    torch.save(content, tmp_path / "best.ckpt")
    return load_trained(tmp_path / "best.ckpt")


def _edit(trained: TrainedModel, change: Callable[[dict[str, Any]], object]) -> None:
    path = calibration_path(trained)
    content = json.loads(path.read_text())
    change(content)
    path.write_text(json.dumps(content))


# Fitting over a data set


@pytest.mark.parametrize("labels", ["hard", "soft"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_model_is_calibrated_on_a_data_set(
    trained: TrainedModel, kind: Kind, labels: Any
) -> None:
    scenes = DigitScenes("val", labels=labels, size=4)
    found = calibrate(trained.model, scenes, data="digits", precision="fp32", kind=kind, most=400)
    assert (found.data, found.split, found.labels) == ("digits", "val", labels)
    assert (found.images, found.pixels, found.seed) == (4, 400, 0)
    assert found.scaling.kind == kind
    assert found.nll.after < found.nll.before
    assert found.ece.before != found.ece.after
    assert 0 <= found.ece.after <= 100
    again = calibrate(trained.model, scenes, data="digits", precision="fp32", kind=kind, most=400)
    assert again == found


# Keeping


@pytest.mark.parametrize("scaling", [VECTOR, LogitScaling("temperature", (1 / 3,))])
def test_calibration_comes_back_exactly(trained: TrainedModel, scaling: LogitScaling) -> None:
    calibration = replace(CALIBRATION, scaling=scaling)
    path = save_calibration(calibration, trained)
    assert path == trained.path.with_name("best.calibration.json")
    assert load_calibration(trained) == calibration
    assert load_scaling(trained) == require_scaling(trained) == scaling
    content = json.loads(path.read_text())
    assert content["schema_version"] == 1
    assert content["checkpoint"] == {
        "file": "best.ckpt",
        "sha256": file_sha256(trained.path),
        "weights": "student",
    }
    assert content["kind"] == scaling.kind
    assert content["nll"] == {"before": 0.7, "after": 0.6}
    assert [p.name for p in trained.path.parent.iterdir() if p.name.startswith(".")] == []


def test_each_kind_of_weights_has_its_own(trained: TrainedModel) -> None:
    teacher = load_trained(trained.path, weights="teacher")
    save_calibration(CALIBRATION, trained)
    assert load_scaling(teacher) is None
    path = save_calibration(CALIBRATION, teacher)
    assert path.name == "best.teacher.calibration.json"
    assert load_scaling(teacher) == VECTOR
    # A file that was renamed is found out.
    path.replace(calibration_path(trained))
    with pytest.raises(CheckpointError, match="fitted for another checkpoint"):
        load_scaling(trained)


def test_none_is_none_or_names_the_way_out(trained: TrainedModel) -> None:
    assert load_calibration(trained) is None
    assert load_scaling(trained) is None
    assert earlier_calibration(trained) is None
    with pytest.raises(CheckpointError, match=r"no calibration .*softiou calibrate .*ckpt DATA\."):
        require_scaling(trained)
    teacher = load_trained(trained.path, weights="teacher")
    with pytest.raises(CheckpointError, match=r"its teacher.* DATA --model teacher\."):
        require_scaling(teacher)


def test_another_checkpoint_of_the_name_is_refused(
    trained: TrainedModel, content: dict[str, Any]
) -> None:
    save_calibration(CALIBRATION, trained)
    torch.save(content | {"global_step": 13}, trained.path)  # trained further
    with pytest.raises(CheckpointError, match=r"another checkpoint: .*softiou calibrate .*DATA"):
        load_scaling(trained)
    assert earlier_calibration(trained) == "a damaged one, or one of another checkpoint"
    save_calibration(CALIBRATION, trained)
    assert load_scaling(trained) == VECTOR


def test_a_new_fit_replaces_the_old_one_and_says_so(trained: TrainedModel) -> None:
    save_calibration(CALIBRATION, trained)
    assert earlier_calibration(trained) == "vector fitted on digits, val"
    save_calibration(replace(CALIBRATION, split="test"), trained)
    assert earlier_calibration(trained) == "vector fitted on digits, test"


def test_newer_format_is_refused_and_not_replaced(trained: TrainedModel) -> None:
    save_calibration(CALIBRATION, trained)
    _edit(trained, lambda content: content.update(schema_version=2))
    for read in (load_scaling, earlier_calibration):
        with pytest.raises(
            CheckpointError, match=r"format 2, newer than .* \(1\)\. Update softiou"
        ):
            read(trained)


@pytest.mark.parametrize(
    "change",
    [
        lambda content: content.pop("scale"),
        lambda content: content.pop("checkpoint"),
        lambda content: content.update(kind="matrix"),
        lambda content: content.update(scale=[]),
        lambda content: content.update(scale=3.0),
        lambda content: content.update(scale=["one"]),
        lambda content: content.update(bias=[float("nan")]),
        lambda content: content["nll"].pop("after"),
        lambda content: content.update(pixels="many"),
    ],
)
def test_damaged_content_is_refused(trained: TrainedModel, change: Any) -> None:
    save_calibration(CALIBRATION, trained)
    _edit(trained, change)
    with pytest.raises(CheckpointError, match=r"best\.calibration\.json is damaged.*Fit it again"):
        load_scaling(trained)
    assert earlier_calibration(trained) is not None


@pytest.mark.parametrize("text", ["", "{", "[1]", "null", '{"schema_version": "1"}', "\xff"])
def test_damaged_file_is_refused(trained: TrainedModel, text: str) -> None:
    calibration_path(trained).write_bytes(text.encode("latin-1"))
    with pytest.raises(CheckpointError, match=r"best\.calibration\.json is damaged"):
        load_scaling(trained)
