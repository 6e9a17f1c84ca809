import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from typer.testing import CliRunner

from softiou.cli.check import check
from softiou.data import check_dataset
from softiou.data.check import SizeSummary

Make = Callable[..., Path]
APP = typer.Typer()
APP.command()(check)


def test_good_data_set_is_summarised(make_dataset: Make) -> None:
    root = make_dataset(
        {
            "train/masks": {"a": [[0, 0], [1, 255]], "b": [[0, 1], [0, 0]], "c": [[0], [0]]},
            "val/masks": {"d": [[0, 1]]},
        }
    )
    report = check_dataset(root)
    assert report.problems == ()
    assert list(report.splits) == ["train", "val"]
    train = report.splits["train"]
    assert (train.images, train.annotators, train.ignored_share) == (3, 1, 0.1)
    assert [(c.name, c.images) for c in train.classes] == [("sky", 3), ("road", 2)]
    assert [c.pixel_share for c in train.classes] == pytest.approx([7 / 9, 2 / 9])
    assert train.sizes == (SizeSummary(2, 2, images=2), SizeSummary(2, 1, images=1))


def test_annotators_are_counted_together(make_dataset: Make) -> None:
    root = make_dataset({"train/masks_1": {"a": [[0, 0]]}, "train/masks_2": {"a": [[0, 1]]}})
    train = check_dataset(root).splits["train"]
    assert train.annotators == 2
    assert [(c.pixel_share, c.images) for c in train.classes] == [(0.75, 1), (0.25, 1)]


def test_all_problems_are_collected(make_dataset: Make) -> None:
    root = make_dataset(
        {"train/masks": {s: [[0, 1]] for s in "abcde"}, "val/masks": {"f": [[0, 7]]}}
    )
    train = root / "train"
    (train / "images/a.png").write_bytes(b"")  # unreadable, and its mask is bad as well
    shutil.copy(root / "val/masks/f.png", train / "masks/a.png")
    shutil.copy(root / "val/masks/f.png", train / "masks/b.png")
    (train / "masks/c.png").unlink()
    (train / "images/d.png").unlink()
    (root / "val/images/g.png").write_bytes((root / "val/images/f.png").read_bytes())
    report = check_dataset(root)
    found = [(Path(p.file).relative_to(root).as_posix(), p.message[:24]) for p in report.errors]
    assert found == [
        ("train/masks", "Images without mask here"),
        ("train/masks", "Masks without image: 1 ("),
        ("train/images/a.png", "Cannot decode the image:"),
        ("train/masks/a.png", "Expected values 0..1 or "),
        ("train/masks/b.png", "Expected values 0..1 or "),
        ("val/masks", "Images without mask here"),
        ("val/masks/f.png", "Expected values 0..1 or "),
    ]
    assert report.warnings == ()
    assert report.splits["train"].images == 1
    assert report.splits["val"].images == 0


def test_different_sizes(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {"a": [[0, 1]], "b": [[0], [1]]}})
    shutil.copy(root / "train/masks/b.png", root / "train/masks/a.png")
    (problem,) = check_dataset(root).problems
    assert problem.file.endswith("masks/a.png")
    assert "2x1 (width x height), but found 1x2" in problem.message


def test_suspicion_of_0_255_masks(make_dataset: Make) -> None:
    (problem,) = check_dataset(make_dataset({"train/masks": {"a": [[0, 0, 0, 255]]}})).problems
    assert problem.severity == "warning"
    assert problem.message.startswith("No pixel is 'road' and 25.0% of them are ignored, as when")
    assert "`label_map: {255: 1}`" in problem.remedy


def test_empty_classes(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {"a": [[0, 2]]}}, classes=["a", "b", "c", "d"])
    (problem,) = check_dataset(root).problems
    assert problem.severity == "warning"
    assert problem.message == "Classes without a pixel in this split: 2 (b, d)."


def test_annotator_folders_with_different_stems(make_dataset: Make) -> None:
    root = make_dataset({f"train/masks_{r}": {"a": [[0, 1]], "b": [[0, 1]]} for r in (1, 2)})
    (root / "train/masks_2/b.png").unlink()
    (problem,) = check_dataset(root).errors
    assert str(problem).startswith(f"{root}/train/masks_2: Images without mask here: 1 (b).")


def test_images_that_are_trained_on_and_evaluated_on(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {s: [[0, 1]] for s in "abc"}})
    (root / "splits").mkdir()
    (root / "splits/val.txt").write_text("a\nb\n", encoding="utf-8")
    (problem,) = check_dataset(root).problems
    assert problem.severity == "warning"
    assert problem.message == "Images that are also in the split train: 2 (a, b)."
    (root / "splits/train.txt").write_text("c\n", encoding="utf-8")
    assert check_dataset(root).problems == ()


def test_images_without_masks_and_unreadable_unlabelled_ones(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {"a": [[0, 1]]}})
    for folder in ("test/images", "unlabeled/images"):
        (root / folder).mkdir(parents=True)
        (root / folder / "x.jpg").write_bytes(b"")
    without_masks, unreadable = check_dataset(root).problems
    assert without_masks.message == "Found images without masks."
    assert (without_masks.severity, unreadable.severity) == ("warning", "error")
    assert unreadable.file.endswith("unlabeled/images/x.jpg")


def test_no_train_split(make_dataset: Make) -> None:
    (problem,) = check_dataset(make_dataset({"val/masks": {"a": [[0, 1]]}})).errors
    assert problem.message == "Expected a split train/, but found val."


def test_split_of_an_empty_list(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {"a": [[0, 1]]}})
    (root / "splits").mkdir()
    (root / "splits/val.txt").write_text("", encoding="utf-8")
    report = check_dataset(root)
    assert [p.message for p in report.problems] == [
        "Expected a list of stems, but the file is empty."
    ]
    assert report.splits["val"].images == 0


def test_mistakes_in_dataset_yaml(make_dataset: Make) -> None:
    report = check_dataset(make_dataset(names=["x"], classes=["a"]))
    assert len(report.errors) == 2
    assert report.splits == {}


def test_digits() -> None:
    report = check_dataset("digits")
    assert report.problems == ()
    assert {name: split.images for name, split in report.splits.items()} == {
        "train": 2000,
        "val": 64,
        "test": 128,
    }
    assert all(c.images > 0 for split in report.splits.values() for c in split.classes)


def test_camvid(shared_data: Path) -> None:
    report = check_dataset(shared_data / "camvid")
    assert report.problems == ()
    assert report.splits["test"].images == 233
    assert report.splits["test"].sizes == (SizeSummary(360, 480, images=233),)


# The command


def test_command_says_that_all_is_well(make_dataset: Make) -> None:
    result = CliRunner().invoke(APP, [str(make_dataset({"train/masks": {"a": [[0, 1]]}}))])
    assert result.exit_code == 0
    assert "train: 1 images; 1 of 2x1" in result.output
    assert "50.00% (1)" in result.output
    assert "errors: 0, warnings: 0" in result.output


def test_command_fails_on_errors(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {f"m{i:02}": [[0, 7]] for i in range(25)}})
    result = CliRunner().invoke(APP, [str(root)])
    assert result.exit_code == 1
    assert "but found 7." in result.output
    assert "... and 5 more; --json prints them all." in result.output


def test_command_writes_json(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {"a": [[0, 7]]}})
    result = CliRunner().invoke(APP, [str(root), "--json"])
    assert result.exit_code == 1
    report = json.loads(result.output)
    assert report["problems"][0]["severity"] == "error"
    assert report["splits"]["train"]["images"] == 0


def test_command_survives_a_missing_folder(tmp_path: Path) -> None:
    result = CliRunner().invoke(APP, [str(tmp_path / "nowhere")])
    assert result.exit_code == 1
    assert "there is no such folder" in " ".join(result.output.split())
