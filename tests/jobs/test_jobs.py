"""Each verb as a function: plain values in, an object that answers out."""

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

import softiou
import softiou.jobs
from conftest import TINY, TrainedRun
from marks import slow
from softiou._screen import progress_of
from softiou.data import open_dataset
from softiou.errors import CheckpointError, ConfigError
from softiou.jobs import calibrating, opening


@pytest.fixture
def run(trained: TrainedRun, tmp_path: Path) -> softiou.jobs.Run:
    """A copy of the session's run, opened."""
    return softiou.load(shutil.copytree(trained.directory, tmp_path / "run"))


def test_evaluation_is_returned_and_written(run: softiou.jobs.Run) -> None:
    found = run.evaluate(split="test", progress=False)
    written = json.loads((run.path / "evaluation.json").read_text())
    assert written["metrics"] == pytest.approx(found.metrics)
    assert (written["split"], written["num_images"]) == ("test", 3)
    assert found.metrics["miou_d"] is not None
    assert found.metrics["miou_d"] > 60  # of 80 steps
    assert run.evaluation is found


def test_windows_and_flips_are_recorded(run: softiou.jobs.Run) -> None:
    found = run.evaluate(split="val", window=32, flips=True, scales=(0.5, 1), progress=False)
    expected = {"window_px": [32, 32], "overlap": 0.5, "flips": True, "scales": [0.5, 1.0]}
    expected["precision"] = "fp32"
    assert found.content["inference"] == expected


def test_calibration_changes_what_is_predicted(run: softiou.jobs.Run, trained: TrainedRun) -> None:
    fitted = run.calibrate(progress=False)
    assert fitted.nll.after < fitted.nll.before
    image = trained.data / "test" / "images" / "test0.png"
    (plain,), (scaled,) = (
        list(run.predict(image, calibrated=calibrated, progress=False))
        for calibrated in (False, None)  # where there is a fit, it is used
    )
    assert plain.stem == scaled.stem == "test0"
    assert torch.equal(plain.labels, scaled.labels)  # one temperature changes no mask
    expected = (plain.probs.log() / (1 / fitted.scaling.scale[0])).softmax(0)
    torch.testing.assert_close(scaled.probs, expected, rtol=1e-3, atol=1e-3)


def test_any_kind_of_image_is_predicted(run: softiou.jobs.Run, trained: TrainedRun) -> None:
    file = trained.data / "test" / "images" / "test1.png"
    with Image.open(file) as opened:
        picture = opened.convert("RGB")
    array = torch.from_numpy(np.array(picture))
    tensor = array.permute(2, 0, 1)
    kinds = [file, picture, array.numpy(), tensor, tensor.unsqueeze(0)]
    found = [next(iter(run.predict(kind, progress=False))).labels for kind in kinds]
    assert found[0].shape == (40, 48)
    assert all(torch.equal(labels, found[0]) for labels in found)


def test_two_runs_are_compared(run: softiou.jobs.Run, tmp_path: Path) -> None:
    run.evaluate(split="test", progress=False)
    other = shutil.copytree(run.path, tmp_path / "other")
    found = softiou.compare(run, other, resamples=50)
    (contrast,) = found.contrasts
    assert "miou_i_q10" in json.loads((run.path / "evaluation.json").read_text())["metrics"]
    assert not any("_q" in name for name in contrast.metrics)  # of one image of three
    assert contrast.metrics["miou_d"].value == 0
    assert contrast.metrics["miou_d"].interval == (0, 0)


def test_a_run_is_exported_and_predicts_the_same(
    run: softiou.jobs.Run, trained: TrainedRun
) -> None:
    written = run.export("safetensors", progress=False)
    assert written.path == run.path / "model.safetensors"
    image = trained.data / "test" / "images" / "test0.png"
    own, exported = (
        next(iter(one.predict(image, progress=False))) for one in (run, softiou.load(written.path))
    )
    torch.testing.assert_close(own.probs, exported.probs, rtol=1e-2, atol=1e-2)


def test_training_ends_with_a_temperature(trained: TrainedRun, tmp_path: Path) -> None:
    done = softiou.train(
        trained.data,
        val_split="test",  # any name of the validation split
        out=tmp_path / "run",
        overrides=[*TINY, "optim.steps=20", "optim.validations=2"],
        progress=False,
    )
    file = done.path / "checkpoints" / "best.calibration.json"
    fitted = json.loads(file.read_text())
    assert (fitted["kind"], fitted["split"], fitted["images"]) == ("temperature", "test", 3)
    assert fitted["nll"]["after"] <= fitted["nll"]["before"]
    assert done.evaluation is not None
    calibrated = done.evaluation.content["calibrated"]
    assert calibrated["metrics"]["nll"] <= done.evaluation.content["metrics"]["nll"] + 1e-6
    (found,) = done.predict(trained.data / "val/images/val0.png", progress=False)
    (plain,) = done.predict(trained.data / "val/images/val0.png", calibrated=False, progress=False)
    expected = (plain.probs.log() * fitted["scale"][0]).softmax(0)
    torch.testing.assert_close(found.probs, expected, rtol=1e-4, atol=1e-5)
    assert done.calibrate(progress=False).split == "test"  # of the run, not "val"
    assert done.evaluation.evaluation.used_for == "selection"  # of the checkpoint, on test
    assert (
        "The best checkpoint was chosen on these images" in (done.path / "report.html").read_text()
    )
    for split, used_for in (("train", "training"), ("val", None)):
        scored = done.evaluate(split=split, progress=False, out=tmp_path / split)
        assert scored.content["used_for"] == used_for


def _count_miou(masks: Path, truth: Path, num_classes: int) -> float:
    """Mean IoU over the data set of written masks, in per cent, by counting pixels."""
    sums, labelled = np.zeros((2, num_classes)), np.zeros(num_classes, bool)
    for file in sorted(truth.glob("*.png")):
        target, preds = (np.asarray(Image.open(path)) for path in (file, masks / file.name))
        for c in range(num_classes):
            sums[0, c] += ((target == c) & (preds == c)).sum()
            sums[1, c] += ((target == c) | (preds == c)).sum()
            labelled[c] |= bool((target == c).any())
    return float(100 * (sums[0, labelled] / sums[1, labelled]).mean())


@pytest.fixture(scope="module")
def onnx_file(trained: TrainedRun, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The session's run as ONNX."""
    run = shutil.copytree(trained.directory, tmp_path_factory.mktemp("onnx") / "run")
    return softiou.load(run).export("onnx", progress=False).path


@pytest.mark.parametrize("to", ["safetensors", *slow("onnx")])
def test_what_is_reported_is_what_is_exported(
    run: softiou.jobs.Run,
    trained: TrainedRun,
    tmp_path: Path,
    to: str,
    request: pytest.FixtureRequest,
) -> None:
    if to == "onnx":
        file = Path(shutil.copy(request.getfixturevalue("onnx_file"), run.path))
    else:
        file = run.export("safetensors", progress=False).path
    own, exported = (
        softiou.evaluate(one, trained.data, split="test", progress=False) for one in (run, file)
    )
    assert own.content["inference"]["precision"] == "fp32"
    for name in ("miou_d", "miou_i", "miou_c", "accuracy"):
        assert exported.metrics[name] == pytest.approx(own.metrics[name], abs=1e-6)
    assert exported.metrics["nll"] == pytest.approx(own.metrics["nll"], rel=1e-5)
    assert exported.content["checkpoint"] == file.name
    assert json.loads((run.path / "evaluation.json").read_text()) == own.content  # not replaced
    for one in (run, file):
        out = tmp_path / f"masks-{Path(one if one is file else 'run').suffix}"
        softiou.jobs.predict(one, trained.data / "test/images", progress=False).save(out)
        counted = _count_miou(out, trained.data / "test/masks", num_classes=3)
        assert counted == pytest.approx(own.metrics["miou_d"], abs=1e-6)


def test_another_precision_is_recorded_and_told(run: softiou.jobs.Run, onnx_file: Path) -> None:
    found = run.evaluate(split="val", precision="bf16", progress=False)
    assert found.content["inference"]["precision"] == "bf16"
    assert found.evaluation.inference.summary() == "precision bf16"
    file = Path(shutil.copy(onnx_file, run.path))
    with pytest.raises(ConfigError, match=r"--precision bf16: .* computes in fp32"):
        softiou.evaluate(file, split="val", precision="bf16", progress=False)


def test_a_data_set_is_checked(trained: TrainedRun) -> None:
    report = softiou.check(trained.data, progress=False)
    assert report.splits["train"].images == 10
    assert report.count("error") == 0


def test_wrong_labels_are_found_with_a_trained_model(
    run: softiou.jobs.Run, trained: TrainedRun, tmp_path: Path
) -> None:
    data = shutil.copytree(trained.data, tmp_path / "shapes")
    clean = softiou.jobs.suspect_labels(run, data, progress=False)
    path = data / "val" / "masks" / "val1.png"
    mask = np.array(Image.open(path))
    top, left = np.argwhere(mask == 1).min(0)
    mask[mask == 1] = 0  # somebody forgot the box
    Image.fromarray(mask).save(path)
    found = softiou.jobs.suspect_labels(run, data, progress=False)
    first = found[0]
    assert (first.split, first.stem, first.target, first.preds) == ("val", "val1", "ground", "box")
    assert np.abs(np.subtract(first.box[:2], (top, left))).max() <= 2
    assert 250 < first.pixels <= 400
    assert first not in clean
    pixels = [one.pixels * one.confidence for one in found]
    assert pixels == sorted(pixels, reverse=True)


def test_soft_labels_are_stored_and_learnt_from(
    run: softiou.jobs.Run, trained: TrainedRun, tmp_path: Path
) -> None:
    store = softiou.label(trained.data, teacher=run, out=tmp_path / "store", progress=False)
    assert len(store.stems("train")) == 10
    assert len(list((tmp_path / "store" / "train").glob("labels-000001-*.tar"))) == 1
    student = softiou.distill(
        trained.data,
        soft_labels=tmp_path / "store",
        baseline="none",
        out=tmp_path / "student",
        overrides=[*TINY, "optim.steps=4", "optim.validations=2"],
        progress=False,
    )
    table = student.contents().model_table
    assert table is not None
    assert [row.name for row in table.rows] == ["student"]  # alone, without a baseline


def test_images_without_masks_are_learnt_from(trained: TrainedRun, tmp_path: Path) -> None:
    random, unlabeled = np.random.default_rng(0), tmp_path / "unlabeled"
    unlabeled.mkdir()
    for number in range(4):
        pixels = random.integers(0, 255, (40, 48, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(unlabeled / f"{number}.png")
    done = softiou.semi(
        trained.data,
        unlabeled=unlabeled,
        out=tmp_path / "semi",
        overrides=[*TINY, "optim.steps=4", "optim.validations=2"],
        progress=False,
    )
    table = done.contents().model_table
    assert table is not None
    assert [row.name for row in table.rows] == ["student", "teacher, its average"]
    assert done.config.semi_supervised is not None


def test_settings_are_known_by_their_short_names() -> None:
    from softiou.jobs.settings import as_overrides

    given = {"steps": 5, "labels": "boundary", "optim": {"ema": 0.9}, "data.flip": 0.0}
    assert as_overrides(given) == [
        "optim.steps=5",
        "labels=boundary",
        "optim.ema=0.9",
        "data.flip=0.0",
    ]
    with pytest.raises(ConfigError, match=r"several sections.*\"data\.batch_size\""):
        as_overrides({"batch_size": 4}, section="semi_supervised")


def test_what_is_not_there_is_named(tmp_path: Path) -> None:
    with pytest.raises(CheckpointError, match="does not exist"):
        softiou.load(tmp_path / "nothing")


def test_results_are_tables_in_a_notebook(run: softiou.jobs.Run, tmp_path: Path) -> None:
    found = run.evaluate(split="test", progress=False)
    assert f"<th>mIoU D</th><td>{found.metrics['miou_d']:.2f}</td>" in found._repr_html_()
    other = shutil.copytree(run.path, tmp_path / "<script>")
    compared = softiou.compare(run, other, resamples=50)._repr_html_()
    assert "&lt;script&gt; - " in compared
    assert "<script>" not in compared
    assert "<th>mIoU D</th><td>0.00</td>" in compared
    report = softiou.check(run.config.data.source, progress=False)
    assert report._repr_html_().startswith("<table><caption>")


def test_processes_wait_until_a_calibration_is_written(
    trained: TrainedRun, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = shutil.copytree(trained.directory, tmp_path / "run")
    path = run / "checkpoints" / "best.calibration.json"
    met: list[tuple[list[Any], bool]] = []
    monkeypatch.setattr(calibrating, "joined", lambda own: met.append((own, path.is_file())))
    for first in (False, True):
        monkeypatch.setattr(calibrating, "is_first", lambda first=first: first)
        softiou.calibrate(run, trained.data, progress=False)
    assert met == [([None], False), ([path], True)]
    path.unlink()
    calibrating.calibrate_run(softiou.load(run), progress_of(False))
    assert met[-1] == ([path], True)


@pytest.mark.parametrize(("device", "expected"), [("cpu", 1), ("cuda", 5)])
def test_a_gpu_has_as_many_loading_processes_as_in_training(
    monkeypatch: pytest.MonkeyPatch, device: str, expected: int
) -> None:
    started = []

    def loader(samples: Any, *, workers: int, **settings: Any) -> list[Any]:
        started.append(workers)
        return []

    monkeypatch.setattr(opening, "best_device", lambda: torch.device(device))
    monkeypatch.setattr(opening, "loading_processes", lambda: 5)
    monkeypatch.setattr("softiou.training.workers.Loader", loader)
    opening.loaded(open_dataset("digits", "val"), progress_of(False), description="")
    assert started == [expected]
