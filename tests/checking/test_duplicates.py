"""The same picture under two names."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
from PIL import Image

from softiou.checking import check_dataset
from softiou.checking.scanning import Digests
from softiou.data import Problem

Make = Callable[..., Path]
MASKS = {"train/masks": {s: [[0, 1]] for s in "abc"}, "val/masks": {s: [[0, 1]] for s in "vw"}}


def copy_image(root: Path, source: str, target: str) -> None:
    """Put the picture of a sample, as SPLIT/STEM, in the place of another one."""
    from_, to = (root / name.replace("/", "/images/") for name in (source, target))
    shutil.copy(from_.with_suffix(".png"), to.with_suffix(".png"))


def pairs(problems: tuple[Problem, ...]) -> list[tuple[str, str, str]]:
    return [(p.kind, p.severity, Path(p.file).stem) for p in problems]


def test_different_pictures(make_dataset: Make) -> None:
    assert check_dataset(make_dataset(MASKS)).problems == ()


def test_picture_of_train_in_val(make_dataset: Make) -> None:
    root = make_dataset(MASKS)
    copy_image(root, "train/b", "val/w")
    report = check_dataset(root)
    assert pairs(report.problems) == [("duplicate_between_splits", "error", "w")]
    (problem,) = report.problems
    original = root / "train/images/b.png"
    assert problem.message == f"The image equals {original} of the split train."


def test_picture_in_another_file_format_and_with_other_metadata(make_dataset: Make) -> None:
    root = make_dataset(MASKS)
    with Image.open(root / "train/images/b.png") as image:
        image.save(root / "val/images/w.tiff", description="another file")
    (root / "val/images/w.png").unlink()
    assert pairs(check_dataset(root).problems) == [("duplicate_between_splits", "error", "w")]


def test_picture_twice_in_a_split(make_dataset: Make) -> None:
    root = make_dataset(MASKS)
    copy_image(root, "train/a", "train/c")
    (problem,) = check_dataset(root).problems
    assert pairs((problem,)) == [("duplicate", "warning", "c")]
    assert problem.remedy == "Remove one: the image counts twice."


def test_picture_with_another_mask(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {"a": [[0, 1]], "b": [[1, 1]]}})
    copy_image(root, "train/a", "train/b")
    (problem,) = check_dataset(root).problems
    assert problem.message.endswith("of the split train, with different masks.")
    assert problem.remedy.startswith("Keep the one with the correct masks")


def test_picture_with_masks_that_cannot_be_read(make_dataset: Make) -> None:
    root = make_dataset(MASKS)
    copy_image(root, "train/a", "train/b")
    (root / "train/masks/b.png").write_bytes(b"")
    unreadable, duplicate = check_dataset(root).problems
    assert unreadable.kind == "unreadable"
    assert duplicate.message.endswith("of the split train.")


def test_every_further_copy_is_told(make_dataset: Make) -> None:
    root = make_dataset(MASKS)
    for target in ("train/c", "val/v", "val/w"):
        copy_image(root, "train/a", target)
    assert pairs(check_dataset(root).problems) == [
        ("duplicate", "warning", "c"),
        ("duplicate_between_splits", "error", "v"),
        ("duplicate_between_splits", "error", "w"),
    ]


def test_val_and_test_must_differ_but_parts_of_train_need_not(make_dataset: Make) -> None:
    root = make_dataset({f"{s}/masks": {s: [[0, 1]]} for s in ("train", "val", "test", "more")})
    copy_image(root, "train/train", "more/more")
    copy_image(root, "val/val", "test/test")
    problems = check_dataset(root).problems
    assert sorted(pairs(problems)) == [
        ("duplicate", "warning", "more"),
        ("duplicate_between_splits", "error", "test"),
    ]


def test_one_file_in_two_splits_is_no_duplicate(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {s: [[0, 1]] for s in "ab"}})
    (root / "splits").mkdir()
    (root / "splits/half.txt").write_text("a\n", encoding="utf-8")
    assert check_dataset(root).problems == ()


def test_blank_pictures_are_no_duplicates(make_dataset: Make) -> None:
    root = make_dataset(MASKS)
    for image in (root / "train/images").iterdir():
        Image.new("RGB", (2, 1)).save(image)
    assert {p.kind for p in check_dataset(root).problems} == {"blank_image"}


@pytest.mark.parametrize("kept", [0, 1])
def test_few_or_no_samples(kept: int) -> None:
    digests = Digests()
    for _ in range(kept):
        digests.add(bytes(range(16)), None)
    assert list(digests.pairs()) == []


def test_pairs_by_hand() -> None:
    digests = Digests()
    one, two = b"1" * 16, b"1" * 8 + b"2" * 8  # half of them is equal
    for picture, masks in (
        (one, b"a" * 8),
        (None, b"a" * 8),
        (two, b"a" * 8),
        (one, b"b" * 8),
        (None, None),
        (one, b"a" * 8),
        (two, None),
    ):
        digests.add(picture, masks)
    assert sorted(digests.pairs()) == [(0, 3, False), (0, 5, True), (2, 6, True)]
