"""Which files a source stands for: by its name, its dataset.yaml and its lists of stems."""

import re
from pathlib import Path

import pytest

import softiou.checking
import softiou.training
from layout_trees import TREES, ade20k, cityscapes, deepglobe, lines, picture, voc
from softiou import jobs
from softiou._screen import progress_of
from softiou.configuration import load_config
from softiou.data import (
    FolderDataset,
    absolute_source,
    available_splits,
    open_dataset,
    open_images,
    open_source,
    open_unlabeled,
    parse_fractions,
    source_name,
    split_fractions,
    write_splits,
)
from softiou.data.layouts import PUBLISHED_LAYOUTS
from softiou.data.source_names import overlooked
from softiou.errors import DataError
from softiou.jobs import learning


def write_dataset_file(folder: Path, *texts: str) -> Path:
    lines(folder / "dataset.yaml", *texts)
    return folder


# Names


@pytest.mark.parametrize("name", TREES)
def test_a_source_names_a_layout_and_a_folder(name: str, tmp_path: Path) -> None:
    source = TREES[name](tmp_path)
    opened = open_source(source)
    assert opened.layout.name == source.split(":")[0] == source_name(source)
    assert opened.home == opened.root
    assert opened.splits() == available_splits(source)
    assert {"train", "val"} <= set(opened.splits())


def test_names_of_runs() -> None:
    assert source_name("digits") == "digits"
    assert source_name("VOC:/data/VOCdevkit") == "voc"
    assert source_name(Path("street/")) == "street"
    assert source_name("cityscapes-coarse:data") == "cityscapes-coarse"


def test_the_same_data_set_from_everywhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "street").mkdir()
    assert absolute_source("street") == str(tmp_path / "street")
    assert absolute_source("voc:street/") == f"voc:{tmp_path / 'street'}"
    assert absolute_source("voc:nowhere") == "voc:nowhere"
    assert absolute_source("digits") == "digits"


def test_a_path_may_begin_at_home_or_here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    ade20k(tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path))
    assert open_source("ade20k:~").root == tmp_path
    monkeypatch.chdir(tmp_path)
    assert open_source("ade20k:").splits() == ("train", "val")


def test_a_folder_may_have_a_colon_in_its_name(tmp_path: Path) -> None:
    folder = tmp_path / "voc:own"
    picture(folder / "train" / "images" / "a.png")
    write_dataset_file(folder, "classes: [a, b]")
    assert open_source(folder).layout.name == "folder"


def test_unknown_layouts_are_guessed(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"got 'cityscape'\. Did you mean cityscapes or city"):
        open_source(f"cityscape:{tmp_path}")
    with pytest.raises(
        DataError, match=r"got 'segmentation'. Known are cityscapes, .*, camvid, .*; a folder"
    ):
        open_source("segmentation:/data")


def test_a_missing_folder_says_what_sources_look_like() -> None:
    with pytest.raises(
        DataError, match=r"the folder does not exist.*NAME:/path, with cityscapes, cityscapes"
    ):
        open_source("nowhere")


@pytest.mark.parametrize("name", ["cityscapes", "voc", "ade20k", "camvid", "camvid-colours"])
def test_a_known_layout_is_recognised_without_its_name(name: str, tmp_path: Path) -> None:
    layout, folder = TREES[name](tmp_path).split(":")
    folder = f"{folder}/CamVid" if name == "camvid" else folder
    match = (
        rf"found folders of the layout {layout}\. Open the data set as {layout}:{folder}, or wri"
    )
    with pytest.raises(DataError, match=match):
        open_source(folder)
    write_dataset_file(Path(folder), f"layout: {layout}")
    assert open_source(folder).layout.name == layout


@pytest.mark.parametrize("name", PUBLISHED_LAYOUTS)
def test_missing_files_say_what_was_expected_and_found(name: str, tmp_path: Path) -> None:
    origin = name.removesuffix("-coarse")
    with pytest.raises(DataError, match=r"Expected .*/ of .*, but found an empty folder"):
        open_source(f"{name}:{tmp_path}")
    (tmp_path / "zip").mkdir()
    lines(tmp_path / "readme.txt", "x")
    with pytest.raises(DataError, match=rf"found only readme.txt, zip/. `softiou fetch {origin}`"):
        open_source(f"{name}:{tmp_path}")
    with pytest.raises(DataError, match="found no such folder"):
        open_source(f"{name}:{tmp_path / 'nowhere'}")


# dataset.yaml


def test_dataset_yaml_names_a_layout_of_the_same_folder(tmp_path: Path) -> None:
    deepglobe(tmp_path)
    write_dataset_file(tmp_path, "layout: deepglobe")
    assert open_dataset(tmp_path, "val").stems == ("1194",)


def test_dataset_yaml_names_a_layout_elsewhere(tmp_path: Path) -> None:
    """Lists and images without masks lie beside it, so nothing is written among the data."""
    voc(tmp_path / "published")
    home = write_dataset_file(tmp_path / "mine", "layout: voc", "root: ../published/VOCdevkit")
    lines(home / "splits" / "half.txt", "2007_000039")
    picture(home / "unlabeled" / "images" / "more.png")
    opened = open_source(home)
    assert opened.splits() == ("train", "val", "half")
    assert opened.place("half") == home / "splits" / "half.txt"
    assert open_dataset(home, "half").stems == ("2007_000039",)
    assert set(opened.images_without_masks("half", evaluated=["val"])) == {
        "JPEGImages/2007_000032",
        "unlabeled/more",
    }
    assert open_images(home, "unlabeled")[0].stems == ("more",)
    assert opened.folder("unlabeled") == "unlabeled"
    with pytest.raises(
        DataError, match="unlabeled: Expected masks, but these images are unlabelled"
    ):
        open_dataset(home, "unlabeled")
    with pytest.raises(DataError, match="found only train, val, half, trainval, unlabeled"):
        open_dataset(home, "test")
    assert source_name(home) == "mine"
    lines(home / "splits" / "unlabeled.txt", "other")
    match = rf"Listed stems that are not in {home}/unlabeled/images/: 1 \(other\)"
    with pytest.raises(DataError, match=match):
        open_images(home, "unlabeled")


@pytest.mark.parametrize(
    ("texts", "match"),
    [
        (["layout: vok"], "got 'vok'. Did you mean voc"),
        (["layout: voc", "root: nowhere"], "nowhere: Expected JPEGImages/ .* no such folder"),
        (["layout: camvid", "classes: [a, b]"], "Unknown key `classes`: the layout camvid has its"),
        (["layout: voc", "classs: [a, b]"], "Unknown key `classs`"),
        (["layout: 3"], "`layout`: Input should be a valid string; got 3"),
    ],
)
def test_mistakes_in_dataset_yaml(texts: list[str], match: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=match):
        open_source(write_dataset_file(tmp_path, *texts))


# Lists of stems


def test_lists_choose_from_a_published_layout(tmp_path: Path) -> None:
    source = cityscapes(tmp_path / "data")
    lines(tmp_path / "data" / "splits" / "one.txt", "bochum_000000_000313")
    assert available_splits(source) == ("train", "val", "one")
    assert open_dataset(source, "one").stems == ("bochum_000000_000313",)
    assert open_dataset(source, "one").folder == "train"
    elsewhere = tmp_path / "two.txt"
    lines(elsewhere, "aachen_000000_000019")
    assert open_dataset(source, str(elsewhere)).stems == ("aachen_000000_000019",)
    left = open_unlabeled(source, str(elsewhere))
    assert left.stems == ("train/bochum_000000_000313",)


def test_a_list_restricts_the_split_of_its_name(tmp_path: Path) -> None:
    source = cityscapes(tmp_path)
    lines(tmp_path / "splits" / "train.txt", "bochum_000000_000313")
    assert open_dataset(source, "train").stems == ("bochum_000000_000313",)
    assert open_dataset(source, "val").stems == ("frankfurt_000000_000294",)


def test_a_wrong_list_is_refused(tmp_path: Path) -> None:
    source = cityscapes(tmp_path)
    lines(tmp_path / "splits" / "few.txt", "aachen")
    match = r"few.txt: Listed stems that are not in leftImg8bit/train/: 1 \(aachen\)"
    with pytest.raises(DataError, match=match):
        FolderDataset(source, "few")
    with pytest.raises(DataError, match="Expected a list of stems of train"):
        FolderDataset(source, "nowhere.txt")


def test_splitting_a_published_layout(tmp_path: Path) -> None:
    source = deepglobe(tmp_path / "data")
    splits = split_fractions(source, parse_fractions("1/5,2/5"), seed=0)
    assert {name: len(stems) for name, stems in splits.items()} == {"1_5": 1, "2_5": 2}
    assert set(splits["2_5"]) < set(open_dataset(source, "train").stems)
    written = write_splits(source, splits, folder=tmp_path / "lists")
    assert not (tmp_path / "data" / "splits").exists()
    assert open_dataset(source, str(written[1])).stems == splits["2_5"]
    (inside, _) = write_splits(source, splits)
    assert inside == tmp_path / "data" / "splits" / "1_5.txt"
    assert len(open_unlabeled(source, "1_5")) == 4  # without val


def test_an_empty_split_says_so(tmp_path: Path) -> None:
    source = cityscapes(tmp_path)
    (tmp_path / "leftImg8bit" / "val" / "frankfurt").rename(tmp_path / "frankfurt")
    match = r"leftImg8bit/val: Expected images of the split val, but found none.*fetch cityscapes"
    for opening in (open_dataset, open_images):
        with pytest.raises(DataError, match=match):
            opening(source, "val")


def test_images_and_masks_that_do_not_match(tmp_path: Path) -> None:
    source = ade20k(tmp_path)
    (tmp_path / "annotations" / "training" / "ADE_train_00000001.png").unlink()
    (tmp_path / "images" / "training" / "ADE_train_00000002.jpg").unlink()
    with pytest.raises(DataError) as caught:
        open_dataset(source, "train")
    message = str(caught.value)
    assert "annotations/training: Images without a mask here: 1 (ADE_train_00000001)" in message
    assert "The mask of images/X.jpg is annotations/X.png" in message
    assert re.search(r"Masks without an image: 1 \(ADE_train_00000002\)", message)


# A folder of the name of the embedded data set


def test_a_folder_called_digits_is_said_to_be_left_out(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(learning.Request, "load", lambda _: load_config(source="digits"))
    monkeypatch.setattr(softiou.training, "start_training", lambda *_, **__: tmp_path)
    monkeypatch.setattr(softiou.checking, "check_dataset", lambda *_, **__: None)
    request = learning.Request("train", "digits", None, None, None, {}, (), "")

    def said() -> str:
        jobs.check("digits", progress=True)
        learning.learn(request, progress_of(True), lambda run: None)
        return capsys.readouterr().out

    assert "left out" not in said()
    (tmp_path / "digits").mkdir()
    line = "the name digits means the embedded data set; to use the folder, write"
    assert said().count(f"left out  the folder digits: {line} {tmp_path}/digits\n") == 2
    assert overlooked("./digits") == overlooked(tmp_path / "digits") == []
    with pytest.raises(DataError, match=r"digits/dataset\.yaml"):
        available_splits("./digits")
