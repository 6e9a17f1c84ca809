"""Copies of data sets at a fraction of their size."""

import shutil
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks import smaller
from softiou.data import FolderDataset


def test_images_are_averaged_and_masks_keep_their_classes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smaller, "COPIES", tmp_path / "copies")
    source = tmp_path / "data"
    for folder in ("images", "masks"):
        (source / "train" / folder).mkdir(parents=True)
    (source / "dataset.yaml").write_text("classes: [a, b]")
    grey = np.full((6, 8, 3), 100, np.uint8)
    Image.fromarray(grey).save(source / "train" / "images" / "1.png")
    mask = np.zeros((6, 8), np.uint8)
    mask[:, 4:] = 7
    Image.fromarray(mask).save(source / "train" / "masks" / "1.png")
    copy = smaller.smaller_copy(source, 2)
    assert (copy / "dataset.yaml").read_text() == "classes: [a, b]"
    assert (np.asarray(Image.open(copy / "train" / "images" / "1.png")) == 100).all()
    small = np.asarray(Image.open(copy / "train" / "masks" / "1.png"))
    assert small.tolist() == [[0, 0, 7, 7]] * 3


def test_the_pixels_that_become_one_vote(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(smaller, "COPIES", tmp_path / "copies")
    source = tmp_path / "data"
    for folder in ("images", "masks"):
        (source / "train" / folder).mkdir(parents=True)
    (source / "dataset.yaml").write_text("classes: [a, b]")
    Image.new("RGB", (4, 2)).save(source / "train" / "images" / "1.png")
    mask = np.array([[0, 1, 1, 1], [0, 0, 1, 1]], np.uint8)
    Image.fromarray(mask).save(source / "train" / "masks" / "1.png")
    copy = smaller.smaller_copy(source, 2, shares=True)
    target = FolderDataset(copy, "train", labels="soft")[0]["target"]
    assert target.tolist() == [[[0.75, 0.0]], [[0.25, 1.0]]]


def test_a_copy_that_is_complete_is_not_written_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(smaller, "COPIES", tmp_path)
    (tmp_path / "data_2").mkdir()
    assert smaller.smaller_copy(tmp_path / "data", 2) == tmp_path / "data_2"
    assert list((tmp_path / "data_2").iterdir()) == []


def test_another_process_that_was_first_wins(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Two processes that reduce the same folder at once end with one whole copy."""
    monkeypatch.setattr(smaller, "COPIES", tmp_path / "copies")
    source = tmp_path / "data"
    source.mkdir()
    (source / "names.txt").write_text("one\n")
    copy_file = shutil.copyfile

    def raced(file: Path, target: Path) -> None:
        copy_file(file, target)
        other = tmp_path / "copies" / "data_2"
        other.mkdir()
        copy_file(file, other / file.name)

    monkeypatch.setattr(shutil, "copyfile", raced)
    copy = smaller.smaller_copy(source, 2)
    assert (copy / "names.txt").read_text() == "one\n"
    assert [path.name for path in copy.parent.iterdir()] == ["data_2"]
