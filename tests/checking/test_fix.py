"""The corrected copy: what is mended, what is left out, and that nothing else changes."""

import hashlib
import json
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import typer
import yaml
from numpy.typing import ArrayLike
from PIL import Image
from typer.testing import CliRunner

from softiou.checking import FixReport, check_dataset, fix_dataset, fixing
from softiou.cli.check import check
from softiou.data import (
    DataProblemsError,
    FolderDataset,
    available_splits,
    open_dataset,
    open_source,
)
from softiou.errors import DataError

Make = Callable[..., Path]
APP = typer.Typer()
APP.command()(check)
MASK = np.array([[0, 1, 1], [0, 0, 1]], np.uint8)
PALETTE = [[0, 0, 0], [255, 0, 0]]


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "out"


def fix(root: Path, out: Path) -> FixReport:
    return fix_dataset(root, out, report=check_dataset(root))


def content(root: Path) -> dict[str, str]:
    """Hashes of all files below a folder, without following links."""
    return {
        str(path.relative_to(root)): hashlib.sha256(path.read_bytes()).hexdigest()
        for path in sorted(root.rglob("*"))
        if path.is_file()
    }


def targets(root: Path, split: str = "train") -> dict[str, Any]:
    """The masks by stem, as training loads them."""
    return {sample["stem"]: sample["target"].tolist() for sample in open_dataset(root, split)}


def save(array: ArrayLike, path: Path, *, mode: str | None = None, orientation: int = 1) -> None:
    exif = Image.Exif()
    if orientation > 1:
        exif[0x0112] = orientation
    image = Image.fromarray(np.asarray(array))
    image = image if mode is None else image.convert(mode)
    image.save(path, exif=exif)


# Data in order


def test_masks_that_were_right_load_as_before(make_dataset: Make, out: Path) -> None:
    masks = {s: [[0, 1, 255], [2, 2, 1]] for s in "abcd"}
    root = make_dataset(
        {"train/masks": masks, "val/masks": {"v": [[1, 2]]}}, classes=["sky", "on", "1"]
    )
    (root / "splits").mkdir()
    (root / "splits/1_2.txt").write_text("a\nb\n", encoding="utf-8")
    (root / "unlabeled/images").mkdir(parents=True)
    save(np.arange(12, dtype=np.uint8).reshape(2, 2, 3), root / "unlabeled/images/x.png")
    before = content(root)
    report = fix(root, out)
    assert report == FixReport(str(out), samples=5, steps={}, left_out=0, reasons=())
    assert report.complete
    assert content(root) == before
    assert available_splits(out) == ("train", "val", "1_2")
    for split in available_splits(out):
        assert targets(out, split) == targets(root, split)
    about = yaml.safe_load((out / "dataset.yaml").read_text(encoding="utf-8"))
    assert about == {"classes": ["sky", "on", "1"], "ignore_index": 255}
    assert (out / "train/images/a.png").readlink() == root / "train/images/a.png"
    again = check_dataset(out)
    assert (again.errors, again.unlabeled) == ((), check_dataset(root).unlabeled)
    with Image.open(out / "train/masks/a.png") as mask:
        assert mask.mode == "P"  # to look at


def test_several_annotators(make_dataset: Make, out: Path) -> None:
    root = make_dataset({"train/masks_1": {"a": [[0, 1]]}, "train/masks_2": {"a": [[1, 255]]}})
    assert fix(root, out).samples == 1
    assert targets(out) == targets(root) == {"a": [[[0, 1]], [[1, 255]]]}


@pytest.mark.parametrize(("ignore_index", "raw"), [(-1, 255), (300, 300), (0, 0), (100_000, 255)])
def test_ignore_index_of_any_kind(
    make_dataset: Make, out: Path, ignore_index: int, raw: int
) -> None:
    contents = {} if ignore_index in (0, 300) else {"label_map": {7: ignore_index}}
    mask = np.array([[0, 1, 300 if ignore_index == 300 else 7 if contents else 0]], np.uint16)
    root = make_dataset({"train/masks": {"a": [[0, 1, 1]]}}, ignore_index=ignore_index, **contents)
    save(mask, root / "train/masks/a.png")
    fix(root, out)
    assert targets(out) == targets(root)
    stored = np.asarray(Image.open(out / "train/masks/a.png"))
    assert stored[0, 2] == raw


def test_many_classes_need_16_bits(make_dataset: Make, out: Path) -> None:
    root = make_dataset(
        {"train/masks": {"a": [[0, 1, 7]]}},
        classes=[f"class {number}" for number in range(300)],
        ignore_index=-1,
        label_map={7: -1},
    )
    save(np.array([[0, 299, 7]], np.uint16), root / "train/masks/a.png")
    fix(root, out)
    assert targets(out) == targets(root) == {"a": [[0, 299, -1]]}
    assert np.asarray(Image.open(out / "train/masks/a.png")).tolist() == [[0, 299, 65535]]


def test_colours_of_the_data_set_are_kept(make_dataset: Make, out: Path) -> None:
    rgb = [[[0, 0, 0], [255, 0, 0], [9, 9, 9]]]
    root = make_dataset({"train/masks": {"a": rgb}}, palette=PALETTE, ignore_colour=[9, 9, 9])
    assert fix(root, out).steps == {}
    assert targets(out) == targets(root) == {"a": [[0, 1, 255]]}
    assert open_dataset(out, "train").description == open_dataset(root, "train").description


# All masks together


@pytest.mark.parametrize("full", [255, 65535])
def test_0_and_255_become_0_and_1(make_dataset: Make, out: Path, full: int) -> None:
    root = make_dataset({"train/masks": dict.fromkeys("ab", MASK)})
    for stem in "ab":
        save(np.uint16(full) * MASK, root / f"train/masks/{stem}.png")
    before = check_dataset(root)
    assert before.value_map == {0: 0, full: 1}
    report = fix(root, out)
    assert report.steps == {"renumbered": 2}
    assert targets(out) == {"a": MASK.tolist(), "b": MASK.tolist()}
    after = check_dataset(out)
    assert (after.problems[:0], after.errors, after.value_map) == ((), (), None)


def test_numbers_from_1(make_dataset: Make, out: Path) -> None:
    masks = {"a": [[1, 2, 3]], "b": [[1, 2, 255]]}
    root = make_dataset({"train/masks": masks}, classes=["x", "y", "z"])
    # b alone would load, with the wrong classes.
    assert [Path(p.file).name for p in check_dataset(root).errors] == ["a.png"]
    assert fix(root, out).steps == {"renumbered": 2}
    assert targets(out) == {"a": [[0, 1, 2]], "b": [[0, 1, 255]]}


def test_two_ways_to_read_the_numbers_are_not_chosen_from(make_dataset: Make, out: Path) -> None:
    masks = {"a": [[0, 1, 2]], "b": [[0, 1, 1]]}
    report = fix(make_dataset({"train/masks": masks}), out)
    assert (report.samples, report.left_out, report.steps) == (1, 1, {})
    assert not report.complete
    (group,) = report.reasons
    assert (group.kind, group.count) == ("mask_values", 1)
    assert check_dataset(out).errors == ()


def test_label_map_of_the_data_set_is_trusted(make_dataset: Make, out: Path) -> None:
    root = make_dataset({"train/masks": {"a": [[0, 255]]}}, label_map={255: 1})
    assert check_dataset(root).value_map is None
    assert fix(root, out).steps == {}
    assert targets(out) == targets(root) == {"a": [[0, 1]]}


def test_a_class_is_never_ignored_by_renumbering(make_dataset: Make, out: Path) -> None:
    masks = {"a": [[0, 1, 2, 3]], "b": [[0, 1, 2, 2]]}
    root = make_dataset({"train/masks": masks}, classes=["wall", "floor", "tree"], ignore_index=0)
    report = check_dataset(root)
    assert report.value_map is None
    (problem,) = report.errors
    meant: dict[str, Any] = {"ignore_index": 255, "label_map": {0: 255, 1: 0, 2: 1, 3: 2}}
    assert "`ignore_index: 255` and `label_map: {0: 255, 1: 0, ..., 3: 2}`" in problem.remedy
    assert fix_dataset(root, out, report=report).left_out == 1
    root = make_dataset({"train/masks": masks}, classes=["wall", "floor", "tree"], **meant)
    assert check_dataset(root).errors == ()
    assert targets(root) == {"a": [[255, 0, 1, 2]], "b": [[255, 0, 1, 1]]}


def test_remedy_frees_the_number_of_an_ignored_class(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {"a": [[0, 1, 2]]}}, ignore_index=1)
    (problem,) = check_dataset(root).errors
    assert "`ignore_index: 1` is also the index of the class 'road'" in problem.remedy
    assert "`ignore_index: 255` and `label_map: {1: 255}`" in problem.remedy


@pytest.mark.parametrize("ignore_index", [0, 1])
def test_remedy_for_0_and_255_ignores_no_class(make_dataset: Make, ignore_index: int) -> None:
    root = make_dataset({"train/masks": {"a": 255 * MASK}}, ignore_index=ignore_index)
    (problem,) = check_dataset(root).errors
    assert "`ignore_index: 255` and `label_map: {255: 1}`" in problem.remedy
    root = make_dataset({"train/masks": {"a": 255 * MASK}}, ignore_index=255, label_map={255: 1})
    assert targets(root) == {"a": MASK.tolist()}


# One file at a time


@pytest.mark.parametrize("mode", ["RGB", "RGBA", "LA"])
def test_channels_that_say_the_same(make_dataset: Make, out: Path, mode: str) -> None:
    root = make_dataset({"train/masks": {"a": MASK}})
    save(MASK, root / "train/masks/a.png", mode=mode)
    steps = {"RGB": ["equal channels joined"], "LA": ["alpha dropped"]}
    steps["RGBA"] = [*steps["LA"], *steps["RGB"]]
    assert fix(root, out).steps == dict.fromkeys(steps[mode], 1)
    assert targets(out) == {"a": MASK.tolist()}


def test_equal_channels_of_0_and_255(make_dataset: Make, out: Path) -> None:
    root = make_dataset({"train/masks": dict.fromkeys("ab", MASK)})
    save(255 * MASK, root / "train/masks/a.png", mode="RGB")
    save(255 * MASK, root / "train/masks/b.png")
    assert fix(root, out).steps == {"equal channels joined": 1, "renumbered": 2}
    assert targets(out)["a"] == MASK.tolist()


def test_all_masks_are_pictures_of_0_and_255(make_dataset: Make, out: Path) -> None:
    root = make_dataset({"train/masks": {"a": MASK}})
    save(255 * MASK, root / "train/masks/a.png", mode="RGBA")
    steps = ("alpha dropped", "equal channels joined", "renumbered")
    assert fix(root, out).steps == dict.fromkeys(steps, 1)
    assert targets(out) == {"a": MASK.tolist()}


def test_black_and_white_are_colours_where_a_palette_says_so(make_dataset: Make, out: Path) -> None:
    palette = [[255, 255, 255], [0, 0, 0]]
    root = make_dataset({"train/masks": {"a": MASK}}, palette=palette)
    save(255 * MASK, root / "train/masks/a.png", mode="RGB")
    report = check_dataset(root)
    assert (report.problems, report.value_map) == ((), None)
    assert fix(root, out).steps == {}
    assert targets(out) == targets(root) == {"a": (1 - MASK).tolist()}


def test_transparency_that_may_mean_something(make_dataset: Make, out: Path) -> None:
    root = make_dataset({"train/masks": dict.fromkeys("ab", MASK)})
    save(np.stack([MASK, 100 * MASK], axis=-1), root / "train/masks/a.png")
    report = fix(root, out)
    assert [group.kind for group in report.reasons] == ["mask_mode"]
    assert list(targets(out)) == ["b"]


def test_different_channels_without_a_palette(make_dataset: Make, out: Path) -> None:
    root = make_dataset({"train/masks": {"a": MASK}})
    save(np.stack([MASK, 2 * MASK, MASK], axis=-1), root / "train/masks/a.png")
    with pytest.raises(DataProblemsError, match="found mode RGB"):
        fix(root, out)
    assert not out.exists()
    assert list(out.parent.glob(".out*")) == []


def test_palette_instead_of_numbers(make_dataset: Make, out: Path) -> None:
    root = make_dataset({"train/masks": {"a": MASK}}, palette=PALETTE)
    mask = Image.fromarray(MASK + 6)
    mask.putpalette([0] * 18 + [0, 0, 0, 255, 0, 0])
    mask.save(root / "train/masks/a.png")
    assert fix(root, out).steps == {"read by the colours of its palette": 1}
    assert targets(out) == {"a": MASK.tolist()}


# Sizes


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_mask_is_turned_like_its_image(make_dataset: Make, out: Path, orientation: int) -> None:
    root = make_dataset({"train/masks": {"a": MASK}})
    picture = np.stack([200 * MASK + 1] * 3, axis=-1)
    save(picture, root / "train/images/a.png", orientation=orientation)
    assert fix(root, out).steps == {"turned like its image": 1}
    (sample,) = FolderDataset(out, "train")
    assert sample["target"].shape == (3, 2)
    assert sample["image"][0].sub(1).div(200).tolist() == sample["target"].tolist()
    assert check_dataset(out).errors == ()


@pytest.mark.parametrize("orientation", [5, 6, 7, 8])
def test_mask_is_turned_by_a_tag_of_its_own(
    make_dataset: Make, out: Path, orientation: int
) -> None:
    root = make_dataset({"train/masks": {"a": MASK.T}})
    save(MASK, root / "train/masks/a.png", orientation=orientation)
    assert fix(root, out).steps == {"turned by its own EXIF tag": 1}
    turn = {5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270}
    turn |= {7: Image.Transpose.TRANSVERSE, 8: Image.Transpose.ROTATE_90}
    expected = np.asarray(Image.fromarray(MASK).transpose(turn[orientation]))
    assert targets(out) == {"a": expected.tolist()}


def test_mask_of_half_and_of_double_size(make_dataset: Make, out: Path) -> None:
    big = MASK.repeat(3, axis=0).repeat(3, axis=1)
    root = make_dataset({"train/masks": {"small": big, "large": MASK}})
    save(MASK, root / "train/masks/small.png")
    save(big, root / "train/masks/large.png")
    assert fix(root, out).steps == {"scaled by a whole number": 2}
    assert targets(out) == {"small": big.tolist(), "large": MASK.tolist()}


def test_other_sizes_are_left_out(make_dataset: Make, out: Path) -> None:
    root = make_dataset({"train/masks": {"a": MASK, "b": MASK}})
    save(np.zeros((4, 5), np.uint8), root / "train/masks/a.png")
    report = fix(root, out)
    assert [group.kind for group in report.reasons] == ["size_mismatch"]
    assert list(targets(out)) == ["b"]


def test_unreadable_files_are_left_out_with_their_lists(make_dataset: Make, out: Path) -> None:
    root = make_dataset({"train/masks": dict.fromkeys("abc", MASK)})
    (root / "splits").mkdir()
    for name, stems in {"one": "a\n", "two": "a\nb\n"}.items():
        (root / f"splits/{name}.txt").write_text(stems, encoding="utf-8")
    (root / "train/masks/a.png").write_bytes(b"")
    report = fix(root, out)
    assert report.left_out == 1
    assert available_splits(out) == ("train", "two")
    assert list(targets(out, "two")) == ["b"]


def test_files_that_cannot_be_opened_are_left_out(make_dataset: Make, out: Path) -> None:
    root = make_dataset({"train/masks": dict.fromkeys("abcde", MASK)})
    for folder, link, other in (("images", "a", "b"), ("masks", "c", "d")):
        for stem in (link, other):
            (root / "train" / folder / f"{stem}.png").unlink()
        (root / "train" / folder / f"{link}.png").symlink_to(root / "nowhere.png")
        (root / "train" / folder / f"{other}.png").mkdir()
    report = fix(root, out)
    assert (report.samples, report.left_out) == (1, 4)
    assert list(targets(out)) == ["e"]


# Images without masks


def test_unlabeled_folder_that_has_masks_is_a_split(make_dataset: Make, out: Path) -> None:
    root = make_dataset({"train/masks": {"a": MASK}, "unlabeled/masks": {"u": MASK}})
    report = fix(root, out)
    assert (report.samples, report.complete) == (2, True)
    assert targets(out, "unlabeled") == targets(root, "unlabeled")


def test_split_without_masks_is_in_the_copy(make_dataset: Make, out: Path) -> None:
    root = make_dataset({"train/masks": {"a": MASK}, "test/masks": {"x": MASK, "y": 1 - MASK}})
    shutil.rmtree(root / "test/masks")
    assert fix(root, out).complete
    assert list(open_source(out).images("test")) == ["x", "y"]
    assert (out / "test/images/x.png").readlink() == root / "test/images/x.png"
    assert available_splits(out) == available_splits(root) == ("train",)


def test_split_without_masks_that_is_out_of_order_is_named(make_dataset: Make, out: Path) -> None:
    root = make_dataset({"train/masks": {"a": MASK}})
    (root / "test/images").mkdir(parents=True)
    report = fix(root, out)
    assert not report.complete
    (group,) = report.remaining
    assert group.examples[0].file == str(root / "test/images")


# Where it goes


def test_folder_that_is_not_empty_is_refused(make_dataset: Make, out: Path) -> None:
    root = make_dataset()
    out.mkdir()
    fix(root, out)
    with pytest.raises(DataProblemsError, match="found files"):
        fix(root, out)
    file = out / "dataset.yaml"
    with pytest.raises(DataProblemsError, match="found files"):
        fix(root, file)


@pytest.mark.parametrize("inner", ["", "copy"])
def test_folder_within_the_data_is_refused(make_dataset: Make, inner: str) -> None:
    root = make_dataset()
    with pytest.raises(DataProblemsError, match=r"found files|outside the data set"):
        fix(root, root / inner)


def test_nothing_stays_after_an_interrupt(
    make_dataset: Make, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_dataset()
    report = check_dataset(root)

    def interrupt(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(fixing, "_link", interrupt)
    with pytest.raises(KeyboardInterrupt):
        fix_dataset(root, out, report=report)
    assert list(out.parent.iterdir()) == [root]


def test_images_are_copied_where_there_are_no_links(
    make_dataset: Make, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_dataset()
    (root / "unlabeled/images").mkdir(parents=True)

    def refuse(*_: object) -> None:
        raise OSError("no links here")

    monkeypatch.setattr(Path, "symlink_to", refuse)
    fix(root, out)
    image = out / "train/images/a.png"
    assert not image.is_symlink()
    assert image.read_bytes() == (root / "train/images/a.png").read_bytes()
    assert (out / "unlabeled/images").is_dir()


def test_an_original_is_never_written_through_its_link(tmp_path: Path) -> None:
    original, other, link = (tmp_path / name for name in ("a.png", "b.png", "link.png"))
    original.write_bytes(b"original")
    other.write_bytes(b"other")
    link.symlink_to(original)
    with pytest.raises(FileExistsError):
        fixing._link(other, link)
    assert original.read_bytes() == b"original"


# The command


def test_command_says_what_was_mended(make_dataset: Make, out: Path) -> None:
    root = make_dataset({"train/masks": dict.fromkeys("ab", 255 * MASK)})
    result = CliRunner().invoke(APP, [str(root), "--fix", str(out)])
    assert result.exit_code == 0, result.output
    assert (
        "values: the only label_map that is valid for all masks is {0: 0, 255: 1}" in result.output
    )
    assert "2 masks renumbered" in result.output
    assert CliRunner().invoke(APP, [str(out)]).exit_code == 0


def test_command_says_what_was_not_mended(make_dataset: Make, out: Path) -> None:
    root = make_dataset({"train/masks": dict.fromkeys("abc", MASK), "val/masks": {"v": MASK}})
    (root / "val/images/v.png").write_bytes((root / "train/images/b.png").read_bytes())
    (root / "train/masks/a.png").write_bytes(b"")
    result = CliRunner().invoke(APP, [str(root), "--fix", str(out)])
    assert result.exit_code == 1
    assert "left out: 1 images whose repair is ambiguous or impossible" in result.output
    assert "not repaired: 1 of the kind duplicate_between_splits" in result.output


def test_command_tells_what_is_wrong_where_nothing_can_be_mended(
    make_dataset: Make, out: Path
) -> None:
    root = make_dataset({"train/masks": {"a": MASK + 7}})
    result = CliRunner().invoke(APP, [str(root), "--fix", str(out)])
    assert isinstance(result.exception, DataError)
    assert "Add the missing names to `classes`" in result.output
    assert f"errors: 1, warnings: 0, in {root}" in result.output
    assert not out.exists()


def test_command_writes_json_of_the_copy(make_dataset: Make, out: Path) -> None:
    root = make_dataset({"train/masks": {"a": 255 * MASK}})
    result = CliRunner().invoke(APP, [str(root), "--fix", str(out), "--json"])
    assert json.loads(result.output)["fix"] == {
        "out": str(out),
        "samples": 1,
        "steps": {"renumbered": 1},
        "left_out": 0,
        "reasons": [],
        "remaining": [],
    }


def test_digits_have_no_files_to_mend(out: Path) -> None:
    result = CliRunner().invoke(APP, ["digits", "--fix", str(out)])
    assert isinstance(result.exception, DataProblemsError)
    assert "the digits are generated in memory" in str(result.exception)


def test_command_looks_at_the_new_folder_first(
    make_dataset: Make, monkeypatch: pytest.MonkeyPatch
) -> None:
    root = make_dataset()
    monkeypatch.setattr("softiou.checking.check_dataset", None)
    result = CliRunner().invoke(APP, [str(root), "--fix", str(root / "copy")])
    assert isinstance(result.exception, DataProblemsError)
