from pathlib import Path

import pytest

from layout_trees import cityscapes, seen, stripes
from softiou.data import open_dataset, open_images, open_source
from softiou.data.layouts.cityscapes import CLASSES
from softiou.errors import DataError

# The evaluated rows of the published table of labels: name, id and train id.
PUBLISHED = """
road 7 0, sidewalk 8 1, building 11 2, wall 12 3, fence 13 4, pole 17 5, traffic light 19 6,
traffic sign 20 7, vegetation 21 8, terrain 22 9, sky 23 10, person 24 11, rider 25 12, car 26 13,
truck 27 14, bus 28 15, train 31 16, motorcycle 32 17, bicycle 33 18
"""
STEM = "aachen_000000_000019"


def test_classes_are_the_published_ones(tmp_path: Path) -> None:
    rows = [row.strip().rsplit(" ", 2) for row in PUBLISHED.split(",")]
    assert [(name, label) for name, (label, _) in CLASSES.items()] == [
        (r[0], int(r[1])) for r in rows
    ]
    assert [int(row[2]) for row in rows] == list(range(19))
    description = open_source(cityscapes(tmp_path)).description
    assert description.ignore_index == 255
    assert len(set(description.palette)) == 19
    colours = dict(zip(description.classes, description.palette, strict=True))
    assert colours["road"] == (128, 64, 128)
    assert colours["sidewalk"] == (244, 35, 232)
    assert colours["car"] == (0, 0, 142)
    assert colours["bicycle"] == (119, 11, 32)


def test_every_label_id_has_a_meaning(tmp_path: Path) -> None:
    source = cityscapes(tmp_path)
    labels = tmp_path / "gtFine" / "train" / "aachen" / f"{STEM}_gtFine_labelIds.png"
    stripes(labels, *range(34), 255)
    found = seen(open_dataset(source, "train")[0]["target"])
    # 0-6, 9-10, 14-16, 18, 29-30 and a licence plate are ignored.
    expected = [255, 0, 1, 255, 2, 3, 4, 255, 5, 255, *range(6, 16), 255, 16, 17, 18, 255]
    assert found == expected


def test_splits_stems_and_files(tmp_path: Path) -> None:
    source = cityscapes(tmp_path)
    train = open_dataset(source, "train")
    assert train.stems == (STEM, "bochum_000000_000313")
    assert train.folder == "train"
    assert train.files(0) == (
        tmp_path / "leftImg8bit" / "train" / "aachen" / f"{STEM}_leftImg8bit.png",
        tmp_path / "gtFine" / "train" / "aachen" / f"{STEM}_gtFine_labelIds.png",
    )
    assert train[0]["image"].shape == (3, 40, 48)
    assert open_source(source).splits() == ("train", "val")


def test_labels_of_test_are_not_public(tmp_path: Path) -> None:
    source = cityscapes(tmp_path)
    assert open_images(source, "test")[0].stems == ("berlin_000000_000019",)
    with pytest.raises(DataError, match=r"labels of the split test are not public.*on val"):
        open_dataset(source, "test")


def test_coarse_annotations_have_a_name_of_their_own(tmp_path: Path) -> None:
    source = cityscapes(tmp_path, annotation="gtCoarse")
    assert open_source(source).splits() == ("train", "val", "train_extra")
    extra = open_dataset(source, "train_extra")
    assert extra.stems == ("augsburg_000000_000000",)
    assert extra.files(0)[1].name == "augsburg_000000_000000_gtCoarse_labelIds.png"
    assert seen(extra[0]["target"]) == [255, 0, 13, 18]


def test_train_extra_has_no_fine_annotation(tmp_path: Path) -> None:
    cityscapes(tmp_path, annotation="gtCoarse")
    source = cityscapes(tmp_path)
    assert len(open_images(source, "train_extra")[0]) == 1
    with pytest.raises(DataError, match=r"has only coarse labels.*cityscapes-coarse:"):
        open_dataset(source, "train_extra")


def test_train_ids_are_read_where_there_are_no_label_ids(tmp_path: Path) -> None:
    source = cityscapes(tmp_path, kind="labelTrainIds")
    train = open_dataset(source, "train")
    assert train.files(0)[1].name == f"{STEM}_gtFine_labelTrainIds.png"
    assert seen(train[0]["target"]) == [255, 0, 13, 18]
    cityscapes(tmp_path)
    assert open_dataset(source, "train").files(0)[1].name == f"{STEM}_gtFine_labelIds.png"


def test_a_missing_annotation_is_named(tmp_path: Path) -> None:
    source = cityscapes(tmp_path)
    (tmp_path / "gtFine" / "train" / "aachen" / f"{STEM}_gtFine_labelIds.png").unlink()
    with pytest.raises(DataError, match=rf"gtFine/train: Images without a mask here: 1 \({STEM}\)"):
        open_dataset(source, "train")
