import csv
from pathlib import Path

import pytest

from layout_trees import ade20k, seen, stripes
from softiou.data import open_dataset, open_source
from softiou.data.layouts.ade20k import CLASSES as COLOURS
from softiou.errors import DataError

CLASSES, PALETTE = tuple(COLOURS), tuple(COLOURS.values())


def test_there_are_150_classes() -> None:
    assert len(CLASSES) == len(set(CLASSES)) == len(PALETTE) == 150
    chosen = {0: "wall", 2: "sky", 12: "person", 44: "chest of drawers", 89: "television"}
    chosen |= {136: "traffic light", 149: "flag"}
    assert {index: CLASSES[index] for index in chosen} == chosen
    assert (PALETTE[0], PALETTE[2], PALETTE[12]) == ((120,) * 3, (6, 230, 230), (150, 5, 61))
    assert PALETTE[149] == (92, 0, 255)


def test_zero_is_ignored_and_the_others_shift_by_one(tmp_path: Path) -> None:
    source = ade20k(tmp_path)
    mask = tmp_path / "annotations" / "validation" / "ADE_val_00000001.png"
    stripes(mask, 0, *range(1, 40))
    target = open_dataset(source, "val")[0]["target"]
    assert seen(target) == [255, *range(39)]
    assert seen(open_dataset(source, "train")[0]["target"]) == [255, 0, 3, 149]


def test_every_number_of_a_mask_has_its_class(tmp_path: Path) -> None:
    reader = open_source(ade20k(tmp_path)).mask_reader()
    assert [reader.class_of(value) for value in range(151)] == [255, *range(150)]


def test_numbers_beyond_the_last_class_are_refused(tmp_path: Path) -> None:
    source = ade20k(tmp_path)
    stripes(tmp_path / "annotations" / "training" / "ADE_train_00000001.png", 1, 151)
    with pytest.raises(DataError, match=r"ADE_train_00000001\.png: .* found 151"):
        open_dataset(source, "train")[0]


def test_folders_are_the_splits(tmp_path: Path) -> None:
    source = ade20k(tmp_path / "ADEChallengeData2016")
    train = open_dataset(source, "train")
    assert train.stems == ("ADE_train_00000001", "ADE_train_00000002")
    assert train.folder == "train"
    assert train.files(0)[1].parent.name == "training"
    assert open_source(f"ade20k:{tmp_path}").root.name == "ADEChallengeData2016"


def test_classes_are_the_first_names_of_the_published_table(shared_data: Path) -> None:
    table = shared_data / "layouts" / "ADEChallengeData2016" / "objectInfo150.csv"
    with table.open(encoding="utf-8") as file:
        names = [row["Name"] for row in csv.DictReader(file)]
    # This copy of it writes spaces as semicolons, too.
    assert len(names) == 150
    for name, row in zip(CLASSES, names, strict=True):
        assert f"{row};".startswith(f"{name.replace(' ', ';')};"), (name, row)
