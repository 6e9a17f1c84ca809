"""Huge images: what is computed window by window is what is computed from the whole image."""

import pickle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

import softiou
from band_files import write_dataset
from softiou.calibration import Calibration, Change, pixels
from softiou.data import Bands, FolderDataset, base, folder
from softiou.data.bands import BandImage
from softiou.data.base import EvaluatedSamples, whole
from softiou.data.folder import stored_target
from softiou.evaluation import EvaluationResult, evaluate, scoring
from softiou.inference import InferenceSettings
from softiou.metrics import boundary
from softiou.models import ModelSpec, SegmentationModel
from softiou.recipes.validation import ValidationScores
from softiou.temperature import LogitScaling

BANDS = Bands((4, 1), ((50.0, 200.0), (50.0, 150.0)))
WINDOWS = InferenceSettings(window_px=(32, 48))
SCALINGS = {
    "none": None,
    "temperature": LogitScaling("temperature", scale=(0.5,)),
    "vector": LogitScaling("vector", (0.5, 2.0), (0.3, -0.3)),
}


@pytest.fixture(scope="module")
def scenes(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_dataset(tmp_path_factory.mktemp("scenes"), bands=4, dtype="uint16")


@pytest.fixture
def model() -> SegmentationModel:
    torch.manual_seed(3)
    spec = ModelSpec("linknet", "tu-test_efficientnet", 2, bands=BANDS)
    return SegmentationModel(spec).eval()


@pytest.fixture
def huge(monkeypatch: pytest.MonkeyPatch) -> None:
    """Images of more than 2000 pixels are huge, and read in strips that do not divide them."""
    monkeypatch.setattr(base, "HUGE_PX", 2000)
    for module in (scoring, boundary, folder):
        monkeypatch.setattr(module, "_ROWS", 20)


def scored(
    model: SegmentationModel, scenes: Path, scaling: LogitScaling | None, *, samples: Any = None
) -> EvaluationResult:
    change = Change(1.0, 0.5)
    fitted = None
    if scaling is not None:
        fitted = Calibration(scaling, "x", "val", "hard", 1, 1, 0, change, change)
    dataset = FolderDataset(scenes, "val", bands=BANDS)
    given = EvaluatedSamples(dataset)
    return evaluate(
        model,
        dataset,
        precision="fp32",
        data="scenes",
        checkpoint="best",
        inference=WINDOWS,
        calibration=fitted,
        samples=(given[n] for n in range(len(dataset))) if samples else None,
    )


@pytest.mark.parametrize("scaling", SCALINGS)
def test_an_evaluation_in_windows_is_that_of_whole_images(
    scaling: str, model: SegmentationModel, scenes: Path, request: pytest.FixtureRequest
) -> None:
    before = scored(model, scenes, SCALINGS[scaling])
    request.getfixturevalue("huge")
    dataset = FolderDataset(scenes, "val", bands=BANDS)
    assert isinstance(EvaluatedSamples(dataset)[0]["image"], BandImage)
    after = scored(model, scenes, SCALINGS[scaling], samples=True)
    assert after.statistics.tensors().keys() == before.statistics.tensors().keys()
    for name, tensor in after.statistics.tensors().items():
        torch.testing.assert_close(tensor, before.statistics.tensors()[name], rtol=1e-9, atol=1e-9)
    ours, theirs = after.content, before.content
    assert ours.keys() == theirs.keys()
    for key in ("confusion", "examples", "num_images", "inference"):
        assert ours[key] == theirs[key]
    for key in ("metrics", "calibrated"):
        assert_close(ours[key], theirs[key])
    for one, other in zip(ours["images"], theirs["images"], strict=True):
        for key in ("stem", "truth", "size", "suspects", "counts", "boundary_counts"):
            assert one[key] == other[key]
    for one, other in zip(after.best, before.best, strict=True):
        assert torch.equal(one.preds.long(), other.preds.long())
        assert torch.equal(one.target, other.target)
    for stem, files in before.thumbnails.items():
        assert after.thumbnails[stem]["preds.png"] == files["preds.png"]


def assert_close(one: Any, other: Any) -> None:
    if isinstance(one, dict):
        for key in one:
            assert_close(one[key], other[key])
    elif isinstance(one, list):
        for pair in zip(one, other, strict=True):
            assert_close(*pair)
    else:
        assert one == (pytest.approx(other, rel=1e-6) if isinstance(other, float) else other)


def test_pictures_of_huge_images_are_smaller(
    model: SegmentationModel, scenes: Path, huge: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    full = scored(model, scenes, None, samples=True)
    monkeypatch.setattr(scoring, "FULL_PX", 30)  # of 88, so one pixel in three
    found = scored(model, scenes, None, samples=True)
    for one, other in zip(found.best, full.best, strict=True):
        assert one.image.shape == (3, 24, 30)
        assert torch.equal(one.preds, other.preds[::3, ::3])
        assert torch.equal(one.target, other.target[::3, ::3])
    assert found.metrics == pytest.approx(full.metrics, nan_ok=True)


def test_samples_of_huge_images_go_to_other_processes(scenes: Path, huge: None) -> None:
    dataset = FolderDataset(scenes, "val", bands=BANDS)
    sample = pickle.loads(pickle.dumps(EvaluatedSamples(dataset)[1]))
    expected = whole(dataset.compact(1))
    assert torch.equal(stored_target(sample).long(), expected["target"])
    np.testing.assert_array_equal(sample["image"][:, 5:9, 3:20], expected["image"][:, 5:9, 3:20])
    assert len(sample["target"].dataset) == 1


def test_validation_in_windows(
    model: SegmentationModel, scenes: Path, huge: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    from softiou.inference import ModelPredictor, image_probs, probability_bands

    dataset = FolderDataset(scenes, "val", bands=BANDS)
    predictor = ModelPredictor(model, "fp32")
    several, one = (ValidationScores(dataset.description) for _ in range(2))
    for sample in dataset:
        probs = image_probs(predictor, sample["image"], settings=WINDOWS)
        one.add(one.gather(probs, sample["target"]))
        parts = [
            several.gather(probs, sample["target"][rows])
            for rows, probs in probability_bands(predictor, sample["image"], settings=WINDOWS)
        ]
        assert len(parts) > 1
        total = parts[0]
        for part in parts[1:]:
            total = total.plus(part)
        several.add(total)
    torch.testing.assert_close(several.compute(), one.compute(), equal_nan=True)


def test_only_windows_are_read_by_evaluate_calibrate_and_train(
    scenes: Path, tiny: tuple[str, ...], huge: None, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    from softiou.data import bands
    from softiou.data.bands import Tiff
    from softiou.inference import settings

    read, window = [], Tiff.read

    def watched(self: Tiff, *place: Any) -> NDArray[Any]:
        values = window(self, *place)
        read.append(values.shape[-2:] if self.path.parent.name == "images" else (0, 0))
        return values

    monkeypatch.setattr(Tiff, "read", watched)
    monkeypatch.setattr(settings, "_WINDOW_PX", (32, 32))
    monkeypatch.setattr(pixels, "_SIDE_PX", 32)
    monkeypatch.setattr(bands, "_SIDE_PX", 16)  # squares that the ranges are measured from
    run = softiou.train(
        str(scenes),
        overrides=[*tiny, "optim.validations=1", "data.bands=[4, 1]"],
        steps=2,
        out=tmp_path / "run",
        progress=False,
    )
    found = run.evaluate(split="val", progress=False)
    assert found.content["num_images"] == 2
    softiou.calibrate(run, split="val", progress=False)
    assert max(rows for rows, _ in read) <= 33  # never an image as a whole
