"""Images with masks and images without in one data set."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch

from softiou.data import PartlyLabeled, open_dataset, open_unlabeled, stems_by_folder
from softiou.errors import DataError

Make = Callable[..., Any]


@pytest.fixture
def folder(make_dataset: Make) -> Path:
    """Three images of train, of which the list `few` names one, and one in unlabeled/."""
    masks = {stem: [[0, 1], [1, 255]] for stem in ("a", "b", "c")}
    root: Path = make_dataset({"train/masks": masks, "unlabeled/masks": {"a": [[0, 0, 0]]}})
    (root / "splits").mkdir()
    (root / "splits" / "few.txt").write_text("b\n")
    return root


def partly(root: Path) -> PartlyLabeled:
    return PartlyLabeled(open_dataset(root, "few"), open_unlabeled(root, "few"))


def test_labels_come_first_and_the_others_are_ignored(folder: Path) -> None:
    (folder / "train" / "masks" / "a.png").write_bytes(b"nobody opens this")
    dataset = partly(folder)
    assert dataset.stems == ("train/b", "train/a", "train/c", "unlabeled/a")
    assert [sample["stem"] for sample in dataset] == list(dataset.stems)
    assert dataset[0]["target"].tolist() == [[0, 1], [1, 255]]
    assert dataset[1]["target"].tolist() == [[255, 255], [255, 255]]
    assert dataset[-1]["target"].tolist() == [[255, 255, 255]]
    assert dataset[3]["image"].shape == (3, 1, 3)
    assert len(dataset.files(0)) == 2
    assert dataset.files(3) == ()
    with pytest.raises(IndexError):
        dataset[4]


def test_stems_by_folder(folder: Path) -> None:
    dataset = partly(folder)
    assert dict(stems_by_folder(dataset)) == {"train": ("b", "a", "c"), "unlabeled": ("a",)}
    assert dict(stems_by_folder(open_dataset(folder, "train"))) == {"train": ("a", "b", "c")}


def test_ignored_targets_have_the_form_of_the_others() -> None:
    soft = PartlyLabeled(
        open_dataset("digits", "1_16", labels="soft"), open_unlabeled("digits", "1_16")
    )
    assert len(soft) == 2000
    target = soft[1999]["target"]
    assert (target.shape, target.dtype) == ((11, 64, 64), torch.float32)
    assert bool((target == 255).all())


def test_nothing_is_left_without_a_list(folder: Path) -> None:
    import shutil

    shutil.rmtree(folder / "unlabeled")
    with pytest.raises(DataError, match="--split 1_8"):
        open_unlabeled(folder, "train")
