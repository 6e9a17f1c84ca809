"""The inputs of ../shared/cases, which people met elsewhere: `check` and training agree."""

import os
import shutil
import subprocess
import sys
from pathlib import Path
from unittest.mock import Mock

import numpy as np
import pytest
import torch

from softiou.checking import check_dataset
from softiou.data import DatasetDescription, open_dataset, read_image
from softiou.data.reading import opened
from softiou.errors import DataError
from softiou.inference import MaskWriter, Predictor

CASES = Path(__file__).resolve().parents[2].parent / "shared" / "cases"

EXPECTED: dict[str, set[str]] = {
    "01-images-without-mask/data": {"unmatched"},
    "02-masks-not-png/data_gif": {"unmatched", "mask_format"},
    "02-masks-not-png/data_tif": set(),
    "02-masks-not-png/data_bmp": set(),
    "02-masks-not-png/data_jpg": {"unmatched", "mask_format"},
    "03-missing-annotator/data": set(),
    "07-rgb-12-bit-black/data": {"image_16_bit"},
    "07-rgb-12-bit-black/data2": {"image_16_bit"},
    "08-names-not-utf8/data": set(),
    "10-long-names/data": set(),
    "11-huge-scene/data": set(),
    "13-multipage-tiff/data": {"image_mode"},
    "14-masks-of-2-and-4-bits/data": set(),
    "14-masks-of-2-and-4-bits/data2": set(),
    "17-bmp-jfif/data": set(),
    "18-float-rgb-tiff/data": {"image_mode"},
    "19-more-than-3-bands/data": {"image_mode"},
    "20-partly-in-subfolders/data": {"layout"},
    "21-val-all-ignored/data": set(),
    "23-palettes-differ/data": {"mask_palette"},
    "25-pt2-small-images/data": set(),  # and tests/exporting/test_running.py
    "28-readme-onnx/data": set(),  # and tests/exporting/test_running.py
    "27-one-folder-per-split/data": set(),
}


@pytest.fixture(scope="session")
def cases(tmp_path_factory: pytest.TempPathFactory) -> Path:
    if not CASES.is_dir():
        pytest.skip("the cases are not at ../shared/cases")
    root = tmp_path_factory.mktemp("cases")
    for name in {name.partition("/")[0] for name in EXPECTED} | {"26-cvat-export"}:
        (root / name).mkdir()
        shutil.copyfile(CASES / name / "make.py", root / name / "make.py")
    shutil.copyfile(CASES / "lib.py", root / "lib.py")
    code = "import os, runpy, sys\nfor f in sys.argv[1:]:\n os.chdir(f); runpy.run_path('make.py')"
    folders = sorted(path for path in root.iterdir() if path.is_dir())
    environment = {**os.environ, "PYTHONPATH": str(root)}
    subprocess.run([sys.executable, "-c", code, *folders], check=True, env=environment)
    return root


@pytest.mark.parametrize("name", EXPECTED)
def test_check_and_reading_agree(name: str, cases: Path) -> None:
    report = check_dataset(cases / name)
    assert {problem.kind for problem in report.errors} == EXPECTED[name]
    if not report.errors:
        assert len(list(open_dataset(cases / name, "train"))) == report.splits["train"].images > 0
        return
    with pytest.raises(DataError):
        list(open_dataset(cases / name, "train"))


def test_an_annotator_who_left_images_out_ignores_them(cases: Path) -> None:
    report = check_dataset(cases / "03-missing-annotator" / "data")
    (note,) = [problem for problem in report.problems if problem.kind == "left_out"]
    assert (note.severity, "2 (train_001, train_004)" in note.message) == ("note", True)
    dataset = open_dataset(cases / "03-missing-annotator" / "data", "train")
    assert dataset.annotators == 3
    votes = {sample["stem"]: sample["target"] for sample in dataset}
    assert {tuple(one.shape) for one in votes.values()} == {(3, 64, 64)}
    assert (votes["train_001"][2] == 255).all()
    assert not (votes["train_001"][:2] == 255).any()
    assert not (votes["train_000"] == 255).any()


def test_numbers_of_few_bits_are_those_of_the_file(cases: Path) -> None:
    for name in ("data", "data2"):
        dataset = open_dataset(cases / "14-masks-of-2-and-4-bits" / name, "train")
        assert set(np.unique(dataset[0]["target"])) == {0, 1, 2}


def test_bmp_gif_and_jfif_are_found(cases: Path) -> None:
    from softiou.inference import find_images

    found = find_images(cases / "17-bmp-jfif" / "other")
    assert [path.name for path in found] == ["a.png", "b.bmp", "c.jfif", "d.gif"]
    assert read_image(found[2]).shape == (3, 64, 64)


def test_the_export_of_cvat_has_its_own_classes(cases: Path) -> None:
    report = check_dataset(cases / "26-cvat-export" / "data")
    assert report.errors == ()
    (split,) = report.splits
    dataset = open_dataset(cases / "26-cvat-export" / "data", split)
    assert dataset.description.classes == ("background", "cat", "dog")
    assert len(dataset) == 6


def test_a_huge_scene_needs_windows_and_nothing_else(cases: Path, tmp_path: Path) -> None:
    scene = cases / "11-huge-scene" / "other" / "scene.png"
    with opened(scene) as image:  # beyond the limit of Pillow
        assert image.size == (13_500, 13_500)
    predictor, description = Mock(spec=Predictor), DatasetDescription(("ground", "box"))
    pixels = torch.zeros(1, dtype=torch.uint8).expand(3, 13_500, 13_500)
    writer = MaskWriter(predictor, description, tmp_path)
    with pytest.raises(DataError, match=r"scene\.png has 13500 x 13500 pixels.* --window 1024"):
        writer.write(scene, pixels)
