"""Names of files as people have them: any bytes, any length, composed or not, lists of any kind."""

import os
import unicodedata
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from softiou._files import file_name
from softiou.checking import check_dataset
from softiou.data import open_dataset
from softiou.data.files import mask_folders
from softiou.data.fractions import write_splits
from softiou.data.source import open_source
from softiou.errors import DataError
from softiou.jobs.images import find_items, left_out

RANDOM = np.random.default_rng(0)


def write(folder: Path, image: bytes, mask: bytes | None = None, split: str = "train") -> None:
    """Write an image and its mask under names of any bytes, without their suffix."""
    (folder / "dataset.yaml").write_text("classes: [ground, box]\n", encoding="utf-8")
    for kind, stem in (("images", image), ("masks", image if mask is None else mask)):
        place = folder / split / kind
        place.mkdir(parents=True, exist_ok=True)
        shape = (4, 6, 3) if kind == "images" else (4, 6)
        pixels = RANDOM.integers(0, 2, shape, dtype=np.uint8)
        Image.fromarray(pixels).save(place / "new.png")
        os.rename(place / "new.png", os.fsencode(place) + b"/" + stem + b".png")


NAMES = {
    "latin-1": b"caf\xe9",
    "gbk": "道路".encode("gbk"),
    "blank at the end": b"a ",
    "newline": b"a\nb",
    "246 bytes": b"x" * 246,
    "long and not ASCII": ("é" * 124).encode(),
    "quotes and %": b"a'b\"c%20",
    "dots": b"a.b.c",
    "starts with -": b"-rf",
    "emoji": "👩‍🚀".encode(),
}


@pytest.mark.parametrize("name", NAMES.values(), ids=NAMES)
def test_every_name_is_checked_and_read(name: bytes, tmp_path: Path) -> None:
    write(tmp_path, name)
    write(tmp_path, b"other")
    report = check_dataset(tmp_path)
    assert report.errors == ()
    assert report.splits["train"].images == 2
    stems = set(open_dataset(tmp_path, "train").stems)
    assert stems == {unicodedata.normalize("NFC", os.fsdecode(name)), "other"}
    assert all(sample["image"].shape == (3, 4, 6) for sample in open_dataset(tmp_path, "train"))
    assert len(find_items(tmp_path / "train" / "images")) == 2


@pytest.mark.parametrize("name", [b"caf\xe9", b"a ", "é".encode(), b"x" * 246])
def test_a_list_that_split_writes_names_every_file(name: bytes, tmp_path: Path) -> None:
    write(tmp_path, name)
    write(tmp_path, b"other")
    stem = os.fsdecode(name)
    write_splits(tmp_path, {"half": (stem,)})
    assert open_dataset(tmp_path, "half").stems == (stem,)


@pytest.mark.parametrize(
    "content",
    [b"a\nb\n", b"\xef\xbb\xbfa\nb", b"a\r\nb\r\n", b"\n a\t\n\nb \n\n", b"\xef\xbb\xbfa\r\n\r\nb"],
)
def test_lists_of_any_editor(content: bytes, tmp_path: Path) -> None:
    for stem in (b"a", b"b", b"c"):
        write(tmp_path, stem)
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "half.txt").write_bytes(content)
    assert open_dataset(tmp_path, "half").stems == ("a", "b")


def test_a_list_in_utf_16(tmp_path: Path) -> None:
    write(tmp_path, b"a")
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "half.txt").write_bytes("a\n".encode("utf-16"))
    with pytest.raises(DataError, match=r"half\.txt: Expected a list in UTF-8.*PowerShell"):
        open_dataset(tmp_path, "half")


@pytest.mark.parametrize("forms", [("NFC", "NFD", "NFD"), ("NFD", "NFC", "NFC"), ("NFD",) * 3])
def test_composed_and_decomposed_names_are_the_same(forms: tuple[Any, ...], tmp_path: Path) -> None:
    image, mask, listed = (unicodedata.normalize(form, "Müller").encode() for form in forms)
    write(tmp_path, image, mask)
    write(tmp_path, b"other")
    (tmp_path / "splits").mkdir()
    (tmp_path / "splits" / "half.txt").write_bytes(listed)
    assert check_dataset(tmp_path).errors == ()
    assert open_dataset(tmp_path, "half").stems == (unicodedata.normalize("NFC", "Müller"),)


def test_two_forms_of_one_name_in_a_folder(tmp_path: Path) -> None:
    for form in ("NFC", "NFD"):
        write(tmp_path, unicodedata.normalize(form, "ü").encode())
    with pytest.raises(DataError, match="one file per stem"):
        open_dataset(tmp_path, "train")


def test_masks_1_and_masks_01_are_two_annotators(tmp_path: Path) -> None:
    for name in ("masks_1", "masks_01", "masks_2", "masks_x"):
        (tmp_path / name).mkdir()
    assert [path.name for path in mask_folders(tmp_path)] == ["masks_01", "masks_1", "masks_2"]


@pytest.mark.parametrize("kind", ["images", "masks"])
def test_images_that_lie_partly_in_folders(kind: str, tmp_path: Path) -> None:
    for stem in (b"a", b"b"):
        write(tmp_path, stem)
    place = tmp_path / "train" / kind
    (place / "city").mkdir()
    (place / "b.png").rename(place / "city" / "b.png")
    report = check_dataset(tmp_path)
    assert report.errors
    with pytest.raises(DataError, match=r"not read|without a mask"):
        open_dataset(tmp_path, "train")


def test_hidden_and_empty_folders_lose_nothing(tmp_path: Path) -> None:
    write(tmp_path, b"a")
    for folder in (".cache", "empty"):
        (tmp_path / "train" / "images" / folder).mkdir()
    (tmp_path / "train" / "images" / ".cache" / "b.png").touch()
    assert open_dataset(tmp_path, "train").stems == ("a",)


def test_prediction_counts_what_it_leaves_out(tmp_path: Path) -> None:
    write(tmp_path, b"a")
    folder = tmp_path / "train" / "images"
    (folder / "notes.txt").touch()
    (folder / "b.heic").touch()
    (folder / ".hidden").touch()
    (folder / "city").mkdir()
    (folder / "city" / "c.png").touch()
    assert list(left_out([folder, folder / "a.png"])) == [
        f"left out  2 files of {folder} without the suffix of an image",
        f"left out  1 images in subfolders of {folder}",
    ]


@pytest.mark.parametrize("stem", ["x" * 243, "x" * 255, "é" * 127, "a/" + "道" * 85, "a/b"])
def test_names_that_fit(stem: str) -> None:
    name = file_name(stem, ".overlay.jpg")
    assert len(os.fsencode(name.rpartition("/")[2])) <= 255
    assert name.endswith(".overlay.jpg")
    assert (name == f"{stem}.overlay.jpg") == (len(os.fsencode(stem.rpartition("/")[2])) <= 243)
    assert file_name(stem + "y", ".overlay.jpg") != name
    assert name.rpartition("/")[0] == stem.rpartition("/")[0]


def test_stems_of_a_source_are_in_order(tmp_path: Path) -> None:
    for stem in (b"b", b"a", b"caf\xe9"):
        write(tmp_path, stem)
    assert list(open_source(tmp_path).images("train")) == ["a", "b", "caf\udce9"]
