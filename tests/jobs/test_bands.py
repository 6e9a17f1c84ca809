"""Images of any number of bands, from training to exported files."""

import json
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import torch
from numpy.typing import NDArray
from PIL import Image
from rasterio.warp import transform_geom
from safetensors.torch import save_file
from typer.testing import CliRunner

import softiou
from band_files import PLACE, band_values, write_bands, write_dataset
from marks import slow
from softiou import checkpoints
from softiou.cli import app
from softiou.configuration import load_config
from softiou.data import Bands, DatasetDescription, read_image
from softiou.data.bands import Tiff
from softiou.errors import CheckpointError, ConfigError, DataError
from softiou.inference import encode_image, overlay, writing
from softiou.inference.writing import polygons
from softiou.jobs import plan
from softiou.models import ModelSpec, SegmentationModel

TINY: dict[str, Any] = {
    "model.architecture": "linknet",
    "model.encoder": "tu-test_efficientnet",
    "model.encoder_weights": "none",
    "data.crop_px": [64, 64],
    "data.batch_size": 2,
    "data.workers": 0,
    "optim.steps": 2,
    "optim.validations": 1,
    "loggers": [],
}


@pytest.fixture(scope="module")
def four(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, Path]:
    """Return a data set of four 16-bit bands, and a run on three of them."""
    folder = tmp_path_factory.mktemp("four")
    data = write_dataset(folder / "data", bands=4, dtype="uint16")
    softiou.train(data, out=folder / "run", progress=False, **{**TINY, "data.bands": [4, 3, 1, 2]})
    return data, folder / "run"


@pytest.mark.parametrize(
    ("bands", "dtype", "chosen"),
    [(1, "uint8", [1]), (2, "float32", [2, 1]), (8, "uint16", [8, 7, 6, 5, 4, 3, 2, 1])],
)
def test_any_bands_take_a_step(tmp_path: Path, bands: int, dtype: str, chosen: list[int]) -> None:
    data = write_dataset(tmp_path / "data", bands=bands, dtype=dtype)
    planned = plan(data, step=True, progress=False, **{**TINY, "data.bands": chosen})
    assert planned.cost is not None
    assert planned.cost.step_seconds is not None
    ranges = planned.config.data.band_ranges
    assert ranges is not None
    for number, (low, high) in zip(chosen, ranges, strict=True):
        assert (low + high) / 2 == pytest.approx(100, abs=16 if number == bands else 2)
        assert high - low == pytest.approx(20, abs=3) or number == bands


def test_a_run_is_scored_and_resumed_with_its_ranges(four: tuple[Path, Path]) -> None:
    _, run = four
    trained = checkpoints.load_trained(run)
    config = load_config(file=run / "config.yaml").data
    assert config.band_ranges is not None
    assert trained.bands == Bands((4, 3, 1, 2), tuple(config.band_ranges))
    again = plan(config=run / "config.yaml", progress=False)
    assert again.config.data.band_ranges == config.band_ranges
    written = json.loads((run / "evaluation.json").read_text())
    assert written["num_images"] == 2
    assert written["metrics"]["miou_d"] > 0


def test_masks_keep_the_georeference_and_ignore_what_has_no_value(
    four: tuple[Path, Path], tmp_path: Path
) -> None:
    data, run = four
    found = softiou.predict(run, data / "val" / "images", progress=False)
    assert found.save(tmp_path, overlays=True).failed == ()
    with rasterio.open(tmp_path / "0.tif") as file:
        assert file.crs.to_string() == PLACE["crs"]
        assert file.transform == PLACE["transform"]
        assert file.nodata == 255
        assert file.tags(ns="IMAGE_STRUCTURE")["LAYOUT"] == "COG"
        mask = file.read(1)
    assert (mask[:4, :6] == 255).all()
    assert (mask == 255).sum() == 24
    with Image.open(tmp_path / "0.png") as picture:
        assert np.array_equal(np.asarray(picture), mask)
    inside = torch.from_numpy(mask != 255)
    assert found[0].labels[inside].equal(torch.from_numpy(mask).long()[inside])
    with Image.open(tmp_path / "0.overlay.jpg") as overlay:
        assert overlay.size == (88, 72)


def test_polygons_have_the_areas_of_the_mask_in_longitude_and_latitude(
    four: tuple[Path, Path], tmp_path: Path
) -> None:
    data, run = four
    found = softiou.predict(run, data / "val" / "images" / "0.tif", progress=False)
    found.save(tmp_path, polygons=True)
    content = json.loads((tmp_path / "0.geojson").read_text(encoding="utf-8"))
    with rasterio.open(tmp_path / "0.tif") as file:
        mask, metres = file.read(1), abs(file.transform.a * file.transform.e)
        crs = file.crs
    areas = dict.fromkeys(range(found.description.num_classes), 0.0)
    for feature in content["features"]:
        number = feature["properties"]["class_index"]
        assert feature["properties"]["class"] == found.description.classes[number]
        outline = feature["geometry"]
        assert all(-180 <= x <= 180 and -90 <= y <= 90 for x, y in outline["coordinates"][0])
        rings = transform_geom("EPSG:4326", crs, outline)["coordinates"]
        areas[number] += abs(area(rings[0])) - sum(abs(area(ring)) for ring in rings[1:])
    for number, size in areas.items():
        assert size == pytest.approx(metres * (mask == number).sum(), rel=1e-3, abs=1)


def area(ring: list[tuple[float, float]]) -> float:
    """Return the signed area of a closed ring."""
    pairs = pairwise(ring)
    return sum(x * next_y - next_x * y for (x, y), (next_x, next_y) in pairs) / 2


def test_polygons_of_an_image_without_a_place_are_in_pixels() -> None:
    mask = np.array([[0, 0, 1], [0, 255, 1]], np.uint8)
    content = polygons(mask, DatasetDescription(("ground", "roof")), {})
    ground, roof = sorted(content["features"], key=lambda one: one["properties"]["class_index"])
    assert roof["properties"] == {"class": "roof", "class_index": 1}
    outline = map(tuple, roof["geometry"]["coordinates"][0][:-1])
    assert sorted(outline) == [(2, 0), (2, 2), (3, 0), (3, 2)]
    assert abs(area(ground["geometry"]["coordinates"][0])) == 3


def test_polygons_without_rasterio_say_what_to_install(
    four: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _, run = four
    found = softiou.predict(run, torch.zeros(4, 64, 64), progress=False)
    monkeypatch.setattr(writing, "find_spec", lambda name: None)
    with pytest.raises(ConfigError, match="pip install rasterio"):
        found.save(tmp_path / "out", polygons=True)
    assert not (tmp_path / "out").exists()


def test_windows_agree_with_the_whole_image_and_arrays_with_files(four: tuple[Path, Path]) -> None:
    data, run = four
    path = data / "val" / "images" / "1.tif"
    whole = softiou.predict(run, path, progress=False)[0].probs
    windows = softiou.predict(run, path, window=(72, 88), progress=False)[0].probs
    torch.testing.assert_close(whole, windows, atol=1e-5, rtol=0)
    with rasterio.open(path) as file:
        stored = file.read([4, 3, 1, 2]).astype(np.float32)
    stored[:, (stored == 0).all(0)] = np.nan
    for image in (torch.from_numpy(stored), np.moveaxis(stored, 0, -1)):
        probs = softiou.predict(run, image, progress=False)[0].probs
        torch.testing.assert_close(probs, whole, atol=1e-5, rtol=0)
    with pytest.raises(ValueError, match=r"\(4, H, W\)"):
        softiou.predict(run, torch.zeros(3, 8, 8), progress=False)


def test_prediction_reads_each_row_of_windows_once(
    four: tuple[Path, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    data, run = four
    path = data / "val" / "images" / "1.tif"
    opened, read = [], []
    start, window = Tiff.__init__, Tiff.read

    def open_tiff(self: Tiff, file: Path, driver: str = "GTiff") -> None:
        opened.append(file)
        start(self, file, driver)

    def read_window(self: Tiff, *place: Any) -> NDArray[Any]:
        values = window(self, *place)
        read.append(values.shape)
        return values

    monkeypatch.setattr(Tiff, "__init__", open_tiff)
    monkeypatch.setattr(Tiff, "read", read_window)
    found = softiou.predict(run, path, window=(32, 88), overlap=0, progress=False)
    found.save(tmp_path, overlays=True)
    assert read == [(4, 32, 88)] * 3
    assert len(opened) == 3  # before the work, for the pixels, and for the place of the mask
    with rasterio.open(tmp_path / "1.tif") as file:
        mask = torch.from_numpy(file.read(1))
    bands, palette = checkpoints.load_trained(run).bands, found.description.palette
    picture = encode_image(overlay(read_image(path, bands), mask, palette), "JPEG")
    assert (tmp_path / "1.overlay.jpg").read_bytes() == picture


@pytest.mark.parametrize("to", ["safetensors", *slow("onnx", "torch-export")])
def test_exported_files_take_the_values_of_the_files(
    four: tuple[Path, Path], tmp_path: Path, to: Any
) -> None:
    data, run = four
    suffix = {"onnx": "onnx", "torch-export": "pt2"}.get(to, to)
    written = softiou.export(
        run, to, out=tmp_path / f"model.{suffix}", calibrated=False, progress=False
    )
    assert written.info.bands == checkpoints.load_trained(run).bands
    assert written.info.input_dtype == "float32"
    image = data / "val" / "images" / "0.tif"
    own = softiou.predict(run, image, calibrated=False, progress=False)[0].probs
    exported = softiou.predict(written.path, image, trust=True, progress=False)[0].probs
    torch.testing.assert_close(exported, own, atol=1e-4, rtol=0)
    if to == "onnx":
        import onnxruntime

        with rasterio.open(image) as file:
            stored = file.read([4, 3, 1, 2]).astype(np.float32)[None, :, 8:, 8:]
        session = onnxruntime.InferenceSession(written.path)
        probs = session.run(None, {"images": stored})[0]
        scaled = checkpoints.load_trained(run).bands
        assert scaled is not None
        model = checkpoints.load_trained(run).model
        with torch.inference_mode():
            expected = model.predict_logits(scaled.scaled(torch.from_numpy(stored))).softmax(1)
        torch.testing.assert_close(torch.from_numpy(probs), expected, atol=1e-4, rtol=0)


def test_images_without_masks_have_bands_too(four: tuple[Path, Path], tmp_path: Path) -> None:
    data, _ = four
    for number in range(2):
        values = band_values(4, "uint16", size=(72, 88))
        write_bands(tmp_path / "more" / f"{number}.tif", values + number)
    settings = {**TINY, "data.bands": [4, 3], "unlabeled": tmp_path / "more"}
    planned = plan(data, verb="semi", step=True, progress=False, **settings)
    assert planned.cost is not None
    assert planned.cost.step_seconds is not None


def test_a_teacher_sees_the_same_bands(four: tuple[Path, Path], tmp_path: Path) -> None:
    data, run = four
    ranges = load_config(file=run / "config.yaml").data.band_ranges
    settings = {**TINY, "data.bands": [4, 3, 1, 2], "teacher": str(run)}
    same = {**settings, "data.band_ranges": ranges}
    planned = plan(data, verb="distill", step=True, progress=False, **same)
    assert planned.cost is not None
    assert planned.cost.step_seconds is not None
    other = {**settings, "data.bands": [1, 2, 3, 4]}
    with pytest.raises(CheckpointError, match=r"data\.band_ranges to the teacher"):
        plan(data, verb="distill", progress=False, **other)
    store = softiou.label(
        data, teacher=run, out=tmp_path / "store", progress=False, stride=8, workers=0
    )
    assert store.manifest.normalisation.order == "bands 4, 3, 1, 2"


def test_check_looks_at_bands(four: tuple[Path, Path]) -> None:
    data, _ = four
    assert "data.bands=[1, 2, 3, 4]" in softiou.check(data, progress=False).problems[0].remedy
    report = softiou.check(data, bands=[4, 1], progress=False)
    assert report.errors == ()
    assert {problem.kind for problem in report.problems} == {"no_value"}
    for text in ("4,1", "[4, 1]"):
        asked = CliRunner().invoke(app, ["check", str(data), "--bands", text, "--json"])
        assert json.loads(asked.stdout)["counts"] == {"errors": 0, "warnings": 0, "notes": 6}
    refused = CliRunner().invoke(app, ["check", str(data), "--bands", "4,x"])
    assert "data.bands: expected a whole number, but got 'x'" in str(refused.exception)
    wrong = softiou.check(data, bands=[7], progress=False)
    assert "Expected a band 7, but the file has bands 1 to 4" in wrong.problems[0].message


def test_what_cannot_have_bands_says_so(four: tuple[Path, Path]) -> None:
    data, _ = four
    with pytest.raises(DataError, match="The digits are RGB"):
        plan("digits", overrides=["data.bands=[1]"], progress=False)
    transformers = {**TINY, "data.bands": [1, 2], "model.architecture": "transformers"}
    with pytest.raises(ConfigError, match="three bands, but got 2"):
        plan(data, progress=False, **transformers)
    with pytest.raises(DataError, match=r"data\.bands=\[1, 2, 3, 4\]"):
        plan(data, progress=False, **{**TINY, "data.crop_px": "auto"})


@pytest.mark.parametrize("bands", [1, 2, 4])
def test_encoder_weights_of_rgb_are_adapted(tmp_path: Path, bands: int) -> None:
    spec = ModelSpec("fpn", "mobilenet_v2", 2)
    rgb = SegmentationModel(spec).net.encoder.state_dict()
    save_file({name: w.contiguous() for name, w in rgb.items()}, tmp_path / "rgb.safetensors")
    ranges = ((0.0, 1.0),) * bands
    spec = ModelSpec("fpn", "mobilenet_v2", 2, bands=Bands(tuple(range(1, bands + 1)), ranges))
    model = SegmentationModel(spec, encoder_weights=str(tmp_path / "rgb.safetensors"))
    first = next(iter(rgb))
    own, kernel = model.net.encoder.state_dict()[first], rgb[first]
    expected = kernel.sum(1, keepdim=True) if bands == 1 else kernel[:, [0, 1, 2, 0]][:, :bands]
    torch.testing.assert_close(own, expected if bands == 1 else expected * 3 / bands)
    assert model.mean.flatten().tolist() == [0.5] * bands
    missing = torch.full((1, bands, 64, 64), torch.nan)
    assert model(missing).equal(model(torch.full_like(missing, 0.5)))
