"""What a check says of single files: images, masks, and whether they fit."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import ArrayLike
from PIL import Image

from softiou.checking import CheckReport, check_dataset
from softiou.data import Problem

Make = Callable[..., Path]
ORIENTATION = 0x0112


@pytest.fixture
def data(make_dataset: Make) -> Path:
    """A data set of one sample of 3 x 2 pixels that is in order."""
    return make_dataset({"train/masks": {"a": [[0, 1, 1], [0, 0, 255]]}})


def noise(*shape: int, dtype: type[np.generic] = np.uint8, below: int = 256) -> ArrayLike:
    return np.random.default_rng(1).integers(0, below, shape).astype(dtype)


def save(array: ArrayLike, path: Path, *, orientation: int = 1) -> None:
    exif = Image.Exif()
    if orientation > 1:
        exif[ORIENTATION] = orientation
    Image.fromarray(np.asarray(array)).save(path, exif=exif)


def only(report: CheckReport) -> Problem:
    (problem,) = report.problems
    return problem


def test_sample_in_order(data: Path) -> None:
    assert check_dataset(data).problems == ()


# Images


@pytest.mark.parametrize(
    ("content", "message", "remedy"),
    [
        (b"", "The file is empty.", "download it again"),
        (b"version https://git-lfs.github.com/spec/v1\noid", "Git LFS pointer", "git lfs pull"),
        (b"\n<!DOCTYPE html><html>", "this is a web page", "log in"),
        (b"nonsense", "Cannot decode the image: UnidentifiedImageError", "skip_corrupt"),
    ],
)
@pytest.mark.parametrize("folder", ["images", "masks"])
def test_file_that_is_no_image(
    data: Path, folder: str, content: bytes, message: str, remedy: str
) -> None:
    (data / "train" / folder / "a.png").write_bytes(content)
    report = check_dataset(data)
    problem = only(report)
    assert (problem.kind, problem.severity) == ("unreadable", "error")
    assert message in problem.message
    assert remedy in problem.remedy
    assert report.splits["train"].images == 0
    assert report.advice is None


@pytest.mark.parametrize("kind", ["link", "folder"])
@pytest.mark.parametrize("folder", ["images", "masks"])
def test_name_of_an_image_that_cannot_be_opened(data: Path, folder: str, kind: str) -> None:
    path = data / "train" / folder / "a.png"
    path.unlink()
    if kind == "link":
        path.symlink_to(data / "nowhere.png")
    else:
        path.mkdir()
    problem = only(check_dataset(data))
    assert (problem.kind, problem.file) == ("unreadable", str(path))
    error = {"link": "FileNotFoundError", "folder": "IsADirectoryError"}[kind]
    assert f"Cannot decode the image: {error}" in problem.message


@pytest.mark.parametrize("suffix", ["png", "jpg"])
def test_truncated_image(data: Path, suffix: str) -> None:
    (data / "train/images/a.png").unlink()
    path = data / "train" / "images" / f"a.{suffix}"
    save(noise(64, 64, 3), path)
    path.write_bytes(path.read_bytes()[:-400])
    (data / "train/masks/a.png").unlink()
    save(np.eye(64, dtype=np.uint8), data / "train/masks/a.png")
    problem = only(check_dataset(data))
    assert (problem.kind, problem.file) == ("unreadable", str(path))


def test_blank_image(data: Path) -> None:
    save(np.full((2, 3, 3), 7, np.uint8), data / "train/images/a.png")
    problem = only(check_dataset(data))
    assert (problem.kind, problem.severity) == ("blank_image", "warning")
    assert "(7, 7, 7)" in problem.message


def test_image_with_rows_alike_is_not_blank(data: Path) -> None:
    save(np.array([[7, 7, 7], [8, 8, 8]], np.uint8), data / "train/images/a.png")
    assert check_dataset(data).problems == ()


def test_transparent_image(data: Path) -> None:
    pixels = np.asarray(noise(2, 3, 4)).copy()
    pixels[..., 3] = 255
    save(pixels, data / "train/images/a.png")
    assert check_dataset(data).problems == ()  # nothing shows through
    pixels[0, 0, 3] = 0
    save(pixels, data / "train/images/a.png")
    problem = only(check_dataset(data))
    assert (problem.kind, problem.severity) == ("image_alpha", "warning")


@pytest.mark.parametrize(("below", "kinds"), [(4096, ["image_16_bit"]), (65536, [])])
def test_dark_16_bit_image(data: Path, below: int, kinds: list[str]) -> None:
    pixels = np.asarray(noise(2, 3, dtype=np.uint16, below=below)).copy()
    pixels[0, :2] = 0, below - 1
    save(pixels, data / "train/images/a.png")
    problems = check_dataset(data).problems
    assert [(p.kind, p.severity) for p in problems] == [(kind, "error") for kind in kinds]
    assert all("none of 4096 or more" in p.message for p in problems)


def test_image_of_floating_point_values(data: Path) -> None:
    (data / "train/images/a.png").unlink()
    save(noise(2, 3, dtype=np.float32), data / "train/images/a.tiff")
    assert only(check_dataset(data)).kind == "image_mode"


# EXIF


def test_mask_that_fits_the_image_as_it_is_stored(data: Path) -> None:
    save(noise(2, 3, 3), data / "train/images/a.png", orientation=6)
    problem = only(check_dataset(data))
    assert (problem.kind, problem.severity) == ("exif_rotation", "error")
    assert problem.file.endswith("masks/a.png")
    assert "orientation 6 of a.png rotates it upright, but the mask matches" in problem.message
    assert "--fix OUT" in problem.remedy


def test_mask_that_fits_the_image_upright(data: Path) -> None:
    save(noise(3, 2, 3), data / "train/images/a.png", orientation=8)
    report = check_dataset(data)
    problem = only(report)
    assert (problem.kind, problem.severity) == ("exif_rotation", "note")
    assert problem.message.endswith("the mask matches the upright image.")
    assert (report.errors, report.warnings) == ((), ())
    assert report.splits["train"].sizes[0].width_px == 3


def test_size_does_not_tell_whether_the_mask_is_upright(data: Path) -> None:
    save(noise(2, 3, 3), data / "train/images/a.png", orientation=3)
    problem = only(check_dataset(data))
    assert (problem.kind, problem.severity) == ("exif_rotation", "warning")
    assert "do not show whether" in problem.message


def test_orientation_out_of_range_is_none(data: Path) -> None:
    save(noise(2, 3, 3), data / "train/images/a.png", orientation=9)
    assert check_dataset(data).problems == ()


def test_mask_with_a_tag_of_its_own(data: Path) -> None:
    save(np.array([[0, 1, 1], [0, 0, 1]], np.uint8), data / "train/masks/a.png", orientation=3)
    problem = only(check_dataset(data))
    assert (problem.kind, problem.severity) == ("exif_mask", "warning")


# Masks


def test_size_that_differs(data: Path) -> None:
    save(np.zeros((2, 5), np.uint8), data / "train/masks/a.png")
    problem = only(check_dataset(data))
    assert (problem.kind, problem.severity) == ("size_mismatch", "error")
    assert problem.remedy == "Resize the mask with nearest neighbour, or replace it."


@pytest.mark.parametrize("size", [(4, 6), (6, 9)])
def test_size_that_differs_by_a_whole_number(data: Path, size: tuple[int, int]) -> None:
    save(np.eye(*size, dtype=np.uint8), data / "train/masks/a.png")
    problem = only(check_dataset(data))
    assert problem.kind == "size_mismatch"
    assert problem.remedy.startswith("Scale the masks by an integer factor")


def test_mask_that_is_ignored_throughout(make_dataset: Make) -> None:
    masks = {"a": [[255, 255]], "b": [[0, 1]]}
    problem = only(check_dataset(make_dataset({"train/masks": masks})))
    assert (problem.kind, problem.severity) == ("ignored_image", "warning")
    assert problem.file.endswith("a.png")


@pytest.mark.parametrize("channels", [3, 4])
def test_mask_of_several_channels(data: Path, channels: int) -> None:
    save(noise(2, 3, channels), data / "train/masks/a.png")
    assert only(check_dataset(data)).kind == "mask_mode"


def test_colour_that_is_none_of_the_palette(make_dataset: Make) -> None:
    mask = [[[0, 0, 0], [9, 9, 9]]]
    root = make_dataset({"train/masks": {"a": mask}}, palette=[[0, 0, 0], [255, 0, 0]])
    assert only(check_dataset(root)).kind == "mask_colours"


def test_16_bit_mask_is_in_order(data: Path) -> None:
    save(np.array([[0, 1, 1], [0, 0, 255]], np.uint16), data / "train/masks/a.png")
    assert check_dataset(data).problems == ()


def test_1_bit_mask_is_in_order(data: Path) -> None:
    save(np.array([[0, 1, 1], [0, 0, 1]], bool), data / "train/masks/a.png")
    assert check_dataset(data).problems == ()


def test_jpeg_called_png(data: Path) -> None:
    Image.new("L", (3, 2), 1).save(data / "train/masks/a.png", format="JPEG")
    jpeg, empty = check_dataset(data).problems
    assert (jpeg.kind, jpeg.severity) == ("jpeg_mask", "warning")
    assert empty.kind == "empty_class"


# A palette against the numbers


@pytest.mark.parametrize(
    ("colours", "kinds"),
    [
        ([(0, 0, 0), (255, 0, 0)], []),
        ([(255, 0, 0), (0, 0, 0)], ["palette_order"]),
        ([(0, 0, 0), (1, 2, 3)], []),  # colours for viewing
        ([(255, 0, 0)], []),
    ],
)
def test_palette_that_contradicts_the_numbers(
    make_dataset: Make, colours: list[tuple[int, int, int]], kinds: list[str]
) -> None:
    palette = [[0, 0, 0], [255, 0, 0]]
    root = make_dataset({"train/masks": {"a": [[0, 1]]}}, palette=palette)
    mask = Image.fromarray(np.array([[0, 1]], np.uint8))
    mask.putpalette([value for colour in colours for value in colour])
    mask.save(root / "train/masks/a.png")
    problems = check_dataset(root).problems
    assert [p.kind for p in problems] == kinds
    if kinds:
        assert "The value 0 means class 0, but its palette" in problems[0].message
        assert "colour is that of class 1." in problems[0].message


def test_palette_of_a_data_set_without_colours_is_for_viewing(data: Path) -> None:
    mask = Image.open(data / "train/masks/a.png")
    mask.putpalette([value % 256 for value in range(768)])
    mask.save(data / "train/masks/a.png")
    assert check_dataset(data).problems == ()
