from pathlib import Path

import pytest

from layout_trees import camvid_colours, camvid_numbers, lines, seen, stripes
from softiou.checking import check_dataset
from softiou.data import open_dataset, open_source
from softiou.data.layouts.camvid import CLASSES, segnet_split
from softiou.errors import DataError

# label_colors.txt as published, and after each name its class of the eleven; - is void.
PUBLISHED = """
64 128 64 Animal pedestrian
192 0 128 Archway building
0 128 192 Bicyclist bicyclist
0 128 64 Bridge building
128 0 0 Building building
64 0 128 Car car
64 0 192 CartLuggagePram pedestrian
192 128 64 Child pedestrian
192 192 128 Column_Pole pole
64 64 128 Fence fence
128 0 192 LaneMkgsDriv road
192 0 64 LaneMkgsNonDriv road
128 128 64 Misc_Text sign symbol
192 0 192 MotorcycleScooter bicyclist
128 64 64 OtherMoving car
64 192 128 ParkingBlock pavement
64 64 0 Pedestrian pedestrian
128 64 128 Road road
128 128 192 RoadShoulder pavement
0 0 192 Sidewalk pavement
192 128 128 SignSymbol sign symbol
128 128 128 Sky sky
64 128 192 SUVPickupTruck car
0 0 64 TrafficCone pole
0 64 64 TrafficLight sign symbol
192 64 128 Train car
128 128 0 Tree tree
192 128 192 Truck_Bus car
64 0 64 Tunnel building
192 192 0 VegetationMisc tree
0 0 0 Void -
64 192 0 Wall building
"""


def test_all_32_colours_have_their_class(tmp_path: Path) -> None:
    reader = open_source(camvid_colours(tmp_path)).mask_reader()
    assert reader.colours is not None
    assert len(reader.colours) == 32
    for line in PUBLISHED.strip().splitlines():
        red, green, blue, name, *group = line.split()
        colour = (int(red), int(green), int(blue))
        if group == ["-"]:
            assert reader.colours[colour] == 255
        else:
            assert CLASSES[" ".join(group)][name] == colour
            assert list(CLASSES)[reader.colours[colour]] == " ".join(group)


def test_both_forms_mean_the_same(tmp_path: Path) -> None:
    numbers = open_source(camvid_numbers(tmp_path / "numbers")).description
    assert numbers == open_source(camvid_colours(tmp_path / "colours")).description
    assert numbers.classes == (
        *("sky", "building", "pole", "road", "pavement", "tree"),
        *("sign symbol", "fence", "car", "pedestrian", "bicyclist"),
    )
    assert numbers.palette[3] == (128, 64, 128)


def test_numbers(tmp_path: Path) -> None:
    source = camvid_numbers(tmp_path)
    assert open_source(source).splits() == ("train", "val", "test")
    train = open_dataset(source, "train")
    assert train.stems == ("0001TP_006690", "0006R0_f00930")
    assert train.files(0)[1] == tmp_path / "CamVid" / "trainannot" / "0001TP_006690.png"
    stripes(train.files(0)[1], *range(12))
    assert seen(train[0]["target"]) == [*range(11), 255]
    assert train.folder == "train"
    assert open_source(f"camvid:{tmp_path / 'CamVid'}").root == tmp_path / "CamVid"


def test_lists_of_segnet_are_kept_to(tmp_path: Path) -> None:
    source = camvid_numbers(tmp_path)
    path = tmp_path / "CamVid" / "train.txt"
    lines(path, "/SegNet/CamVid/train/0001TP_006690.png /SegNet/CamVid/trainannot/x.png", "")
    assert open_dataset(source, "train").stems == ("0001TP_006690",)
    lines(path, "0001TP_006690.png", "0001TP_006720.png")
    with pytest.raises(DataError, match=r"of train.txt that do not exist: 1 \(0001TP_006720\)"):
        open_dataset(source, "train")
    path.unlink()
    assert len(open_dataset(source, "train")) == 2


def test_colours(tmp_path: Path) -> None:
    source = camvid_colours(tmp_path)
    assert open_source(source).splits() == ("train", "val", "test")
    splits = {split: open_dataset(source, split).stems for split in ("train", "val", "test")}
    assert splits == {
        "train": ("0001TP_008520", "0006R0_f00930", "0016E5_07920"),
        "val": ("0016E5_07959",),
        "test": ("0001TP_008550", "Seq05VD_f00000"),
    }
    val = open_dataset(source, "val")
    assert seen(val[0]["target"]) == [0, 3, 10, 255]
    assert val.files(0)[1].name == "0016E5_07959_L.png"
    assert val.folder == "701_StillsRaw_full"


def test_colours_in_plainer_folders_and_own_splits(tmp_path: Path) -> None:
    source = camvid_colours(tmp_path)
    (tmp_path / "701_StillsRaw_full").rename(tmp_path / "images")
    (tmp_path / "LabeledApproved_full").rename(tmp_path / "labels")
    assert len(open_dataset(source, "all")) == 6
    lines(tmp_path / "splits" / "train.txt", "Seq05VD_f00000", "0016E5_07920")
    assert open_dataset(source, "train").stems == ("0016E5_07920", "Seq05VD_f00000")


def test_frames_of_other_videos_are_in_no_split() -> None:
    assert segnet_split("0002TP_000001") is None
    assert segnet_split("mine") is None


def test_splits_are_those_of_segnet(shared_data: Path) -> None:
    for split, number in (("train", 367), ("val", 101), ("test", 233)):
        stems = [path.stem for path in (shared_data / "camvid" / split / "images").iterdir()]
        assert len(stems) == number
        assert {segnet_split(stem) for stem in stems} == {split}


def test_a_list_in_another_encoding(tmp_path: Path) -> None:
    source = camvid_numbers(tmp_path)
    path = tmp_path / "CamVid" / "val.txt"
    path.write_bytes("0016E5_07959 café".encode("utf-16-le"))
    report = check_dataset(source)
    (problem,) = [problem for problem in report.errors if problem.kind == "list"]
    assert problem.file == str(path)
    assert "Save it as UTF-8" in problem.remedy
    assert (report.splits["train"].images, report.splits["val"].images) == (2, 0)
