import json
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import typer
from PIL import Image
from torch import Tensor
from typer.testing import CliRunner

from softiou.checking import check_dataset
from softiou.checking.report import ListSummary, UnlabeledSummary
from softiou.checking.summaries import SizeSummary
from softiou.cli.check import check
from softiou.data import copies
from softiou.data.problems import Problem
from softiou.data.reading import MaskReader

Make = Callable[..., Path]
APP = typer.Typer()
APP.command()(check)


def write_list(root: Path, name: str, stems: str) -> Path:
    """Write a list of stems of one letter each."""
    path = root / "splits" / f"{name}.txt"
    path.parent.mkdir(exist_ok=True)
    path.write_text("".join(f"{stem}\n" for stem in stems), encoding="utf-8")
    return path


def picture(size: tuple[int, int]) -> Image.Image:
    """Return a picture of (width, height) that has more than one colour."""
    image = Image.new("RGB", size, (9, 9, 9))
    image.putpixel((0, 0), (200, 9, 9))
    return image


def write_unlabeled(root: Path, name: str, *, size: tuple[int, int] = (3, 2)) -> Path:
    """Write an image of (width, height) that nobody labelled."""
    path = root / "unlabeled" / "images" / name
    path.parent.mkdir(parents=True, exist_ok=True)
    picture(size).save(path)
    return path


def found(problem: Problem, root: Path) -> tuple[str, str, str]:
    """Return where a problem is, how bad, and what was found."""
    return (Path(problem.file).relative_to(root).as_posix(), problem.severity, problem.message)


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
        ("train/masks", "Images without a mask he"),
        ("train/masks", "Masks without an image: "),
        ("val/masks", "Images without a mask he"),
        ("train/images/a.png", "The file is empty."),
        ("train/masks/a.png", "Expected values 0..1 or "),
        ("train/masks/b.png", "Expected values 0..1 or "),
        ("val/masks/f.png", "Expected values 0..1 or "),
    ]
    assert report.warnings == ()
    kinds = ["unmatched"] * 3 + ["unreadable"] + ["mask_values"] * 3
    assert [p.kind for p in report.errors] == kinds
    assert report.count("error") == 7
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
    assert problem.message.startswith(
        "No pixel of train is 'road' and 25.0% of them are ignored, which happens with"
    )
    assert "`label_map: {255: 1}`" in problem.remedy


def test_empty_classes(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {"a": [[0, 2]]}}, classes=["a", "b", "c", "d"])
    (problem,) = check_dataset(root).problems
    assert problem.severity == "warning"
    assert problem.message == "Classes without a pixel in train: 2 (b, d)."


def test_annotator_folders_with_different_stems(make_dataset: Make) -> None:
    root = make_dataset({f"train/masks_{r}": {"a": [[0, 1]], "b": [[0, 1]]} for r in (1, 2)})
    (root / "train/masks_2/b.png").unlink()
    report = check_dataset(root)
    assert report.errors == ()
    (note,) = [problem for problem in report.problems if problem.kind == "left_out"]
    assert (note.severity, "1 (b)" in note.message) == ("note", True)


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
    assert problem.remedy.startswith(
        "Create train/images/ and train/masks/ (or masks_1/ to masks_R/)"
    )


def test_images_and_masks_without_a_split_are_those_of_train(make_dataset: Make) -> None:
    root = make_dataset({"masks": {"a": [[0, 1]], "b": [[1, 0]]}})
    (root / "splits").mkdir()
    (root / "splits/train.txt").write_text("a\n", encoding="utf-8")
    (root / "splits/val.txt").write_text("b\n", encoding="utf-8")
    report = check_dataset(root)
    assert not report.errors
    assert {name: split.images for name, split in report.splits.items()} == {"train": 1, "val": 1}


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


def test_digits_and_their_parts() -> None:
    report = check_dataset("digits")
    assert report.problems == ()
    assert {name: split.images for name, split in report.splits.items()} == {
        "train": 2000,
        "val": 64,
        "test": 128,
    }
    assert all(c.images > 0 for split in report.splits.values() for c in split.classes)
    assert report.advice is not None
    assert report.advice.scarce == ()
    assert report.lists == {
        "1_16": ListSummary(125, left_out=1875),
        "1_8": ListSummary(250, left_out=1750),
        "1_4": ListSummary(500, left_out=1500),
    }


def test_camvid(shared_data: Path) -> None:
    report = check_dataset(shared_data / "camvid")
    assert report.problems == ()
    assert report.splits["test"].images == 233
    assert report.splits["test"].sizes == (SizeSummary(360, 480, images=233),)


# Lists of images of train


def test_lists_say_what_they_hold_and_what_they_leave(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {s: [[0, 1]] for s in "abcdefgh"}})
    write_list(root, "train", "abcdef")
    write_list(root, "val", "g")
    write_list(root, "1_3", "ab")
    write_list(root, "other", "ah")
    report = check_dataset(root)
    assert report.problems == ()
    assert list(report.splits) == ["train", "val", "1_3", "other"]
    assert report.splits["1_3"].images == 2
    # g is evaluated on, and h is not in train.
    assert report.lists == {
        "train": ListSummary(6, left_out=0),
        "1_3": ListSummary(2, left_out=4),
        "other": ListSummary(2, left_out=5),
    }


def test_list_of_another_folder_is_no_part_of_train(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {"a": [[0, 1]]}, "extra/masks": {"b": [[0, 1]]}})
    write_list(root, "extra", "b")
    report = check_dataset(root)
    assert (report.problems, report.lists) == ((), {})
    assert report.splits["extra"].images == 1


def test_list_with_unknown_stems_is_an_error_and_has_no_summary(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {"a": [[0, 1]]}})
    write_list(root, "half", "ax")
    report = check_dataset(root)
    assert [found(p, root) for p in report.problems] == [
        ("splits/half.txt", "error", "Listed stems that are not in train/images/: 1 (x).")
    ]
    assert report.lists == {}


def test_hidden_list_is_no_list(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {"a": [[0, 1]]}})
    write_list(root, "half", "a").rename(root / "splits" / "._half.txt")
    assert list(check_dataset(root).splits) == ["train"]


def test_masks_are_read_once_however_many_lists_share_them(
    make_dataset: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_dataset({"train/masks": {s: [[0, 1]] for s in "abcd"}, "val/masks": {"a": [[1]]}})
    picture((2, 2)).save(root / "train/images/b.png")  # another size
    for name in ("one", "two"):
        write_list(root, name, "abc")
    decode, opened = MaskReader.decode, list[Path]()

    def note(self: MaskReader, path: Path, image: Image.Image) -> Tensor:
        opened.append(path)
        return decode(self, path, image)

    monkeypatch.setattr(MaskReader, "decode", note)
    report = check_dataset(root)
    assert sorted(path.relative_to(root).as_posix() for path in opened) == [
        *(f"train/masks/{stem}.png" for stem in "abcd"),
        "val/masks/a.png",
    ]
    # What is wrong with a file of all three is said once, and none of them counts it.
    assert [found(p, root)[0] for p in report.errors] == ["train/masks/b.png"]
    assert [report.splits[name].images for name in ("train", "one", "two")] == [3, 2, 2]


def test_what_is_wrong_with_the_folder_is_said_once(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {s: [[0, 1]] for s in "ab"}})
    shutil.copy(root / "train/images/a.png", root / "train/images/a.jpg")
    write_list(root, "half", "a")
    (problem,) = check_dataset(root).problems
    assert problem.message == "Expected one file per stem, but several files share a stem: 1 (a)."


@pytest.mark.parametrize("evaluated", ["val", "test"])
def test_list_that_holds_evaluated_images(make_dataset: Make, evaluated: str) -> None:
    root = make_dataset({"train/masks": {s: [[0, 1]] for s in "abcd"}})
    write_list(root, "train", "ab")
    write_list(root, evaluated, "cd")
    write_list(root, "half", "ad")
    (problem,) = check_dataset(root).problems
    message = f"Images that are also in the split {evaluated}: 1 (d)."
    assert found(problem, root) == ("splits/half.txt", "warning", message)
    assert problem.remedy.startswith("Remove them from the list; `softiou split`")


def test_list_named_like_a_folder_holds_no_image_of_train(make_dataset: Make) -> None:
    root = make_dataset({f"{split}/masks": {"a": [[0, 1]]} for split in ("train", "val")})
    write_list(root, "val", "a")
    write_list(root, "half", "a")
    assert check_dataset(root).problems == ()


def test_classes_that_a_part_of_train_does_not_show(make_dataset: Make) -> None:
    masks = {"a": [[0, 0]], "b": [[0, 1]], "c": [[2, 2]]}
    root = make_dataset({"train/masks": masks}, classes=["sky", "road", "car", "nothing"])
    write_list(root, "one", "a")
    write_list(root, "two", "bc")
    in_train, in_one = check_dataset(root).problems
    # "nothing" is said once.
    assert found(in_train, root) == (
        ".",
        "warning",
        "Classes without a pixel in any split: 1 (nothing).",
    )
    assert found(in_one, root) == (
        "splits/one.txt",
        "warning",
        "Classes of train without a pixel in this list: 2 (road, car).",
    )
    assert in_one.remedy.startswith("A model trained on it (--split one) cannot learn them")


def test_list_that_is_no_part_of_train_is_judged_like_a_folder(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {"a": [[0, 1]], "b": [[0, 0]]}})
    write_list(root, "train", "a")
    write_list(root, "dev", "b")
    (problem,) = check_dataset(root).problems
    message = "Classes without a pixel in dev: 1 (road)."
    assert found(problem, root) == ("splits/dev.txt", "warning", message)


# Images without masks


def test_unlabelled_images_are_counted_by_size(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {"a": [[0, 1]]}})
    assert check_dataset(root).unlabeled is None
    for name in ("x.png", "y.jpg", "._z.jpg"):
        write_unlabeled(root, name)
    turned = Image.Exif()
    turned[0x0112] = 6  # by 90 degrees
    picture((2, 5)).save(root / "unlabeled/images/w.jpg", exif=turned)
    (root / "unlabeled/images/bad.png").write_bytes(b"")
    report = check_dataset(root)
    sizes = (SizeSummary(2, 3, images=2), SizeSummary(2, 5, images=1))
    assert report.unlabeled == UnlabeledSummary(3, sizes)
    assert [found(p, root)[:2] for p in report.problems] == [("unlabeled/images/bad.png", "error")]
    assert list(report.splits) == ["train"]


def test_unlabelled_images_that_training_would_refuse(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {"a": [[0, 1]]}})
    write_unlabeled(root, "x.png")
    write_unlabeled(root, "x.jpg")
    Image.new("F", (2, 2)).save(root / "unlabeled/images/y.tiff")
    report = check_dataset(root)
    twice = "Expected one file per stem, but several files share a stem: 1 (x)."
    floating = "Expected an image of 8 or 16 bits per channel, but found floating-point values."
    assert [found(p, root) for p in report.problems] == [
        ("unlabeled/images", "error", twice),
        ("unlabeled/images/y.tiff", "error", floating),
    ]


def test_empty_folder_of_unlabelled_images(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {"a": [[0, 1]]}})
    (root / "unlabeled/images").mkdir(parents=True)
    report = check_dataset(root)
    assert report.unlabeled == UnlabeledSummary(0, ())
    (problem,) = report.errors
    assert found(problem, root)[0] == "unlabeled/images"
    assert problem.message.endswith("but found none.")


def test_unlabelled_images_in_the_wrong_place(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {"a": [[0, 1]]}})
    (root / "unlabeled").mkdir()
    (problem,) = check_dataset(root).problems
    assert found(problem, root) == (
        "unlabeled",
        "warning",
        "Expected a subfolder images/, but it does not exist.",
    )
    shutil.copy(root / "train/images/a.png", root / "unlabeled/x.png")
    message = "Found images outside images/: 1 (x.png)."
    report = check_dataset(root)
    assert [found(p, root) for p in report.problems] == [("unlabeled", "warning", message)]
    assert report.problems[0].remedy.endswith("move them to unlabeled/images/.")
    assert report.unlabeled is None
    write_unlabeled(root, "y.png")
    report = check_dataset(root)
    assert [found(p, root) for p in report.problems] == [("unlabeled", "warning", message)]
    assert report.unlabeled == UnlabeledSummary(1, (SizeSummary(2, 3, images=1),))


def test_unlabelled_copies_of_labelled_images(make_dataset: Make) -> None:
    splits = ("train", "val", "test")
    root = make_dataset({f"{split}/masks": {"a": [[0, 1]]} for split in splits})
    write_unlabeled(root, "other.png")
    places = [f"{split}/images/a.png" for split in splits]
    for grey, place in enumerate([*places, "unlabeled/images/other.png"], start=1):
        image = Image.new("L", (2, 1))
        image.putpixel((0, 0), grey)
        image.save(root / place, compress_level=0)
    assert len({(root / place).stat().st_size for place in places}) == 1  # contents tell them apart
    for name, split in (("x", "val"), ("y", "val"), ("t", "test"), ("z", "train")):
        shutil.copy(root / split / "images/a.png", root / f"unlabeled/images/{name}.png")
    problems = check_dataset(root).problems
    assert [found(p, root) for p in problems] == [
        ("unlabeled/images", "warning", "Copies of images of val: 2 (x.png, y.png)."),
        ("unlabeled/images", "warning", "Copies of images of test: 1 (t.png)."),
        ("unlabeled/images", "warning", "Copies of images of train: 1 (z.png)."),
    ]
    assert problems[0].remedy == problems[1].remedy
    assert "metrics on training images are too high" in problems[0].remedy
    assert "would be used twice" in problems[2].remedy


def test_unlabelled_copy_of_an_evaluated_image_of_train(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {"a": [[0, 1]], "b": [[0, 1], [1, 1]]}})
    write_list(root, "train", "a")
    write_list(root, "val", "b")
    shutil.copy(root / "train/images/b.png", write_unlabeled(root, "x.png"))
    (problem,) = check_dataset(root).problems
    assert problem.message == "Copies of images of val: 1 (x.png)."


def test_unlabelled_copy_of_an_image_whose_masks_others_keep(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {"a": [[0, 1]]}})
    (root / "test/images").mkdir(parents=True)
    path = write_unlabeled(root, "x.png")
    shutil.copy(path, root / "test/images/c.png")
    without_masks, copies = check_dataset(root).problems
    assert without_masks.message == "Found images without masks."
    assert copies.message == "Copies of images of test: 1 (x.png)."


def test_few_files_are_hashed(make_dataset: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    root = make_dataset({"train/masks": {"a": [[0, 1]], "b": [[0, 1]]}})
    write_unlabeled(root, "long.png", size=(300, 200))
    same = root / "unlabeled/images/same.png"
    same.write_bytes((root / "train/images/a.png").read_bytes())
    longer = (root / "train/images/b.png").read_bytes() + b"more than it has"
    (root / "train/images/b.png").write_bytes(longer)
    digest, hashed = copies._digest, list[Path]()

    def note(path: Path) -> bytes:
        hashed.append(path)
        return digest(path)

    monkeypatch.setattr(copies, "_digest", note)
    (problem,) = check_dataset(root).problems
    assert problem.message == "Copies of images of train: 1 (same.png)."
    assert sorted(hashed) == [root / "train/images/a.png", same]


@pytest.mark.parametrize("inner", ["", "images"])
def test_folder_of_mere_images_is_told_what_it_is_good_for(tmp_path: Path, inner: str) -> None:
    (tmp_path / inner).mkdir(exist_ok=True)
    (problem,) = check_dataset(tmp_path).errors
    assert "semi" not in problem.remedy
    Image.new("L", (2, 2)).save(tmp_path / inner / "x.png")
    (problem,) = check_dataset(tmp_path).errors
    assert problem.message.endswith("but found no dataset.yaml.")
    assert problem.remedy.endswith("`softiou semi DATA --unlabeled DIR`.")
    (tmp_path / "masks").mkdir()
    (problem,) = check_dataset(tmp_path).errors
    assert "semi" not in problem.remedy


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
    assert "error: 25 x mask_values" in result.output
    assert result.output.count("but found 7.") == 3
    assert "... and 22 more" in result.output
    assert "errors: 25, warnings: 0" in result.output


def test_command_shows_the_most_frequent_groups(make_dataset: Make) -> None:
    masks = {f"m{value}": [[0, value]] for value in range(100, 122)}
    result = CliRunner().invoke(APP, [str(make_dataset({"train/masks": masks}))])
    assert result.output.count("error: ") == 20
    assert "... and 2 more; --json prints them all." in result.output


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
    assert "the folder does not exist" in " ".join(result.output.split())


def test_command_tells_of_lists_and_unlabelled_images(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {s: [[0, 1]] for s in "abc"}})
    write_list(root, "1_3", "b")
    write_unlabeled(root, "x.png")
    result = CliRunner().invoke(APP, [str(root)])
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[1:4] == [
        "1_3: 1 images; 1 of 2x1",
        "softiou semi --split 1_3: 1 images of train with masks, 2 without",
        "unlabeled: 1 images without masks; 1 of 3x2",
    ]
    report = json.loads(CliRunner().invoke(APP, [str(root), "--json"]).output)
    assert report["lists"] == {"1_3": {"images": 1, "left_out": 2}}
    sizes = [{"height_px": 2, "width_px": 3, "images": 1}]
    assert report["unlabeled"] == {"images": 1, "sizes": sizes}
