import re
import shutil
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.typing import ArrayLike
from PIL import Image
from torch.utils.data import DataLoader

from softiou.checking import check_dataset
from softiou.data import (
    DataProblemsError,
    DatasetDescription,
    FolderDataset,
    available_splits,
    collate,
    open_dataset,
    read_image,
    truth,
    verify_readable,
)
from softiou.errors import DataError

Make = Callable[..., Path]

RATERS = {
    "train/masks_1": {"a": [[0, 1, 255, 255]]},
    "train/masks_2": {"a": [[1, 1, 0, 255]]},
    "train/masks_10": {"a": [[255, 0, 0, 255]]},
}


def mask_path(root: Path, stem: str = "a") -> Path:
    return root / "train" / "masks" / f"{stem}.png"


def image_path(root: Path, stem: str = "a") -> Path:
    return root / "train" / "images" / f"{stem}.png"


def write_mask(root: Path, values: ArrayLike, dtype: type = np.uint8) -> None:
    Image.fromarray(np.asarray(values, dtype=dtype)).save(mask_path(root))


def target_of(root: Path) -> list[list[int]]:
    target = FolderDataset(root, "train")[0]["target"]
    assert target.dtype == torch.int64
    return target.tolist()


# Samples


def test_reads_image_and_mask(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {"b": [[1, 0, 255]], "a": [[0, 0, 0]]}})
    dataset = FolderDataset(root, "train")
    assert dataset.stems == ("a", "b")
    assert len(dataset) == 2
    assert (dataset.labels, dataset.annotators) == ("hard", 1)
    sample = dataset[1]
    assert sample["stem"] == "b"
    assert sample["image"].dtype == torch.uint8
    assert sample["image"].tolist() == [[[100, 100, 100]]] * 3
    assert sample["target"].tolist() == [[1, 0, 255]]
    assert dataset.files(1) == (image_path(root, "b"), mask_path(root, "b"))


def test_iterating_over_a_data_set_ends(make_dataset: Make) -> None:
    assert [sample["stem"] for sample in FolderDataset(make_dataset(), "train")] == ["a"]


def test_one_annotator_as_soft_is_one_hot(make_dataset: Make) -> None:
    dataset = FolderDataset(make_dataset(), "train", labels="soft")
    target = dataset[0]["target"]
    assert dataset.labels == "soft"
    assert target.dtype == torch.float32
    assert target.tolist() == [[[1, 0], [0, 255]], [[0, 1], [1, 255]]]


def test_several_annotators_are_votes(make_dataset: Make) -> None:
    dataset = FolderDataset(make_dataset(RATERS), "train")
    assert (dataset.labels, dataset.annotators) == ("votes", 3)
    masks = dataset[0]["target"]
    assert masks.tolist() == [[[0, 1, 255, 255]], [[1, 1, 0, 255]], [[255, 0, 0, 255]]]
    soft = FolderDataset(make_dataset(RATERS), "train", labels="soft")[0]["target"]
    assert torch.equal(truth(masks, dataset.description), soft)


def test_shares_of_the_votes(make_dataset: Make) -> None:
    dataset = FolderDataset(make_dataset(RATERS), "train", labels="soft")
    expected = torch.tensor([[[0.5, 1 / 3, 1, 255]], [[0.5, 2 / 3, 0, 255]]])
    torch.testing.assert_close(dataset[0]["target"], expected)


def test_majority_of_annotators_with_ties_to_the_lowest_class(make_dataset: Make) -> None:
    dataset = FolderDataset(make_dataset(RATERS), "train", labels="hard")
    assert dataset.labels == "hard"
    assert dataset[0]["target"].dtype == torch.int64
    assert dataset[0]["target"].tolist() == [[0, 1, 0, 255]]


def test_masks_are_numbered_not_sorted_as_text(make_dataset: Make) -> None:
    files = FolderDataset(make_dataset(RATERS), "train").files(0)
    assert [path.parent.name for path in files] == ["images", "masks_1", "masks_2", "masks_10"]


# Modes of images


def save_image(path: Path, values: ArrayLike, mode: str) -> Path:
    dtype = {"I;16": np.uint16, "1": np.bool_}.get(mode, np.uint8)
    Image.fromarray(np.asarray(values, dtype=dtype)).save(path)
    with Image.open(path) as image:
        assert image.mode == mode
    return path


def test_grey_becomes_three_channels(tmp_path: Path) -> None:
    path = save_image(tmp_path / "a.png", [[0, 200]], "L")
    assert read_image(path).tolist() == [[[0, 200]]] * 3


@pytest.mark.parametrize("suffix", ["png", "tif"])
def test_16_bit_is_scaled(tmp_path: Path, suffix: str) -> None:
    path = save_image(tmp_path / f"a.{suffix}", [[0, 257 * 9, 65535, 128, 129]], "I;16")
    assert read_image(path).tolist() == [[[0, 9, 255, 0, 1]]] * 3


def test_transparency_is_dropped(tmp_path: Path) -> None:
    path = save_image(tmp_path / "a.png", [[[1, 2, 3, 0], [4, 5, 6, 255]]], "RGBA")
    assert read_image(path).tolist() == [[[1, 4]], [[2, 5]], [[3, 6]]]


def test_palette_with_transparency_is_read_in_colour(tmp_path: Path) -> None:
    image = Image.fromarray(np.array([[0, 1]], dtype=np.uint8))
    image.putpalette([10, 20, 30, 40, 50, 60])
    image.save(tmp_path / "a.png", transparency=b"\x00\xff")
    assert read_image(tmp_path / "a.png").tolist() == [[[10, 40]], [[20, 50]], [[30, 60]]]


def test_one_bit_is_black_and_white(tmp_path: Path) -> None:
    path = save_image(tmp_path / "a.png", [[False, True]], "1")
    assert read_image(path).tolist() == [[[0, 255]]] * 3


def test_exif_orientation_is_applied(tmp_path: Path) -> None:
    image = Image.fromarray(np.zeros((4, 6, 3), dtype=np.uint8))
    exif = image.getexif()
    exif[0x0112] = 6  # turn by 90 degrees
    image.save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (3, 6, 4)


@pytest.mark.parametrize(
    ("values", "found"),
    [
        (np.array([[0.5]], dtype=np.float32), "floating-point values"),
        (np.array([[70000]], dtype=np.int32), r"32-bit values 70000\.\.70000"),
    ],
)
def test_unusual_values_are_refused(tmp_path: Path, values: np.ndarray, found: str) -> None:
    Image.fromarray(values).save(tmp_path / "a.tiff")
    with pytest.raises(DataError, match=rf"a\.tiff: Expected an image of 8 or 16 .* {found}"):
        read_image(tmp_path / "a.tiff")


@pytest.mark.parametrize("suffix", ["jpg", "JPEG", "webp", "TIF", "tiff"])
def test_image_formats(make_dataset: Make, suffix: str) -> None:
    root = make_dataset()
    with Image.open(image_path(root)) as image:
        image.save(image_path(root).with_suffix(f".{suffix}"))
    image_path(root).unlink()
    assert FolderDataset(root, "train")[0]["image"].sub(100.0).abs().max() <= 1


# Modes of masks


def test_palette_mask_holds_indices(make_dataset: Make) -> None:
    root = make_dataset()
    mask = Image.fromarray(np.array([[1, 0], [0, 1]], dtype=np.uint8))
    mask.putpalette([0, 0, 0, 128, 0, 0])
    mask.save(mask_path(root))
    assert target_of(root) == [[1, 0], [0, 1]]


def test_one_bit_mask(make_dataset: Make) -> None:
    root = make_dataset()
    write_mask(root, [[True, False], [False, True]], np.bool_)
    assert target_of(root) == [[1, 0], [0, 1]]


def test_16_bit_mask(make_dataset: Make) -> None:
    root = make_dataset(classes=[f"c{i}" for i in range(300)], ignore_index=65535)
    write_mask(root, [[299, 0], [65535, 255]], np.uint16)
    assert target_of(root) == [[299, 0], [65535, 255]]


def test_rgb_mask_through_the_palette(make_dataset: Make) -> None:
    red, blue, border = (255, 0, 0), (0, 0, 255), (224, 224, 192)
    root = make_dataset(palette=[red, blue], ignore_colour=border)
    write_mask(root, [[blue, red], [border, red]])
    assert target_of(root) == [[1, 0], [255, 0]]
    assert FolderDataset(root, "train").description.palette == (red, blue)


def test_label_map_takes_indices_names_and_the_ignored(make_dataset: Make) -> None:
    root = make_dataset(label_map={7: 0, 11: "road", 0: 255, 1: 255})
    write_mask(root, [[7, 11], [0, 1]])
    assert target_of(root) == [[0, 1], [255, 255]]


def test_numbers_of_instances_are_those_of_their_classes(make_dataset: Make) -> None:
    # As in Cityscapes: 26 cars, 7 road; a number below 1000 is a class itself.
    about = {"label_map": {7: 0, 26: "road", 23: 255}, "instances": 1000}
    root = make_dataset({"train/masks": {"a": np.zeros((2, 3), np.uint8)}}, **about)
    numbers = np.array([[7, 26_000, 26_001], [26, 23, 7_012]], np.uint16)
    Image.fromarray(numbers).save(root / "train/masks/a.png")
    target = FolderDataset(root, "train")[0]["target"]
    assert target.tolist() == [[0, 1, 1], [1, 255, 0]]
    Image.fromarray(numbers + 2_000).save(root / "train/masks/a.png")
    assert_value_error(root, r"28000")


def test_label_map_turns_a_0_255_mask_into_classes(make_dataset: Make) -> None:
    root = make_dataset(label_map={255: 1})
    write_mask(root, [[0, 255], [255, 0]])
    assert target_of(root) == [[0, 1], [1, 0]]


# Values that are no class


def assert_value_error(root: Path, match: str) -> None:
    with pytest.raises(DataError, match=match):
        FolderDataset(root, "train")[0]


def test_unknown_value_is_named_with_file_and_way_out(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {"a": [[0, 9, 8]]}})
    assert_value_error(
        root,
        rf"{re.escape(str(mask_path(root)))}: Expected values 0\.\.1 or 255 \(ignored\), but found "
        r"8, 9\. Add the missing names to `classes`, or .* 8: 255 to ignore it",
    )


def test_0_255_mask(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {"a": [[0, 255]]}}, ignore_index=254)
    assert_value_error(root, r"found 255\. This is a 0/255 mask: divide .* `label_map: {255: 1}`")


def test_numbers_from_one(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {"a": [[1, 2, 255]]}})
    assert_value_error(root, r"found 2\. The values seem to start at 1 instead of 0: subtract 1")


def test_zero_for_unlabelled(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {"a": [[0, 1, 2]]}})
    assert_value_error(root, r"0 means unlabelled; then write `label_map: {0: 255, 1: 0, \.\.\., 2")


def test_anti_aliased_mask(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {"a": [list(range(0, 256, 5))]}})
    assert_value_error(root, r"found 5, 10, 15, 20, 25 and 45 more\. So many values indicate an")


def test_raw_value_that_the_label_map_makes_ambiguous(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {"a": [[0, 7]]}}, label_map={7: 0})
    assert_value_error(root, r"maps \[7\] to class 0 but has no entry for the raw value 0 itself")


def test_rgb_mask_without_palette(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {"a": [[[255, 0, 0], [0, 0, 0]]]}})
    assert_value_error(root, r"one channel of class indices, but found mode RGB\. .* as `palette`")


def test_grey_mask_saved_as_rgb(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {"a": [[[1, 1, 1], [0, 0, 0]]]}})
    assert_value_error(root, r"mode RGB\. Its channels are equal: keep one with .*convert\('L'\)")


def test_colour_outside_the_palette(make_dataset: Make) -> None:
    root = make_dataset(
        {"train/masks": {"a": [[[255, 0, 0], [9, 8, 7]]]}}, palette=[(255, 0, 0), (0, 0, 255)]
    )
    assert_value_error(root, r"only colours of `palette`, but found \(9, 8, 7\)\. .*ignore_colour")


# Files that do not fit


def test_sizes_differ(make_dataset: Make) -> None:
    root = make_dataset()
    write_mask(root, [[0, 1, 1]])
    assert_value_error(root, r"Expected the size of a\.png, 2x2 .*, but found 3x1\. Resize")


def test_sizes_are_exchanged(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {"a": [[0, 1, 1]]}})
    write_mask(root, [[0], [1], [1]])
    assert_value_error(root, r"3x1 .*, but found 1x3\. The image may have an EXIF rotation")


@pytest.mark.parametrize("folder", ["images", "masks"])
def test_truncated_file(make_dataset: Make, folder: str) -> None:
    root = make_dataset()
    path = root / "train" / folder / "a.png"
    path.write_bytes(path.read_bytes()[:45])
    assert_value_error(root, rf"{folder}/a\.png: Cannot decode the image: .*skip_corrupt")


def test_workers_pass_the_error_on(make_dataset: Make) -> None:
    root = make_dataset()
    image_path(root).write_bytes(b"")
    with pytest.raises(DataError, match=r"images/a\.png: Cannot decode the image"):
        next(iter(DataLoader(FolderDataset(root, "train"), num_workers=1, collate_fn=collate)))


def test_image_without_mask_and_mask_without_image(make_dataset: Make) -> None:
    stems = [f"s{i}" for i in range(8)]
    root = make_dataset({"train/masks": {stem: [[0]] for stem in stems}})
    for stem in stems[:7]:
        mask_path(root, stem).unlink()
    image_path(root, "s7").unlink()
    with pytest.raises(DataProblemsError) as caught:
        FolderDataset(root, "train")
    without_mask, without_image = caught.value.problems
    assert without_mask.message == "Images without a mask here: 7 (s0, s1, s2, s3, s4 and 2 more)."
    assert without_image.message == "Masks without an image: 1 (s7)."
    assert str(without_mask) in str(caught.value)


def test_annotators_with_different_stems(make_dataset: Make) -> None:
    root = make_dataset({f"train/masks_{r}": {"a": [[0]], "b": [[0]]} for r in (1, 2)})
    (root / "train/masks_2/b.png").unlink()
    votes = FolderDataset(root, "train")[1]["target"]
    assert votes.tolist() == [[[0]], [[255]]]  # who has not seen it ignores it


def test_two_images_of_one_stem(make_dataset: Make) -> None:
    root = make_dataset()
    shutil.copy(image_path(root), image_path(root).with_suffix(".jpg"))
    with pytest.raises(
        DataError, match=r"images: .* one file per stem, but several files share a stem: 1 \(a\)"
    ):
        FolderDataset(root, "train")


def test_no_masks_folder(make_dataset: Make) -> None:
    root = make_dataset()
    shutil.rmtree(root / "train/masks")
    with pytest.raises(DataError, match=r"train: Expected masks/ or masks_1/ .* found neither"):
        FolderDataset(root, "train")


def test_one_annotator_and_several(make_dataset: Make) -> None:
    root = make_dataset({f"train/{name}": {"a": [[0]]} for name in ("masks", "masks_1")})
    with pytest.raises(DataError, match=r"Found both masks/ and masks_1/"):
        FolderDataset(root, "train")


def test_no_images(make_dataset: Make) -> None:
    root = make_dataset()
    image_path(root).unlink()
    (root / "train/images/aachen").mkdir()
    with pytest.raises(DataError, match=r"found only the folders aachen\. Put the image files"):
        FolderDataset(root, "train")


def test_hidden_files_do_not_count(make_dataset: Make) -> None:
    root = make_dataset()
    (root / "train/images/._a.jpg").write_bytes(b"")
    assert FolderDataset(root, "train").stems == ("a",)


# Splits


def test_split_by_list(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {stem: [[0]] for stem in "abc"}})
    (root / "splits").mkdir()
    (root / "splits/half.txt").write_text("c\n\n a \n", encoding="utf-8")
    (root / "splits/train.txt").write_text("b\n", encoding="utf-8")
    assert FolderDataset(root, "half").stems == ("a", "c")
    assert FolderDataset(root, "train").stems == ("b",)
    assert available_splits(root) == ("train", "half")


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("a.png\n", r"half\.txt: Listed stems that are not in train/images/: 1 \(a\.png\)"),
        ("", "is empty"),
    ],
)
def test_useless_lists(make_dataset: Make, text: str, message: str) -> None:
    root = make_dataset()
    (root / "splits").mkdir()
    (root / "splits/half.txt").write_text(text, encoding="utf-8")
    with pytest.raises(DataError, match=message):
        FolderDataset(root, "half")


def test_list_in_another_encoding(make_dataset: Make) -> None:
    root = make_dataset()
    (root / "splits").mkdir()
    path = root / "splits/1_8.txt"
    path.write_text("a\n", encoding="utf-16")  # as Windows PowerShell does
    with pytest.raises(DataError, match=r"1_8\.txt: Expected a list in UTF-8, .* Save it as UTF-8"):
        FolderDataset(root, "1_8")
    (problem,) = check_dataset(root).errors
    assert (problem.kind, problem.file) == ("list", str(path))


def test_missing_split_lists_those_that_exist(make_dataset: Make) -> None:
    root = make_dataset({f"{split}/masks": {"a": [[0]]} for split in ("b", "test", "train")})
    (root / "unlabeled/images").mkdir(parents=True)
    assert available_splits(root) == ("train", "test", "b")
    message = r"'val' as val/images/ .* found only train, test, b, unlabeled\."
    with pytest.raises(DataError, match=message):
        FolderDataset(root, "val")


# Unreadable files


@pytest.fixture
def half_corrupt(make_dataset: Make) -> Path:
    root = make_dataset({"train/masks": {stem: [[0, 1]] for stem in "abcd"}})
    image_path(root, "b").write_bytes(b"no image")
    mask_path(root, "d").write_bytes(mask_path(root, "d").read_bytes()[:-20])
    return root


def test_verify_readable_names_the_files(half_corrupt: Path) -> None:
    problems = verify_readable(FolderDataset(half_corrupt, "train"))
    expected = [image_path(half_corrupt, "b"), mask_path(half_corrupt, "d")]
    assert [problem.file for problem in problems] == [str(path) for path in expected]
    assert problems[0].message.startswith("Cannot decode the image: UnidentifiedImageError")


def test_verify_readable_finds_truncated_jpeg(make_dataset: Make) -> None:
    root = make_dataset({"train/masks": {"a": np.zeros((64, 64))}})
    path = image_path(root).with_suffix(".jpg")
    with Image.open(image_path(root)) as image:
        image.save(path)
    image_path(root).unlink()
    assert verify_readable(FolderDataset(root, "train")) == []
    path.write_bytes(path.read_bytes()[:-100])
    assert [p.file for p in verify_readable(FolderDataset(root, "train"))] == [str(path)]


def test_skip_corrupt_leaves_samples_out(half_corrupt: Path) -> None:
    dataset = FolderDataset(half_corrupt, "train", skip_corrupt=True)
    assert dataset.stems == ("a", "c")
    assert dataset.skipped == ("b", "d")
    assert [dataset[i]["stem"] for i in range(2)] == ["a", "c"]
    assert FolderDataset(half_corrupt, "train").skipped == ()


def test_skipping_everything_is_an_error(make_dataset: Make) -> None:
    root = make_dataset()
    image_path(root).write_bytes(b"")
    with pytest.raises(DataError, match=r"a\.png: Cannot decode"):
        FolderDataset(root, "train", skip_corrupt=True)


# The door


def test_open_dataset_takes_a_folder(make_dataset: Make) -> None:
    dataset = open_dataset(str(make_dataset()), "train", labels="soft")
    assert isinstance(dataset, FolderDataset)
    assert dataset.labels == "soft"


@pytest.mark.parametrize("opener", [lambda p: open_dataset(p, "train"), available_splits])
def test_nonexisting_folder(tmp_path: Path, opener: Callable[[Path], object]) -> None:
    with pytest.raises(DataError, match=r"nowhere: Expected a folder with .* or the name 'digits'"):
        opener(tmp_path / "nowhere")


def test_unknown_labels(make_dataset: Make) -> None:
    with pytest.raises(ValueError, match=r"`labels` to be one of 'auto', .* but got 'bo"):
        FolderDataset(make_dataset(), "train", labels="boundary")  # type: ignore[arg-type]


# The description


def test_default_colours_are_distinct() -> None:
    palette = DatasetDescription(tuple(f"c{i}" for i in range(150))).palette
    assert len(set(palette)) == 150
    assert all(0 <= channel <= 255 for colour in palette for channel in colour)


def test_palette_of_another_length_is_refused() -> None:
    with pytest.raises(ValueError, match=r"one colour for each of the 2 classes, but got 1\."):
        DatasetDescription(("a", "b"), palette=((0, 0, 0),))


def test_description_needs_classes() -> None:
    with pytest.raises(ValueError, match="at least one class"):
        DatasetDescription(())


# Real data


def test_camvid(shared_data: Path) -> None:
    dataset = open_dataset(shared_data / "camvid", "train")
    sample = dataset[0]
    assert available_splits(shared_data / "camvid") == ("train", "val", "test")
    assert (len(dataset), dataset.description.num_classes, dataset.labels) == (367, 11, "hard")
    assert sample["image"].shape == (3, 360, 480)
    assert set(sample["target"].flatten().tolist()) <= {*range(11), 255}


def test_lidc(shared_data: Path) -> None:
    dataset = open_dataset(shared_data / "lidc", "val")
    assert (len(dataset), dataset.labels, dataset.annotators) == (300, "votes", 4)
    assert dataset[0]["target"].shape == (4, 128, 128)
    target = truth(dataset[0]["target"], dataset.description)
    assert target.shape == (2, 128, 128)
    assert set(target.flatten().tolist()) <= {0, 0.25, 0.5, 0.75, 1}
    torch.testing.assert_close(target.sum(dim=0), torch.ones(128, 128))


@pytest.mark.parametrize("split", ["1_9", "1/9"])
def test_fraction_that_is_not_written_yet(make_dataset: Make, split: str) -> None:
    with pytest.raises(DataError, match=r"--fractions 1/9` writes it as 1_9\."):
        FolderDataset(make_dataset(), split)
