from pathlib import Path

import pytest
from PIL import Image

from layout_trees import lines, picture, seen, stripes, voc
from softiou.checking import check_dataset
from softiou.data import open_dataset, open_images, open_source, open_unlabeled
from softiou.data.layouts.voc import CLASSES, voc_colour
from softiou.errors import DataError

TRAIN, VAL = ("2007_000032", "2007_000039"), ("2007_000033",)
LISTS = Path("VOCdevkit/VOC2012/ImageSets/Segmentation")

# The development kit's table: the colour of each class.
PUBLISHED = """
background 0 0 0, aeroplane 128 0 0, bicycle 0 128 0, bird 128 128 0, boat 0 0 128,
bottle 128 0 128, bus 0 128 128, car 128 128 128, cat 64 0 0, chair 192 0 0, cow 64 128 0,
diningtable 192 128 0, dog 64 0 128, horse 192 0 128, motorbike 64 128 128, person 192 128 128,
pottedplant 0 64 0, sheep 128 64 0, sofa 0 192 0, train 128 192 0, tvmonitor 0 64 128
"""


def test_classes_and_colours_are_the_published_ones(tmp_path: Path) -> None:
    description = open_source(voc(tmp_path)).description
    rows = [row.split() for row in PUBLISHED.split(",")]
    assert description.classes == CLASSES == tuple(row[0] for row in rows)
    assert description.palette == tuple((int(r), int(g), int(b)) for _, r, g, b in rows)
    assert len(CLASSES) == 21
    assert description.ignore_index == 255
    assert len({voc_colour(index) for index in range(256)}) == 256


def test_both_folders_are_the_root(tmp_path: Path) -> None:
    voc(tmp_path)
    for folder in (tmp_path, tmp_path / "VOCdevkit", tmp_path / "VOCdevkit" / "VOC2012"):
        assert open_source(f"voc:{folder}").root == tmp_path / "VOCdevkit" / "VOC2012"


def test_lists_make_the_splits(tmp_path: Path) -> None:
    source = voc(tmp_path)
    picture(tmp_path / "VOCdevkit" / "VOC2012" / "JPEGImages" / "2009_000001.jpg")  # of no list
    assert open_source(source).splits() == ("train", "val")
    train = open_dataset(source, "train")
    assert (train.stems, train.folder) == (TRAIN, "JPEGImages")
    assert seen(train[0]["target"]) == [0, 1, 15, 255]
    assert open_dataset(source, "val").stems == VAL
    assert open_dataset(source, "trainval").stems == tuple(sorted(TRAIN + VAL))


def test_trainaug_is_what_val_leaves_of_the_augmented_masks(tmp_path: Path) -> None:
    source = voc(tmp_path, augmented=True)
    augmented = open_dataset(source, "trainaug")
    assert augmented.stems == (*TRAIN, "2008_000002")
    assert augmented.files(0)[1].parent.name == "SegmentationClassAug"
    assert seen(augmented[0]["target"]) == [0, 15, 20]
    assert open_dataset(source, "train").files(0)[1].parent.name == "SegmentationClass"


def test_without_val_nothing_says_what_trainaug_is(tmp_path: Path) -> None:
    source = voc(tmp_path, augmented=True)
    (tmp_path / LISTS / "val.txt").unlink()
    assert open_source(source).splits() == ("train",)


@pytest.mark.parametrize("line", ["{0}", "/JPEGImages/{0}.jpg /SegmentationClassAug/{0}.png"])
@pytest.mark.parametrize("name", ["trainaug", "train_aug"])
def test_a_list_of_trainaug_goes_first(name: str, line: str, tmp_path: Path) -> None:
    source = voc(tmp_path, augmented=True)
    lines(tmp_path / LISTS / f"{name}.txt", line.format("2008_000002"), "")
    assert open_dataset(source, "trainaug").stems == ("2008_000002",)


def test_a_list_alone_reads_the_usual_masks(tmp_path: Path) -> None:
    source = voc(tmp_path)
    lines(tmp_path / LISTS / "trainaug.txt", *TRAIN)
    assert open_dataset(source, "trainaug").files(0)[1].parent.name == "SegmentationClass"
    lines(tmp_path / LISTS / "trainaug.txt", *TRAIN, "2008_000002")
    match = (
        r"Images without a mask here: 1 \(2008_000002\)\. .* for trainaug SegmentationClassAug/X"
    )
    picture(tmp_path / "VOCdevkit" / "VOC2012" / "JPEGImages" / "2008_000002.jpg")
    with pytest.raises(DataError, match=match):
        open_dataset(source, "trainaug")


def test_without_masks_of_the_sbd_trainaug_says_where_to_get_them(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match=r"found only train, val, trainval.* needs masks of the SBD"
    ):
        open_dataset(voc(tmp_path), "trainaug")


def test_lists_choose_from_trainaug(tmp_path: Path) -> None:
    """A few finely labelled images, and all others of trainaug without their masks."""
    source = voc(tmp_path, augmented=True)
    few = tmp_path / "few.txt"
    lines(few, "2008_000002")
    assert open_dataset(source, str(few)).stems == ("2008_000002",)
    assert open_unlabeled(source, str(few)).stems == tuple(f"JPEGImages/{stem}" for stem in TRAIN)
    assert open_unlabeled(source, "train").stems == ("JPEGImages/2008_000002",)


def test_listed_images_that_are_not_there(tmp_path: Path) -> None:
    source = voc(tmp_path)
    lines(tmp_path / LISTS / "val.txt", *VAL, "2007_999999")
    with pytest.raises(DataError, match=r"Images of val.txt that do not exist: 1 \(2007_999999\)"):
        open_dataset(source, "val")


def test_images_of_test_have_no_labels(tmp_path: Path) -> None:
    source = voc(tmp_path)
    picture(tmp_path / "VOCdevkit" / "VOC2012" / "JPEGImages" / "2008_000001.jpg")
    lines(tmp_path / LISTS / "test.txt", "2008_000001")
    assert open_images(source, "test")[0].stems == ("2008_000001",)
    with pytest.raises(DataError, match="labels of the split test are not public"):
        open_dataset(source, "test")


def test_masks_are_read_by_number_whatever_their_palette(tmp_path: Path) -> None:
    source = voc(tmp_path)
    mask = tmp_path / "VOCdevkit" / "VOC2012" / "SegmentationClass" / "2007_000033.png"
    with Image.open(mask) as image:
        assert image.mode == "P"
    stripes(mask, *range(21), 255)
    assert seen(open_dataset(source, "val")[0]["target"]) == [*range(21), 255]


@pytest.mark.parametrize("augmented", [False, True])
def test_a_list_in_another_encoding(tmp_path: Path, augmented: bool) -> None:
    source = voc(tmp_path, augmented=augmented)
    path = tmp_path / LISTS / "val.txt"
    path.write_text(f"{VAL[0]}\n", encoding="utf-16")
    report = check_dataset(source)
    (problem,) = [problem for problem in report.errors if problem.kind == "list"]
    assert (problem.file, report.splits["train"].images) == (str(path), len(TRAIN))
    assert "Save it as UTF-8" in problem.remedy
    if augmented:  # nobody knows what val holds: nothing may be learnt from
        with pytest.raises(DataError, match=r"val\.txt: Expected a list in UTF-8"):
            open_images(source, "trainaug")


# Data of one's own in these folders


def export(root: Path, *names: str, year: str = "") -> Path:
    """What annotation tools write: a list default.txt, labelmap.txt, masks in colours."""
    home = root / year
    for name in names:
        picture(home / "JPEGImages" / f"{name}.png")
        stripes(
            home / "SegmentationClass" / f"{name}.png", (0, 0, 0), (48, 112, 32), (176, 112, 32)
        )
    lines(home / "ImageSets/Segmentation/default.txt", *names)
    about = ("# label:color_rgb:parts:actions", "background:0,0,0::", "cat:48,112,32::")
    lines(home / "labelmap.txt", *about, "dog:176,112,32::")
    return root


def test_a_labelmap_names_the_classes(tmp_path: Path) -> None:
    root = export(tmp_path, "a", "b")
    for source in (root, f"voc:{root}"):
        opened = open_source(source)
        assert opened.description.classes == ("background", "cat", "dog")
        assert opened.description.palette[1] == (48, 112, 32)
        assert opened.splits() == ("train",)
        assert seen(open_dataset(source, "train")[0]["target"]) == [0, 1, 2]
    lines(root / "labelmap.txt", "background:0,0,0::", "cat:48,112::")
    with pytest.raises(DataError, match=r"labelmap\.txt: Expected lines such as `cat:48,112,32::`"):
        open_source(root)


def test_classes_of_ones_own_any_year_and_lists_by_name(tmp_path: Path) -> None:
    export(tmp_path, "a", "b", "c", year="VOCdevkit/VOC2007")
    folder = tmp_path / "VOCdevkit/VOC2007"
    (folder / "labelmap.txt").unlink()
    for name in "abc":
        stripes(folder / "SegmentationClass" / f"{name}.png", 0, 1, 255)
    lists = folder / "ImageSets/Segmentation"
    for name, stem in (("train", "a"), ("test", "b"), ("night", "c")):
        lines(lists / f"{name}.txt", stem)
    (tmp_path / "dataset.yaml").write_text("layout: voc\nclasses: [road, crack]\n")
    source = open_source(tmp_path)
    assert source.root == folder
    assert source.splits() == ("train", "test", "night")  # test has masks here
    assert source.description.classes == ("road", "crack")
    assert seen(open_dataset(tmp_path, "test")[0]["target"]) == [0, 1, 255]
    assert check_dataset(tmp_path).errors == ()
