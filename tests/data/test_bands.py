"""Bands of image files: numbers, types, missing values, windows, ranges and what goes wrong."""

import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image

from band_files import NODATA, band_values, write_bands
from small_data import Make, write_png
from softiou.configuration import load_config
from softiou.data import Augmentation, Bands, FolderDataset, StrongColours, View, read_image
from softiou.data.bands import BandImage, measured
from softiou.data.transforms import brighter
from softiou.data.views import View as OneView
from softiou.errors import ConfigError, DataError


@pytest.mark.parametrize("dtype", ["uint8", "uint16", "int16", "float32"])
@pytest.mark.parametrize("bands", [1, 2, 4, 8])
def test_bands_are_chosen_by_number_in_order(tmp_path: Path, bands: int, dtype: str) -> None:
    stored = band_values(bands, dtype)
    path = write_bands(tmp_path / "a.tif", stored)
    numbers = tuple(range(bands, 0, -1))
    found = read_image(path, Bands(numbers))
    assert found.dtype == torch.float32
    assert found.tolist() == stored[::-1].astype(np.float32).tolist()
    assert read_image(path, Bands((bands,)))[0].tolist() == stored[-1].astype(float).tolist()


@pytest.mark.parametrize(
    "how",
    [
        {"photometric": "minisblack", "planarconfig": "separate"},
        {"photometric": "minisblack", "planarconfig": "separate", "tile": (32, 16)},
        {"photometric": "rgb", "planarconfig": "separate", "compression": "zlib"},
        {"photometric": "minisblack", "rowsperstrip": 5},  # four pages
    ],
    ids=["planes", "tiles", "compressed", "pages"],
)
def test_files_of_another_writer(tmp_path: Path, how: dict[str, Any]) -> None:
    stored = band_values(4, "uint16", size=(40, 56))
    path = tmp_path / "a.tif"
    tifffile.imwrite(path, stored, **how)
    assert read_image(path, Bands((4, 2, 1))).tolist() == stored[[3, 1, 0]].tolist()


def test_a_window_is_read_as_it_lies_in_the_whole(tmp_path: Path) -> None:
    path = write_bands(tmp_path / "a.tif", band_values(3, "uint16", size=(50, 70)), tiled=True)
    image = BandImage(path, Bands((3, 1)))
    whole = image[:, :]
    assert image.shape == (2, 50, 70)
    assert image[..., 7:31, 20:66].equal(whole[:, 7:31, 20:66])
    assert image[:, 45:99].equal(whole[:, 45:])


def test_nan_infinity_and_nodata_are_missing(tmp_path: Path) -> None:
    stored = band_values(2, "float32")
    stored[0, 0, 0], stored[1, 1, 2], stored[1, 2, 2] = np.nan, NODATA, np.inf
    found = read_image(write_bands(tmp_path / "a.tif", stored, nodata=NODATA), Bands((1, 2)))
    assert found.isnan().nonzero().tolist() == [[0, 0, 0], [1, 1, 2], [1, 2, 2]]


def test_integers_have_nodata_too(tmp_path: Path) -> None:
    stored = band_values(2, "uint16") + 1
    stored[1, 0, 3] = 0
    found = read_image(write_bands(tmp_path / "a.tif", stored, nodata=0), Bands((1, 2)))
    assert found.isnan().nonzero().tolist() == [[1, 0, 3]]


def test_a_range_becomes_0_to_1() -> None:
    bands = Bands((2, 1), ((100.0, 300.0), (-1.0, 1.0)))
    stored = torch.tensor([[[100.0, 400.0]], [[0.0, torch.nan]]])
    scaled = bands.scaled(stored)
    torch.testing.assert_close(
        scaled, torch.tensor([[[0.0, 1.5]], [[0.5, torch.nan]]]), equal_nan=True
    )
    torch.testing.assert_close(bands.stored(scaled), stored, equal_nan=True)


@pytest.mark.filterwarnings("ignore::rasterio.errors.NotGeoreferencedWarning")
def test_other_formats_have_bands_too(tmp_path: Path) -> None:
    rgba = np.random.default_rng(0).integers(0, 255, (4, 5, 4), np.uint8)
    write_png(tmp_path / "a.png", rgba)
    assert read_image(tmp_path / "a.png", Bands((4, 2))).tolist() == (
        np.moveaxis(rgba[..., [3, 1]], -1, 0).tolist()
    )
    deep = np.arange(20, dtype=np.uint16).reshape(4, 5) * 3000
    Image.fromarray(deep).save(tmp_path / "b.png")
    assert read_image(tmp_path / "b.png", Bands((1,)))[0].tolist() == deep.tolist()
    colours = np.stack([deep, deep + 1, deep + 2])
    with rasterio.open(tmp_path / "c.png", "w", driver="PNG", count=3, height=4, width=5,
                       dtype="uint16") as file:  # fmt: skip
        file.write(colours)
    assert read_image(tmp_path / "c.png", Bands((3, 1))).tolist() == colours[[2, 0]].tolist()


def test_a_band_that_is_not_there_is_named_with_the_file(tmp_path: Path) -> None:
    path = write_bands(tmp_path / "a.tif", band_values(4, "uint16"))
    with pytest.raises(
        DataError, match=r"a\.tif: Expected a band 5, but the file has bands 1 to 4"
    ):
        read_image(path, Bands((4, 5)))


def test_a_type_without_a_rule_is_named(tmp_path: Path) -> None:
    path = write_bands(tmp_path / "a.tif", band_values(2, "float64"))
    with pytest.raises(DataError, match=r"but found float64, \(5, 7\)\. Convert the bands"):
        read_image(path, Bands((1,)))


def test_a_damaged_file_is_named(tmp_path: Path) -> None:
    path = write_bands(tmp_path / "a.tif", band_values(2, "uint16", size=(64, 64)))
    path.write_bytes(path.read_bytes()[:3000])
    with pytest.raises(DataError, match=r"a\.tif: Cannot decode the image"):
        read_image(path, Bands((1,)))


def test_without_rasterio_the_error_says_how_to_install_it(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write_bands(tmp_path / "a.tif", band_values(2, "uint16"))
    monkeypatch.setitem(sys.modules, "rasterio", None)
    with pytest.raises(ConfigError, match=r"a\.tif needs rasterio\. Install it with: pip install"):
        read_image(path, Bands((1,)))


@pytest.mark.parametrize(
    ("stored", "setting"),
    [
        (band_values(4, "uint16"), r"data\.bands=\[1, 2, 3, 4\]"),
        (band_values(4, "uint8"), r"data\.bands=\[1, 2, 3, 4\]"),
        (band_values(2, "float32"), r"data\.bands=\[1, 2\]"),
        (band_values(1, "float32"), r"data\.bands=\[1\]"),
        (band_values(1, "uint16") % 4096, r"data\.bands=\[1\]"),
    ],
)
def test_without_the_setting_the_error_names_it(
    tmp_path: Path, stored: NDArray[Any], setting: str
) -> None:
    with pytest.raises(DataError, match=setting):
        read_image(write_bands(tmp_path / "a.tif", stored, photometric="minisblack"))


def test_ranges_are_two_deviations_around_the_mean_without_outliers(tmp_path: Path) -> None:
    values = np.random.default_rng(1).normal(1000, 50, (2, 256, 256)).astype(np.float32)
    values[1] = 7  # a constant band
    values[0, 0, 0], values[0, 4, 4] = 1e9, np.nan  # 1 of 4096 values
    bands = measured([write_bands(tmp_path / "a.tif", values)], Bands((1, 2)))
    (low, high), constant = bands.ranges
    assert low == pytest.approx(900, abs=6)
    assert high == pytest.approx(1100, abs=6)
    assert constant == (6.0, 8.0)


def test_a_band_without_a_value_cannot_be_measured(tmp_path: Path) -> None:
    path = write_bands(tmp_path / "a.tif", np.full((1, 8, 8), np.nan, np.float32))
    with pytest.raises(DataError, match="Expected values in band 1, but all are missing"):
        measured([path], Bands((1,)))


def dataset_of_bands(make: Make, stored: NDArray[Any], mask: Any) -> Path:
    root = make({"train/masks": {"a": mask}})
    (root / "train/images/a.png").unlink()
    write_bands(root / "train/images/a.tif", stored)
    return root


def test_pixels_without_a_value_are_ignored(make_dataset: Make) -> None:
    stored = band_values(2, "float32", size=(2, 3))
    stored[1, 0, 2] = np.nan
    root = dataset_of_bands(make_dataset, stored, [[0, 1, 1], [1, 0, 0]])
    sample = FolderDataset(root, "train", bands=Bands((1, 2)))[0]
    assert sample["target"].tolist() == [[0, 1, 255], [1, 0, 0]]
    assert sample["image"].isnan().sum() == 1


def test_a_crop_ignores_pixels_without_a_value(make_dataset: Make) -> None:
    stored = band_values(2, "float32", size=(6, 6))
    stored[:, :3] = np.nan
    root = dataset_of_bands(make_dataset, stored, np.ones((6, 6)))
    sample = FolderDataset(root, "train", bands=Bands((1, 2)))[0]
    crop = Augmentation((6, 6), scale=(1, 1), flip=0, bands=True)(sample)
    assert (crop["target"] == 255).tolist() == (torch.arange(6) < 3)[:, None].expand(6, 6).tolist()
    assert crop["inside"].equal(crop["target"] != 255)


def test_brightness_and_contrast_of_any_number_of_bands() -> None:
    image = torch.rand(5, 8, 8)
    image[0, 0, 0] = torch.nan
    assert brighter(image, 0.0)[1:].equal(image[1:])
    torch.manual_seed(0)
    changed = brighter(image, 0.5)
    torch.manual_seed(0)
    brightness, contrast = torch.empty(2).uniform_(0.5, 1.5)
    mean = image.nanmean()
    torch.testing.assert_close(
        changed, brightness * (mean + contrast * (image - mean)), equal_nan=True
    )
    assert StrongColours(0.5, 0.2, 1.0, bands=True)(torch.rand(4, 16, 16)).shape == (4, 16, 16)


def test_a_view_reads_a_window_of_a_file_only(tmp_path: Path) -> None:
    path = write_bands(tmp_path / "a.tif", band_values(2, "uint16", size=(40, 40)))
    view = OneView(5, 6, 16, 16, (16, 16))
    image = BandImage(path, Bands((2, 1)))
    assert View is OneView
    assert view.image(image[:, :]).equal(image[:, 5:21, 6:22])


def test_the_setting_takes_numbers_in_several_forms(tmp_path: Path) -> None:
    def bands(*lines: str) -> list[int] | None:
        return load_config(source="x", overrides=list(lines)).data.bands

    assert bands("data.bands=[4, 3, 2]") == bands("data.bands=4,3,2") == [4, 3, 2]
    assert bands("data.bands=1") == [1]
    assert bands() is None
    for wrong in ("data.bands=[0]", "data.bands=[]", "data.bands=nir"):
        with pytest.raises(ConfigError, match=r"data\.bands"):
            bands(wrong)
    with pytest.raises(ConfigError, match="3 ranges of 2 bands"):
        Bands((1, 2), ((0, 1),) * 3).of(Path("a.png"))
    with pytest.raises(ConfigError, match="1 ranges of 0 bands"):
        Bands((), ((0, 1),)).of(Path("a.png"))
    assert Bands((4, 2), ((0, 1),)).of(Path("a.png")) == Bands((4, 2), ((0, 1), (0, 1)))
    with pytest.raises(ConfigError, match="must differ"):
        bands("data.bands=[1]", "data.band_ranges=[[1, 1]]")
