"""Images without their labels: which they are, and that nobody looks at a mask."""

import shutil
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from softiou.checking import check_dataset
from softiou.data import (
    Augmentation,
    DigitScenes,
    ImageDataset,
    StrongColours,
    UnlabeledStream,
    open_images,
    open_unlabeled,
)
from softiou.errors import DataError

Make = Callable[..., Path]


@pytest.fixture
def scenes(make_dataset: Make) -> Path:
    """Images a to f in train/, of which the list `few` holds a and b; one more in val/."""
    train = {stem: [[0, 1], [1, 255]] for stem in "abcdef"}
    root = make_dataset({"train/masks": train, "val/masks": {"v": [[0, 1]]}})
    write_list(root, "few", "ab")
    return root


def write_list(root: Path, name: str, stems: str) -> Path:
    """Write a list of stems of one letter each."""
    path = root / "splits" / f"{name}.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_text("\n".join(stems), encoding="utf-8")
    return path


def write_image(path: Path, grey: int = 50) -> Path:
    path.parent.mkdir(parents=True, exist_ok=True)
    Image.new("RGB", (3, 2), (grey, 0, 0)).save(path)
    return path


_listeners: list[Callable[[str], None]] = []


def _hear(event: str, arguments: tuple[Any, ...]) -> None:
    if _listeners and event in ("open", "os.listdir", "os.scandir"):
        for listener in _listeners:
            listener(str(arguments[0]))


@cache
def _hook() -> None:
    """Listen once: a hook stays for good."""
    sys.addaudithook(_hear)


@contextmanager
def opened_files() -> Iterator[list[str]]:
    """Collect the files that Python opens and the folders that it lists, by whatever means."""
    _hook()
    paths: list[str] = []
    _listeners.append(paths.append)
    try:
        yield paths
    finally:
        _listeners.remove(paths.append)


# Which images


def test_what_a_list_leaves_out_of_train(scenes: Path) -> None:
    images = open_unlabeled(scenes, "few")
    assert images.stems == ("train/c", "train/d", "train/e", "train/f")
    assert len(images) == 4
    assert (images.folder, images.skipped) == ("unlabeled", ())
    sample = images[1]
    assert sample["stem"] == "train/d"
    assert sample["image"].dtype == torch.uint8
    assert sample["image"].tolist() == [[[100, 100], [100, 100]]] * 3
    assert set(sample) == {"image", "stem"}


def test_list_that_lies_elsewhere(scenes: Path, tmp_path: Path) -> None:
    path = tmp_path / "lists" / "1_3.txt"
    path.parent.mkdir()
    (scenes / "splits" / "few.txt").rename(path)
    assert open_unlabeled(scenes, str(path)).stems == ("train/c", "train/d", "train/e", "train/f")
    with pytest.raises(DataError, match=r"nowhere\.txt: Expected a list of stems of train"):
        open_unlabeled(scenes, "nowhere.txt")


def test_folder_of_unlabelled_images(scenes: Path) -> None:
    write_image(scenes / "unlabeled" / "images" / "y.jpg")
    write_image(scenes / "unlabeled" / "images" / "x.png", grey=7)
    write_image(scenes / "unlabeled" / "images" / "._x.png")
    images = open_unlabeled(scenes, "train")
    assert images.stems == ("unlabeled/x", "unlabeled/y")
    assert images[0]["image"][:, 0, 0].tolist() == [7, 0, 0]


def test_both_together_even_of_one_stem(scenes: Path) -> None:
    write_image(scenes / "unlabeled" / "images" / "c.png", grey=7)
    images = open_unlabeled(scenes, "few")
    assert images.stems == ("train/c", "train/d", "train/e", "train/f", "unlabeled/c")
    assert [int(images[number]["image"][0, 0, 0]) for number in (0, 4)] == [100, 7]


@pytest.mark.parametrize("inner", ["", "images"])
def test_folder_of_ones_own(scenes: Path, tmp_path: Path, inner: str) -> None:
    write_image(scenes / "unlabeled" / "images" / "x.png")
    write_image(tmp_path / "more" / inner / "z.png", grey=9)
    images = open_unlabeled(scenes, "few", folder=tmp_path / "more")
    assert (images.stems, images.folder) == (("more/z",), "more")
    assert int(images[0]["image"][0, 0, 0]) == 9
    assert open_unlabeled("digits", "train", folder=str(tmp_path / "more")).stems == ("more/z",)


def test_folder_one_stands_in_has_a_name(
    scenes: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(write_image(tmp_path / "more" / "z.png").parent)
    images = open_unlabeled(scenes, "few", folder=".")
    assert (images.stems, images.folder) == (("more/z",), "more")


def test_evaluated_splits_that_lie_in_train_are_left_out(scenes: Path) -> None:
    write_list(scenes, "val", "c")  # restricts the folder val/, which has no c
    with pytest.raises(DataError, match=r"val\.txt: Listed stems that are not in val/images/: 1"):
        open_images(scenes, "val")
    shutil.rmtree(scenes / "val")
    assert open_unlabeled(scenes, "few").stems == ("train/d", "train/e", "train/f")
    write_list(scenes, "test", "d")
    assert open_unlabeled(scenes, "few").stems == ("train/e", "train/f")
    write_list(scenes, "dev", "e")
    elsewhere = str(write_list(scenes, "hidden", "cd").rename(scenes / "hidden.txt"))
    assert open_unlabeled(scenes, "few").stems == ("train/e", "train/f")
    assert open_unlabeled(scenes, "few", evaluated=("dev",)).stems == (
        "train/c",
        "train/d",
        "train/f",
    )
    assert open_unlabeled(scenes, "few", evaluated=(elsewhere,)).stems == ("train/e", "train/f")
    assert len(open_unlabeled(scenes, "few", evaluated=())) == 4


def test_images_of_an_evaluated_folder_do_not_count_as_images_of_train(scenes: Path) -> None:
    shutil.copy(scenes / "val/images/v.png", scenes / "val/images/c.png")
    shutil.copy(scenes / "val/masks/v.png", scenes / "val/masks/c.png")
    assert "train/c" in open_unlabeled(scenes, "few").stems


def test_what_the_list_of_train_leaves_out_is_nobodys(scenes: Path) -> None:
    write_list(scenes, "train", "abcd")
    assert open_unlabeled(scenes, "few").stems == ("train/c", "train/d")
    with pytest.raises(DataError, match="'train' leaves no other images"):
        open_unlabeled(scenes, "train")


def test_folder_that_holds_images_of_splits(scenes: Path, tmp_path: Path) -> None:
    train = scenes / "train"
    assert open_unlabeled(scenes, "few", folder=train).stems == tuple(
        f"train/{stem}" for stem in "cdef"
    )
    write_list(scenes, "dev", "e")
    images = open_unlabeled(scenes, "few", folder=train, evaluated=("dev", "none"))
    assert images.stems == ("train/c", "train/d", "train/f")
    more = tmp_path / "more"
    write_image(more / "z.png")
    (more / "v.png").symlink_to(scenes / "val" / "images" / "v.png")
    assert open_unlabeled(scenes, "few", folder=more).stems == ("more/z",)
    for folder, number in ((train, 6), (scenes / "val", 1)):
        with pytest.raises(
            DataError, match=rf"but all {number} are in the splits train, val, test, which"
        ):
            open_unlabeled(scenes, "train", folder=folder)


def test_copies_of_evaluated_images_are_left_out(scenes: Path, tmp_path: Path) -> None:
    more = tmp_path / "more"
    write_image(more / "z.png")
    shutil.copy(scenes / "val" / "images" / "v.png", more / "copy.png")
    images = open_unlabeled(scenes, "few", folder=more)
    assert (images.stems, images.excluded) == (("more/z",), ("more/copy",))
    shutil.copytree(more, scenes / "unlabeled" / "images")
    images = open_unlabeled(scenes, "train")
    assert (images.stems, images.excluded) == (("unlabeled/z",), ("unlabeled/copy",))
    assert "unlabeled/copy" in open_unlabeled(scenes, "train", evaluated=("test",)).stems


def test_digits() -> None:
    scenes = DigitScenes("train")
    for split, labelled in (("1_16", 125), ("1_8", 250), ("1_4", 500)):
        images = open_unlabeled("digits", split)
        assert images.stems == tuple(f"train/{stem}" for stem in scenes.stems[labelled:])
        assert torch.equal(images[0]["image"], scenes[labelled]["image"])
        assert torch.equal(images[-1]["image"], scenes[-1]["image"])


# The masks


def test_masks_are_never_opened(scenes: Path, tmp_path: Path) -> None:
    write_image(scenes / "unlabeled" / "images" / "x.png")
    write_image(scenes / "unlabeled" / "masks" / "x.png")
    write_image(tmp_path / "more" / "images" / "z.png")
    write_image(tmp_path / "more" / "masks" / "z.png")
    masks = [path for path in tmp_path.rglob("*.png") if path.parent.name == "masks"]
    assert len(masks) == 9
    for path in masks:
        path.write_bytes(b"no image")

    with opened_files() as heard:
        assert masks[0].read_bytes() == b"no image"
        shutil.copy(masks[0], tmp_path / "copy")
        list(masks[1].parent.glob("*"))
    assert heard.count(str(masks[0])) == 2
    assert str(masks[1].parent) in heard  # it does hear

    with opened_files() as heard:
        for images in (
            open_unlabeled(scenes, "few"),
            open_unlabeled(scenes, "few", skip_corrupt=True),
            open_unlabeled(scenes, "few", folder=tmp_path / "more"),
        ):
            assert images.skipped == ()
            assert [images[number]["stem"] for number in range(len(images))] == list(images.stems)
            stream = UnlabeledStream(images, Augmentation((8, 8)), StrongColours(), views=1, seed=0)
            assert {stream[draw]["stem"] for draw in range(len(images))} == set(images.stems)
    assert str(scenes / "train" / "images" / "c.png") in heard
    assert str(tmp_path / "more" / "images" / "z.png") in heard
    assert [path for path in heard if "masks" in Path(path).parts] == []
    # While check, which counts the classes, reads them.
    assert any("Cannot decode" in problem.message for problem in check_dataset(scenes).errors)


def test_images_need_no_masks(scenes: Path) -> None:
    shutil.rmtree(scenes / "train" / "masks")
    assert len(open_unlabeled(scenes, "few")) == 4


# Files that cannot be read


def test_unreadable_images_are_named_or_left_out(scenes: Path) -> None:
    broken = [scenes / "train" / "images" / f"{stem}.png" for stem in "bdf"]
    for path in broken:  # b has a mask, and is the labelled ones' business
        path.write_bytes(path.read_bytes()[:40])
    with pytest.raises(DataError, match=r"train/images/d\.png: Cannot decode .*skip_corrupt") as e:
        open_unlabeled(scenes, "few")
    assert [line.split(":")[0] for line in str(e.value).splitlines()] == [
        str(path) for path in broken[1:]
    ]
    images = open_unlabeled(scenes, "few", skip_corrupt=True)
    assert images.stems == ("train/c", "train/e")
    assert images.skipped == ("train/d", "train/f")
    assert images[1]["stem"] == "train/e"


def test_nothing_but_unreadable_images(scenes: Path, tmp_path: Path) -> None:
    write_image(tmp_path / "more" / "z.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"more/z\.png: Cannot decode"):
        open_unlabeled(scenes, "few", folder=tmp_path / "more", skip_corrupt=True)


def test_image_that_breaks_later(scenes: Path) -> None:
    images = open_unlabeled(scenes, "few")
    (scenes / "train" / "images" / "c.png").write_bytes(b"")
    with pytest.raises(DataError, match=r"c\.png: Cannot decode"):
        images[0]


# Errors with the way out


def test_no_images_without_masks(scenes: Path) -> None:
    with pytest.raises(
        DataError,
        match=r"there is no unlabeled/images/, and the split 'train' leaves no other images of "
        r"train\. Name a folder \(--unlabeled DIR\), or .*`softiou split .* --split",
    ):
        open_unlabeled(scenes, "train")


@pytest.mark.parametrize("split", ["train", "val", "test"])
def test_digits_that_are_all_labelled_or_others(split: str) -> None:
    with pytest.raises(DataError, match=rf"'{split}' leaves none\. Use a fraction: --split 1"):
        open_unlabeled("digits", split)


def test_wrong_names(scenes: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"split 'fwe' .* found only train, val, few\."):
        open_unlabeled(scenes, "fwe")
    with pytest.raises(DataError, match=r"train, val, test, 1_16, 1_8, 1_4, but got '1_3'"):
        open_unlabeled("digits", "1_3")
    with pytest.raises(
        DataError, match=r"nowhere: Expected a folder of images, .*the folder does not exist"
    ):
        open_unlabeled(scenes, "few", folder=tmp_path / "nowhere")
    with pytest.raises(DataError, match=r"nowhere: Expected a folder with dataset\.yaml"):
        open_unlabeled(tmp_path / "nowhere", "train")


def test_folders_that_hold_no_images(scenes: Path, tmp_path: Path) -> None:
    (tmp_path / "more" / "2024").mkdir(parents=True)
    with pytest.raises(DataError, match=r"more: .* found only the folders 2024\. Put the image"):
        open_unlabeled(scenes, "few", folder=tmp_path / "more")
    (scenes / "unlabeled" / "images").mkdir(parents=True)
    with pytest.raises(DataError, match=r"unlabeled/images: Expected images .* but found none\."):
        open_unlabeled(scenes, "few")


def test_two_images_of_one_stem(scenes: Path, tmp_path: Path) -> None:
    for suffix in ("png", "jpg"):
        write_image(tmp_path / "more" / f"z.{suffix}")
        write_image(scenes / "unlabeled" / "images" / f"z.{suffix}")
    for folder in (tmp_path / "more", None):
        with pytest.raises(
            DataError, match=r"one file per stem, but several files share a stem: 1 \(z\)"
        ):
            open_unlabeled(scenes, "few", folder=folder)


def test_list_with_unknown_stems(scenes: Path) -> None:
    write_list(scenes, "few", "ax")
    with pytest.raises(DataError, match=r"few\.txt: Listed stems that are not in .*: 1 \(x\)"):
        open_unlabeled(scenes, "few")


# Images of a split


def test_open_images_of_a_split(scenes: Path) -> None:
    shutil.rmtree(scenes / "train" / "masks")
    images, description = open_images(scenes, "train")
    assert (images.folder, images.stems) == ("train", tuple("abcdef"))
    assert description.classes == ("sky", "road")
    scenes_of_val, description = open_images("digits", "val")
    assert (scenes_of_val.folder, len(scenes_of_val)) == ("val", 64)
    assert torch.equal(scenes_of_val[5]["image"], DigitScenes("val")[5]["image"])
    assert description.num_classes == 11
    part, _ = open_images("digits", "1_16")
    assert (part.folder, len(part)) == ("train", 125)


def test_images_by_number() -> None:
    pictures = [torch.full((3, 1, 1), number, dtype=torch.uint8) for number in range(2)]
    images = ImageDataset("folder", ("a", "b"), pictures.__getitem__)
    assert len(images) == 2
    assert np.array_equal(images[1]["image"], pictures[1])
    assert images[1]["stem"] == "b"
