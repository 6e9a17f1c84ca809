"""Data sets that lie in a layout of their own."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import typer
import yaml
from PIL import Image
from typer.testing import CliRunner

from softiou.checking import check_dataset, fix_dataset
from softiou.cli.check import check
from softiou.data import DataProblemsError, DatasetDescription
from softiou.data.files import files_by_stem, images_by_stem
from softiou.data.layouts import Files, Layout, published
from softiou.data.opening import open_dataset
from softiou.data.reading import MaskReader

APP = typer.Typer()
APP.command()(check)
MASK = np.array([[1, 2, 2], [0, 1, 1]], np.uint8)


class Flat(Layout):
    """SPLIT-x/ and SPLIT-y/ with masks from 1 on, 0 for what is ignored."""

    split_form = "{split}-x/"
    pairing = "A mask has the stem of its image."

    def __init__(self, root: Path) -> None:
        self.name = "flat"
        self.root = root
        self.splits = tuple(split for split in ("train", "val") if (root / f"{split}-x").is_dir())
        description = DatasetDescription(("sky", "road"), palette=((1, 2, 3), (4, 5, 6)))
        self.reader = MaskReader(description, label_map={0: 255, 1: 0, 2: 1})

    def images(self, split: str) -> Files:
        folder = self.root / f"{split}-x"
        images, problems = images_by_stem(folder)
        return Files(images, folder, tuple(problems))

    def masks(self, split: str) -> tuple[Files, ...]:
        folder = self.root / f"{split}-y"
        masks, problems = files_by_stem(folder, frozenset({".png"}))
        return (Files(masks, folder, tuple(problems)),)


Make = Callable[[dict[str, str]], str]


@pytest.fixture
def make_flat(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Make:
    """Return a function that writes samples, by split a letter each, and returns the source."""
    monkeypatch.setitem(published.PUBLISHED_LAYOUTS, "flat", Flat)
    random = np.random.default_rng(0)

    def make(stems: dict[str, str]) -> str:
        for split, letters in stems.items():
            for kind in "xy":
                (tmp_path / "flat" / f"{split}-{kind}").mkdir(parents=True)
            for letter in letters:
                picture = random.integers(0, 256, (2, 3, 3)).astype(np.uint8)
                name = f"{letter}.png"
                Image.fromarray(picture).save(tmp_path / "flat" / f"{split}-x" / name)
                Image.fromarray(MASK).save(tmp_path / "flat" / f"{split}-y" / name)
        return f"flat:{tmp_path / 'flat'}"

    return make


def test_check_and_corrected_copy(make_flat: Make, tmp_path: Path) -> None:
    source = make_flat({"train": "ab", "val": "c"})
    report = check_dataset(source)
    assert report.problems == ()
    assert {name: split.images for name, split in report.splits.items()} == {"train": 2, "val": 1}
    assert report.splits["val"].classes[0].pixel_share == pytest.approx(3 / 5)
    assert report.value_map is None
    out = tmp_path / "out"
    assert fix_dataset(source, out, report=report).steps == {}
    about = yaml.safe_load((out / "dataset.yaml").read_text(encoding="utf-8"))
    assert about["palette"] == [[1, 2, 3], [4, 5, 6]]
    for one, other in zip(open_dataset(source, "train"), open_dataset(out, "train"), strict=True):
        assert one["target"].tolist() == other["target"].tolist() == [[0, 1, 1], [255, 0, 0]]


def test_problems_name_what_the_layout_expects(make_flat: Make, tmp_path: Path) -> None:
    source = make_flat({"val": "c"})
    (tmp_path / "flat/val-y/c.png").unlink()
    no_train, unmatched = check_dataset(source).errors
    assert no_train.remedy == "Put its images into train-x/."
    assert (unmatched.kind, unmatched.remedy) == ("unmatched", Flat.pairing)


class Relabelled(Flat):
    """The images of train once more, with the masks of val."""

    def images(self, split: str) -> Files:
        del split
        return super().images("train")


def test_image_with_other_masks_in_another_split_is_no_copy(
    make_flat: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    source = make_flat({"train": "ab", "val": "ab"})
    assert check_dataset(source).problems == ()
    monkeypatch.setitem(published.PUBLISHED_LAYOUTS, "flat", Relabelled)
    (shared,) = check_dataset(source).problems
    assert shared.kind == "shared_images"  # and no duplicates


def test_copy_within_either_folder_is_refused(make_flat: Make, tmp_path: Path) -> None:
    make_flat({"train": "a"})
    home = tmp_path / "home"
    home.mkdir()
    about = f"layout: flat\nroot: {tmp_path / 'flat'}\n"
    (home / "dataset.yaml").write_text(about, encoding="utf-8")
    report = check_dataset(home)
    assert report.splits["train"].images == 1
    for folder in (home / "copy", tmp_path / "flat" / "copy"):
        with pytest.raises(DataProblemsError, match="outside the data set"):
            fix_dataset(home, folder, report=report)


def test_command(make_flat: Make) -> None:
    result = CliRunner().invoke(APP, [make_flat({"train": "ab"})])
    assert result.exit_code == 0
    assert "train: 2 images; 2 of 3x2" in result.output
