from pathlib import Path

import pytest

from layout_trees import deepglobe, lines, picture, seen, stripes
from softiou.data import open_dataset, open_images, open_source
from softiou.errors import DataError

# The table of the data set's own description.
PUBLISHED = {
    "urban land": (0, 255, 255),
    "agriculture land": (255, 255, 0),
    "rangeland": (255, 0, 255),
    "forest land": (0, 255, 0),
    "water": (0, 0, 255),
    "barren land": (255, 255, 255),
}
UNKNOWN = (0, 0, 0)


def test_colours_are_the_published_classes(tmp_path: Path) -> None:
    source = deepglobe(tmp_path)
    description = open_source(source).description
    assert dict(zip(description.classes, description.palette, strict=True)) == PUBLISHED
    stripes(tmp_path / "train" / "1194_mask.png", UNKNOWN, *PUBLISHED.values())
    target = open_dataset(source, "val")[0]["target"]
    assert seen(target) == [255, 0, 1, 2, 3, 4, 5]


def test_channels_are_cut_at_128(tmp_path: Path) -> None:
    source = deepglobe(tmp_path)
    stripes(tmp_path / "train" / "1194_mask.png", (127, 128, 255), (0, 0, 200), (3, 127, 1))
    target = open_dataset(source, "val")[0]["target"]
    assert seen(target) == [0, 4, 255]


def test_a_colour_of_no_class_is_refused(tmp_path: Path) -> None:
    source = deepglobe(tmp_path)
    stripes(tmp_path / "train" / "1194_mask.png", (255, 0, 0))
    with pytest.raises(DataError, match=r"1194_mask.png: .* found \(255, 0, 0\)"):
        open_dataset(source, "val")[0]


def test_the_first_fifth_by_file_name_is_val(tmp_path: Path) -> None:
    """1194_sat.jpg comes before 119_sat.jpg, and 100694 first, as in the authors' code."""
    source = deepglobe(tmp_path)
    assert open_dataset(source, "val").stems == ("1194",)
    assert open_dataset(source, "train").stems == ("119", "2334", "266", "694", "855")
    for number in range(100000, 100797):
        (tmp_path / "train" / f"{number}_sat.jpg").touch()
    images = open_source(source)
    assert len(images.images("val")) == 160
    assert len(images.images("train")) == 643
    assert len(images.images("all")) == 803


def test_lists_divide_all_images(tmp_path: Path) -> None:
    source = deepglobe(tmp_path)
    for split, stems in (("train", ("1194", "119")), ("val", ("266",)), ("test", ("694",))):
        lines(tmp_path / "splits" / f"{split}.txt", *stems)
    assert open_source(source).splits() == ("train", "val", "test")
    for split, stems in (("train", ("119", "1194")), ("val", ("266",)), ("test", ("694",))):
        assert open_dataset(source, split).stems == stems
    lines(tmp_path / "splits" / "half.txt", "1194")
    assert set(open_source(source).images_without_masks("half", evaluated=["val"])) == {"train/119"}


def test_only_train_has_public_masks(tmp_path: Path) -> None:
    source = deepglobe(tmp_path)
    picture(tmp_path / "test" / "2000_sat.jpg")
    assert open_images(source, "valid")[0].stems == ("1000",)
    assert open_images(source, "test")[0].stems == ("2000",)
    for split in ("valid", "test"):
        with pytest.raises(DataError, match=f"The masks of {split}/ are not public"):
            open_dataset(source, split)
    assert open_source(source).splits() == ("train", "val")
