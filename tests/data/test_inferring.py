"""A folder of images and masks without dataset.yaml: the masks tell the classes."""

from pathlib import Path

import numpy as np
import pytest
import yaml
from PIL import Image

from softiou.checking import check_dataset
from softiou.data import open_dataset, open_source
from softiou.data.inferring import UNKNOWN, inferred
from softiou.data.layouts import FolderLayout
from softiou.errors import DataError


def write(root: Path, *masks: list[object], mode: str = "L", dtype: type = np.uint8) -> Path:
    """Write an image and a mask of one row for each list of values."""
    for folder in ("images", "masks"):
        (root / folder).mkdir(parents=True, exist_ok=True)
    for number, values in enumerate(masks):
        mask = Image.fromarray(np.array([values], dtype=dtype))
        if mode == "P":
            mask.putpalette([n for value in range(256) for n in (value, 255 - value, 7)])
        mask.convert(mode).save(root / "masks" / f"{number}_mask.png")
        Image.new("RGB", (len(values), 1), (number, 9, 9)).save(root / "images" / f"{number}.png")
    return root


@pytest.mark.parametrize("mode", ["L", "P"])
@pytest.mark.parametrize(
    ("values", "classes", "ignored", "target"),
    [
        ([0, 1, 2], ("class_0", "class_1", "class_2"), 255, [0, 1, 2]),
        ([0, 255], ("class_0", "class_255"), 254, [0, 1]),
        ([1, 2, 255], ("class_1", "class_2"), 255, [0, 1, 255]),
        ([0, 128, 200], ("class_0", "class_128", "class_200"), 255, [0, 1, 2]),
    ],
)
def test_each_number_is_a_class(
    tmp_path: Path,
    mode: str,
    values: list[object],
    classes: tuple[str],
    ignored: int,
    target: list[int],
) -> None:
    root = write(tmp_path, values, values[:1] * len(values), mode=mode)
    dataset = open_dataset(root, "train")
    assert dataset.description.classes == classes
    assert dataset.description.ignore_index == ignored
    assert dataset[0]["target"].tolist() == [target]
    assert dataset[1]["target"].tolist() == [target[:1] * len(values)]


def test_colours_are_classes(tmp_path: Path) -> None:
    root = write(tmp_path, [(0, 0, 0), (128, 0, 0), (0, 64, 9)], mode="RGB")
    dataset = open_dataset(root, "train")
    assert dataset.description.classes == ("class_0_0_0", "class_0_64_9", "class_128_0_0")
    assert dataset[0]["target"].tolist() == [[0, 2, 1]]
    assert dataset.description.palette[2] == (128, 0, 0)


def test_sixteen_bits_and_one(tmp_path: Path) -> None:
    root = write(tmp_path / "16", [0, 1000], mode="I;16", dtype=np.uint16)
    assert open_source(root).description.classes == ("class_0", "class_1000")
    root = write(tmp_path / "1", [0, 255], mode="1")
    assert open_source(root).description.classes == ("class_0", "class_1")


def test_what_is_said_names_the_classes_when_it_is_written(tmp_path: Path) -> None:
    root = write(tmp_path, [1, 7])
    note = open_source(root).note
    assert note == (
        "there is no dataset.yaml, so masks define the classes: class_1, class_7, 255 ignored; "
        "to name them, write into this file `classes: [class_1, class_7]` and "
        "`label_map: {1: 0, 7: 1}`"
    )
    (problem,) = (found for found in check_dataset(root).problems if found.kind == "dataset_file")
    assert (problem.severity, problem.message) == ("note", f"T{note[1:]}.")
    before = open_dataset(root, "train")[0]["target"]
    lines = note.split("`")[1::2]
    (root / "dataset.yaml").write_text("\n".join(lines).replace("class_7", "car"))
    assert yaml.safe_load((root / "dataset.yaml").read_text())["label_map"] == {1: 0, 7: 1}
    opened = open_source(root)
    assert (opened.note, opened.description.classes) == ("", ("class_1", "car"))
    assert open_dataset(root, "train")[0]["target"].equal(before)


def test_a_mask_that_changes_is_read_again(tmp_path: Path) -> None:
    root = write(tmp_path, [0, 1])
    assert open_source(root).description.num_classes == 2
    write(tmp_path, [0, 1], [0, 2])
    assert open_source(root).description.num_classes == 3


def test_an_unreadable_mask_is_left_to_the_check(tmp_path: Path) -> None:
    root = write(tmp_path, [0, 1], [0, 1])
    (root / "masks" / "1_mask.png").write_bytes(b"none")
    assert open_source(root).description.num_classes == 2
    assert [problem.kind for problem in check_dataset(root).errors] == ["unreadable"]


@pytest.mark.parametrize(
    ("masks", "mode", "found"),
    [
        ([[3, 3]], "L", "found 1"),
        ([list(range(120))], "L", "found 120"),
        ([[(n, n, 0) for n in range(120)]], "RGB", "found 101"),
    ],
)
def test_masks_that_tell_no_classes(
    tmp_path: Path, masks: list[list[object]], mode: str, found: str
) -> None:
    root = write(tmp_path, *masks, mode=mode)
    with pytest.raises(DataError, match=rf"dataset.yaml, or masks of 2 to 100 values, but {found}"):
        open_source(root)
    (problem,) = check_dataset(root).errors
    assert problem.remedy == "Write the classes into the file: `classes: [background, road]`."


def test_numbers_and_colours_do_not_mix(tmp_path: Path) -> None:
    write(tmp_path, [(0, 0, 0), (9, 0, 0)], mode="RGB")
    write(tmp_path / "more", [0, 1, 2])
    (tmp_path / "more" / "masks" / "0_mask.png").rename(tmp_path / "masks" / "1_mask.png")
    (tmp_path / "more" / "images" / "0.png").rename(tmp_path / "images" / "1.png")
    with pytest.raises(DataError, match="but found numbers and colours"):
        open_source(tmp_path)


def test_no_masks_no_classes(tmp_path: Path) -> None:
    (tmp_path / "images").mkdir()
    assert inferred(FolderLayout(tmp_path, UNKNOWN)) is None
    with pytest.raises(DataError, match=r"found no dataset\.yaml"):
        open_source(tmp_path)
