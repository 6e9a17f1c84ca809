"""Large scenes: what is written is what a training opens, and every figure is there."""

from pathlib import Path

import pytest
import rasterio

from benchmarks import scenes


@pytest.mark.parametrize("png", [False, True])
def test_a_scene_is_opened_and_cropped(tmp_path: Path, png: bool) -> None:
    scenes.write_scene(tmp_path, 600, scenes.TILES[256], png=png)
    with rasterio.open(tmp_path / "train" / "images" / "scene.tif") as file:
        assert (file.count, file.shape, file.dtypes[0]) == (4, (600, 600), "uint16")
        assert file.block_shapes[0] == (256, 256)
        assert file.crs.to_string() == scenes.PLACE["crs"]
    assert (tmp_path / "train" / "masks" / f"scene{'.png' if png else '.tif'}").is_file()
    found = scenes.measure(tmp_path, 2)
    assert found["crops a second"] > 0
    assert found["peak, MiB"] >= found["imports, MiB"] > 0
    assert scenes.checked(tmp_path)["softiou check, s"] >= 0
