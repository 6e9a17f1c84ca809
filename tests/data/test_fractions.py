"""Parts of the training images: nested, in balance, repeatable, and never overwritten."""

import os
from collections.abc import Callable
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from softiou.data import fractions, open_dataset, parse_fractions, split_fractions, write_splits
from softiou.data.folder import FolderDataset
from softiou.data.fractions import balanced_order, count_pixels, name_of
from softiou.errors import DataError

Make = Callable[..., Path]
Pixels = NDArray[np.float64]

COMMITTED = Path(__file__).resolve().parents[2] / "benchmarks" / "splits" / "camvid"
PARTS = [Fraction(1, 8), Fraction(1, 4), Fraction(1, 2)]


def shares(pixels: Pixels) -> Pixels:
    """Return the share of each class (C,) in pixels (I, C)."""
    total: Pixels = pixels.sum(0) / pixels.sum()
    return total


@pytest.fixture
def scenes(make_dataset: Make) -> Path:
    """32 images: all have sky, every second has road, every eighth a car of one pixel."""
    masks = {}
    for number in range(32):
        mask = np.zeros((4, 4), np.uint8)
        mask[2:] = number % 2
        mask[0, 0] = 2 if number % 8 == 5 else 0
        masks[f"s{number:02}"] = mask
    return make_dataset({"train/masks": masks}, classes=["sky", "road", "car"])


# What is asked for


def test_fractions_are_read_from_text() -> None:
    assert parse_fractions("1/16") == [Fraction(1, 16)]
    assert parse_fractions("1/16, 0.25 ,3/8") == [Fraction(1, 16), Fraction(1, 4), Fraction(3, 8)]


@pytest.mark.parametrize("text", ["", "eighth", "1/8;1/4", "1/0", "1/8,,1/4", "nan"])
def test_no_fraction(text: str) -> None:
    with pytest.raises(DataError, match=r"^--fractions: '.*' is not a fraction; write, say"):
        parse_fractions(text)


@pytest.mark.parametrize("text", ["0", "1", "3/2", "-1/4", "1/8,8/8"])
def test_fraction_out_of_range(text: str) -> None:
    with pytest.raises(DataError, match=r"^--fractions: .* is not between 0 and 1\.$"):
        parse_fractions(text)


def test_lists_are_called_like_their_fraction() -> None:
    assert [name_of(fraction) for fraction in parse_fractions("1/16,0.25,6/16")] == [
        "1_16",
        "1_4",
        "3_8",
    ]


# What is chosen


def test_parts_have_their_size_and_are_nested(scenes: Path) -> None:
    parts = split_fractions(scenes, PARTS, seed=0)
    assert {name: len(stems) for name, stems in parts.items()} == {"1_8": 4, "1_4": 8, "1_2": 16}
    assert set(parts["1_8"]) < set(parts["1_4"]) < set(parts["1_2"])
    for stems in parts.values():
        assert list(stems) == sorted(set(stems))


def test_a_part_does_not_depend_on_the_others(scenes: Path) -> None:
    all_of_them = split_fractions(scenes, PARTS, seed=3)
    for fraction in reversed(PARTS):
        alone = split_fractions(scenes, [fraction], seed=3)
        assert alone == {name_of(fraction): all_of_them[name_of(fraction)]}


def test_seed_alone_decides(scenes: Path) -> None:
    assert split_fractions(scenes, PARTS, seed=0) == split_fractions(scenes, PARTS, seed=0)
    chosen = {split_fractions(scenes, PARTS, seed=seed)["1_8"] for seed in range(5)}
    assert len(chosen) > 1


def test_classes_are_as_frequent_as_among_all(scenes: Path) -> None:
    parts = split_fractions(scenes, PARTS, seed=0)
    numbers = [int(stem[1:]) for stem in parts["1_4"]]
    # The car is in an eighth of all images, the road in half of them.
    assert sum(number % 8 == 5 for number in numbers) == 1
    assert sum(number % 2 for number in numbers) == 4


def test_balance_is_better_than_chance() -> None:
    random = np.random.default_rng(0)
    pixels = random.lognormal(sigma=1.5, size=(200, 8)) * (random.random((200, 8)) < 0.4)
    true = shares(pixels)

    def error(numbers: list[int]) -> float:
        return float(np.abs(shares(pixels[numbers]) / true - 1).max())

    by_chance = [error(random.permutation(200)[:25].tolist()) for _ in range(50)]
    balanced = [error(balanced_order(pixels, 25, seed=seed)) for seed in range(5)]
    assert max(balanced) < 0.3
    assert max(balanced) < min(by_chance)


@given(st.integers(0, 2**32 - 1), st.integers(1, 7), st.integers(7, 30))
def test_few_images_show_every_class_that_occurs(seed: int, classes: int, images: int) -> None:
    random = np.random.default_rng(seed)
    pixels = random.integers(0, 9, (images, classes)) * (random.random((images, classes)) < 0.2)
    order = balanced_order(pixels.astype(np.float64), classes, seed=seed % 5)
    assert len(set(order)) == classes
    assert ((pixels[order] > 0).any(0) == (pixels > 0).any(0)).all()


def test_smallest_part_shows_a_class_of_a_single_image(make_dataset: Make) -> None:
    masks = {f"s{number:02}": [[0, 0]] for number in range(16)} | {"s07": [[0, 1]]}
    root = make_dataset({"train/masks": masks})
    for seed in range(3):
        assert split_fractions(root, [Fraction(1, 16)], seed=seed) == {"1_16": ("s07",)}


def test_at_least_one_image(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {stem: [[0, 1]] for stem in "abc"}})
    parts = split_fractions(root, [Fraction(1, 100), Fraction(1, 2)], seed=0)
    assert [len(stems) for stems in parts.values()] == [1, 2]


def hard_labels(root: Path) -> FolderDataset:
    dataset = open_dataset(root, "train", labels="hard")
    assert isinstance(dataset, FolderDataset)
    return dataset


def test_ignored_pixels_do_not_count(make_dataset: Make) -> None:
    masks = {"a": [[0, 7, 7]], "b": [[1, 1, 7]], "c": [[7, 7, 7]]}
    root = make_dataset({"train/masks": masks}, ignore_index=7)
    dataset = hard_labels(root)
    assert count_pixels(dataset, range(3)).tolist() == [[1, 0], [0, 2], [0, 0]]
    assert count_pixels(dataset, [2, 1]).tolist() == [[0, 0], [0, 2]]
    for seed in range(5):  # c is worth nothing
        assert split_fractions(root, [Fraction(2, 3)], seed=seed) == {"2_3": ("a", "b")}


def test_images_without_a_label_can_be_chosen(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {stem: [[255]] for stem in "abcd"}})
    assert len(split_fractions(root, [Fraction(1, 2)], seed=0)["1_2"]) == 2


def test_majority_of_annotators_counts(make_dataset: Make) -> None:
    by_rater = [{"a": [[1]], "b": [[0]]}, {"a": [[1]], "b": [[1]]}, {"a": [[0]], "b": [[0]]}]
    root = make_dataset({f"train/masks_{r + 1}": masks for r, masks in enumerate(by_rater)})
    dataset = hard_labels(root)
    assert count_pixels(dataset, range(2)).tolist() == [[0, 1], [1, 0]]


def test_only_images_of_the_split_train_are_chosen(scenes: Path) -> None:
    (scenes / "splits").mkdir()
    listed = [f"s{number:02}" for number in range(10)]
    (scenes / "splits" / "train.txt").write_text("\n".join(listed), encoding="utf-8")
    assert set(split_fractions(scenes, [Fraction(9, 10)], seed=0)["9_10"]) < set(listed)


def test_images_of_val_and_test_are_not_chosen(scenes: Path) -> None:
    (scenes / "splits").mkdir()
    stems = {f"s{number:02}" for number in range(32)}
    lists = {"val": sorted(stems)[:10], "test": sorted(stems)[10:16]}
    for name, listed in lists.items():
        (scenes / "splits" / f"{name}.txt").write_text("\n".join(listed), encoding="utf-8")
    parts = split_fractions(scenes, [Fraction(1, 2), Fraction(15, 16)], seed=0)
    assert [len(part) for part in parts.values()] == [8, 15]
    assert not set(parts["15_16"]) & {*lists["val"], *lists["test"]}
    (scenes / "splits" / "val.txt").write_text("\n".join(sorted(stems)), encoding="utf-8")
    with pytest.raises(DataError, match="all of them are in val or test"):
        split_fractions(scenes, [Fraction(1, 2)], seed=0)


def test_masks_with_mistakes_are_an_error(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {"a": [[0, 1]], "b": [[0, 9]]}})
    with pytest.raises(DataError, match=r"b\.png: Expected values 0\.\.1 or 255"):
        split_fractions(root, PARTS, seed=0)


# What is written


def test_lists_are_files_of_stems(scenes: Path) -> None:
    paths = write_splits(scenes, {"1_8": ("a", "c"), "1_4": ("a", "b", "c")})
    assert paths == [scenes / "splits" / "1_8.txt", scenes / "splits" / "1_4.txt"]
    assert [path.read_bytes() for path in paths] == [b"a\nc\n", b"a\nb\nc\n"]
    assert sorted(path.name for path in (scenes / "splits").iterdir()) == ["1_4.txt", "1_8.txt"]


def test_written_lists_are_splits(scenes: Path) -> None:
    parts = split_fractions(scenes, PARTS, seed=0)
    write_splits(scenes, parts)
    for name, stems in parts.items():
        assert open_dataset(scenes, name).stems == stems


def test_another_folder(scenes: Path, tmp_path: Path) -> None:
    (path,) = write_splits(scenes, {"1_8": ("s03",)}, folder=tmp_path / "lists" / "mine")
    assert path == tmp_path / "lists" / "mine" / "1_8.txt"
    assert not (scenes / "splits").exists()
    assert open_dataset(scenes, str(path)).stems == ("s03",)


def test_other_lists_are_kept_and_nothing_is_written(scenes: Path) -> None:
    (path,) = write_splits(scenes, {"1_4": ("a",)})
    with pytest.raises(
        DataError, match=r"1_4\.txt: The list already exists with other .*nothing was .* --out"
    ):
        write_splits(scenes, {"1_8": ("a",), "1_4": ("b",)})
    assert [file.name for file in path.parent.iterdir()] == ["1_4.txt"]
    assert path.read_text() == "a\n"
    assert len(write_splits(scenes, {"1_8": ("a",), "1_4": ("a",)})) == 2


def test_list_is_whole_or_not_there(scenes: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(_: int) -> None:
        raise OSError("disk full")

    monkeypatch.setattr(os, "fsync", fail)
    with pytest.raises(OSError, match="disk full"):
        write_splits(scenes, {"1_8": ("a",)})
    assert list((scenes / "splits").iterdir()) == []


# Real data


def test_committed_lists_of_camvid(shared_data: Path) -> None:
    root = shared_data / "camvid"
    fractions = parse_fractions("1/16,1/8")
    parts = split_fractions(root, fractions, seed=0)
    assert {name: len(stems) for name, stems in parts.items()} == {"1_16": 23, "1_8": 46}
    assert set(parts["1_16"]) < set(parts["1_8"])
    for name, stems in parts.items():
        committed = (COMMITTED / f"{name}.txt").read_text(encoding="utf-8")
        assert tuple(committed.splitlines()) == stems

    dataset = hard_labels(root)
    pixels = count_pixels(dataset, range(len(dataset)))
    number_of = {stem: number for number, stem in enumerate(dataset.stems)}
    # 12 % off for the fence in a sixteenth, 5 % in an eighth; the sky has 60 times the bicyclist.
    for name, tolerance in (("1_16", 0.15), ("1_8", 0.06)):
        chosen = pixels[[number_of[stem] for stem in parts[name]]]
        np.testing.assert_allclose(shares(chosen), shares(pixels), rtol=tolerance)


def test_many_images_are_ordered_in_parts(monkeypatch: pytest.MonkeyPatch) -> None:
    random = np.random.default_rng(0)
    occurs: NDArray[Any] = random.random((900, 5)) < np.array([1, 0.6, 0.3, 0.05, 0.01])
    pixels: Pixels = occurs * random.integers(1, 100, occurs.shape).astype(np.float64)
    whole = balanced_order(pixels, 900, seed=0)
    monkeypatch.setattr(fractions, "_TOGETHER", 100)
    order = balanced_order(pixels, 900, seed=0)
    assert sorted(order) == sorted(whole) == list(range(900))
    assert order == balanced_order(pixels, 900, seed=0) != balanced_order(pixels, 900, seed=1)
    for count in (180, 450):
        images: Pixels = occurs[order[:count]].sum(0) / occurs.sum(0)
        np.testing.assert_allclose(images, count / 900, atol=0.12)
        np.testing.assert_allclose(shares(pixels[order[:count]]), shares(pixels), atol=0.02)
    spared = balanced_order(pixels, 899, seed=0, spare=True)
    assert len(spared) == len(set(spared)) > 850
    assert (occurs[spared].sum(0) < occurs.sum(0)).all()
