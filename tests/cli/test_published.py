"""Published data sets from the command line: fetched, split, trained on and evaluated in place."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from layout_trees import TREES
from marks import slow
from softiou.fetching import Archive, fetch

Run = Callable[..., Any]  # see conftest.py
SHARED = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "layouts"
FOLDERS = {"cityscapes": "cityscapes", "voc": "VOCdevkit", "ade20k": "ADEChallengeData2016"}


@pytest.fixture
def short(tiny: tuple[str, ...]) -> tuple[str, ...]:
    return (*tiny, "optim.steps=2", "optim.validations=1")


@pytest.mark.parametrize("name", TREES)
def test_two_steps_on_every_layout(
    name: str, softiou: Run, short: tuple[str, ...], tmp_path: Path
) -> None:
    source = TREES[name](tmp_path / "data")
    before = sorted((tmp_path / "data").rglob("*"))
    assert softiou("train", source, *short).status == 0
    run = tmp_path / "runs" / f"{source.split(':')[0]}-001"
    evaluation = json.loads((run / "evaluation.json").read_text(encoding="utf-8"))
    assert evaluation["data"] == source
    assert evaluation["split"] == ("test" if name.startswith("camvid") else "val")
    assert sorted((tmp_path / "data").rglob("*")) == before  # read in place, nothing written


@pytest.mark.parametrize("name", ["voc", *slow(*(one for one in FOLDERS if one != "voc"))])
def test_two_steps_on_real_images(name: str, softiou: Run, short: tuple[str, ...]) -> None:
    if not SHARED.is_dir():
        pytest.skip("real data are not at ../shared/data")
    assert softiou("train", f"{name}:{SHARED / FOLDERS[name]}", *short).status == 0


def test_few_masks_of_a_published_layout(
    softiou: Run, short: tuple[str, ...], tmp_path: Path
) -> None:
    source = TREES["deepglobe"](tmp_path / "data")
    result = softiou("split", source, "--fractions", "2/5", "--out", tmp_path / "lists")
    assert result.out == f"{tmp_path / 'lists' / '2_5.txt'}: 2 images\n"
    assert not (tmp_path / "data" / "splits").exists()
    half = f"data.train_split={tmp_path / 'lists' / '2_5.txt'}"
    result = softiou("semi", source, half, *short, "semi_supervised.batch_size=2")
    assert result.status == 0, result.err
    assert "5 images to train on, 2 with masks" in result.out
    assert (tmp_path / "runs" / "deepglobe-001").is_dir()


def test_a_typing_error_in_a_layout(softiou: Run, tmp_path: Path) -> None:
    softiou("train", f"vocc:{tmp_path}").assert_refused("got 'vocc'. Did you mean voc?")
    softiou("train", f"voc:{tmp_path}").assert_refused("`softiou fetch voc` explains how to get it")


# Fetching


@pytest.mark.parametrize("name", ["cityscapes", "voc", "ade20k", "deepglobe", "camvid"])
def test_fetch_says_where_to_get_the_data(name: str, softiou: Run) -> None:
    result = softiou("fetch", name)
    assert result.status == 0
    assert "http" in result.out
    assert "Terms: " in result.out
    assert f"Then: softiou check {name}:FOLDER" in result.out


def test_fetch_does_not_pretend(softiou: Run, tmp_path: Path) -> None:
    result = softiou("fetch", "cityscapes", "--to", tmp_path)
    assert result.status == 1
    assert result.out.endswith("softiou can download only voc and ade20k; nothing was done.\n")
    softiou("fetch", "coco").assert_refused("Expected one of cityscapes, voc")


@pytest.mark.parametrize(
    "arguments", [("voc",), ("camvid",), ("camvid", "--to", "data"), ("ade20k", "--to", "data")]
)
def test_fetch_takes_sbd_where_it_is_downloaded(softiou: Run, arguments: tuple[str, ...]) -> None:
    said = f"but got `softiou fetch {' '.join(arguments)} --sbd`. Only voc"
    softiou("fetch", *arguments, "--sbd").assert_refused(
        said, "run `softiou fetch voc --to DIR --sbd`"
    )


def test_fetch_downloads(softiou: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    TREES["ade20k"](tmp_path / "served" / "ADEChallengeData2016")
    path = Path(shutil.make_archive(str(tmp_path / "ade"), "zip", tmp_path / "served"))
    archive = Archive(path.as_uri(), "a.zip", "md5", hashlib.md5(path.read_bytes()).hexdigest())
    monkeypatch.setitem(fetch.FETCHED, "ade20k", (archive, "ADEChallengeData2016"))
    result = softiou("fetch", "ade20k", "--to", tmp_path / "data")
    assert result.status == 0
    folder = tmp_path / "data" / "ADEChallengeData2016"
    assert result.out.endswith(f"Next: softiou check ade20k:{folder}\n")
    assert (folder / "images" / "training").is_dir()
