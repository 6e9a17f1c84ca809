"""Windows of files: crops are those of whole images, and no more is read than they show."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
import torch
from numpy.typing import NDArray
from PIL import Image

from band_files import PLACE, band_values, write_bands
from small_data import write_png
from softiou.data import (
    Augmentation,
    Bands,
    DatasetDescription,
    FolderDataset,
    PartlyLabeled,
    StrongColours,
    TrainingStream,
    UnlabeledStream,
    open_unlabeled,
)
from softiou.data.bands import Tiff, missing
from softiou.data.base import SegmentationDataset
from softiou.data.reading import MaskReader
from softiou.data.transforms import drawn_index, random_state_of
from softiou.errors import DataError
from softiou.training.resolving import _crop

SIZES = ((150, 210), (40, 300), (64, 64))
BANDS = Bands((3, 1), ((10.0, 180.0), (0.0, 200.0)))
WHOLE = (slice(None), slice(None))
READER = MaskReader(DatasetDescription(("a", "b", "c", "d", "e")), label_map={})


def labels(size: tuple[int, int], seed: int) -> NDArray[np.uint8]:
    """Return squares of five classes, with ignored rows above."""
    height, width = size
    coarse = np.random.default_rng(seed).integers(0, 5, (height // 8 + 1, width // 8 + 1))
    mask = coarse.repeat(8, 0).repeat(8, 1)[:height, :width].astype(np.uint8)
    mask[:3] = 255
    return mask


def write_scenes(
    root: Path, *, dtype: str, nodata: float | None, suffix: str, annotators: int = 1
) -> Path:
    """Write scenes of three bands, in tiles, with pixels that have no value."""
    for number, size in enumerate(SIZES):
        stored = np.random.default_rng(number).integers(1, 200, (3, *size)).astype(dtype)
        stored[:, :10, 20:40] = 1 if nodata is None else nodata
        if dtype == "float32":
            stored[2, 30:35, 50:60] = np.nan
        path = root / "train" / "images" / f"{number}.tif"
        write_bands(path, stored, nodata=nodata, tiled=True, compress="deflate", **PLACE)
        for annotator in range(annotators):
            folder = "masks" if annotators == 1 else f"masks_{annotator + 1}"
            mask = labels(size, 10 * annotator + number)
            path = root / "train" / folder / f"{number}{suffix}"
            if suffix == ".png":
                write_png(path, mask)
            else:
                write_bands(path, mask[None])
    (root / "dataset.yaml").write_text("classes: [a, b, c, d, e]\n")
    return root


class Whole(SegmentationDataset):
    """The same samples, each read as a whole."""

    def __init__(self, dataset: FolderDataset) -> None:
        self.dataset, self.stems = dataset, dataset.stems
        self.annotators = dataset.annotators

    def __getitem__(self, index: int) -> Any:
        return self.dataset[index]

    def files(self, index: int) -> tuple[Path, ...]:
        return self.dataset.files(index)


def assert_same_crops(dataset: FolderDataset, *, draws: int = 12, **options: Any) -> None:
    coverage = options.pop("coverage", None)
    augmentation = Augmentation((64, 96), coverage=coverage, bands=True)
    stored, read = (
        TrainingStream(one, augmentation, seed=4, **options) for one in (dataset, Whole(dataset))
    )
    for draw in range(draws):
        one, other = stored[draw], read[draw]
        assert one["stem"] == other["stem"]
        for key in ("image", "target", "inside"):
            assert one[key].dtype == other[key].dtype
            assert one[key].equal(other[key]) or one[key].isnan().any(), (draw, key)
            torch.testing.assert_close(one[key], other[key], rtol=0, atol=0, equal_nan=True)


@pytest.mark.parametrize("suffix", [".tif", ".png"])
@pytest.mark.parametrize(
    ("dtype", "nodata"), [("uint16", 0), ("uint8", None), ("float32", None), ("float32", -9999.0)]
)
def test_crops_of_files_are_those_of_whole_images(
    tmp_path: Path, dtype: str, nodata: float | None, suffix: str
) -> None:
    root = write_scenes(tmp_path, dtype=dtype, nodata=nodata, suffix=suffix)
    dataset = FolderDataset(root, "train", bands=BANDS)
    assert_same_crops(dataset)
    assert_same_crops(dataset, coverage=5)


@pytest.mark.parametrize("kind", ["votes", "soft", "hard", "staple"])
def test_crops_of_several_annotators(tmp_path: Path, kind: Any) -> None:
    root = write_scenes(tmp_path, dtype="uint16", nodata=0, suffix=".tif", annotators=3)
    dataset = FolderDataset(root, "train", labels=kind, bands=BANDS)
    assert_same_crops(dataset, draws=6, random_rater=kind == "votes")
    if kind == "votes":
        assert_same_crops(dataset, draws=6)


def test_whole_samples_come_from_pixels_and_labels(tmp_path: Path) -> None:
    root = write_scenes(tmp_path, dtype="uint16", nodata=0, suffix=".tif")
    sample = FolderDataset(root, "train", bands=BANDS)[0]
    expected = labels(SIZES[0], 0)
    expected[:10, 20:40] = 255
    assert sample["target"].tolist() == expected.tolist()
    with rasterio.open(root / "train" / "images" / "0.tif") as file:
        stored = torch.from_numpy(file.read([3, 1]).astype(np.float32))
    stored[stored == 0] = torch.nan
    torch.testing.assert_close(
        sample["image"], BANDS.scaled(stored), rtol=0, atol=0, equal_nan=True
    )


@pytest.fixture
def windows(monkeypatch: pytest.MonkeyPatch) -> list[tuple[str, int, int]]:
    """Return a list of what is read of TIFFs: folder, rows and columns."""
    found: list[tuple[str, int, int]] = []
    whole = Tiff.read

    def read(self: Tiff, *place: Any) -> NDArray[Any]:
        values = whole(self, *place)
        found.append((self.path.parent.name, *values.shape[1:]))
        return values

    monkeypatch.setattr(Tiff, "read", read)
    return found


def test_only_what_a_crop_shows_is_read_and_once(
    tmp_path: Path, windows: list[tuple[str, int, int]]
) -> None:
    root = write_scenes(tmp_path, dtype="uint16", nodata=0, suffix=".tif")
    dataset = FolderDataset(root, "train", bands=BANDS)
    augmentation = Augmentation((32, 32), bands=True)
    stream = TrainingStream(dataset, augmentation, seed=1)
    for draw in range(9):
        windows.clear()
        stream[draw]
        height, width = SIZES[drawn_index(1, draw, len(dataset))]
        with random_state_of(1, draw):
            top, bottom, left, right = augmentation.draw(height, width)[0].box((height, width))
        shown = (bottom - top, right - left)
        assert sorted(windows) == [("images", *shown), ("masks", *shown)]


def test_the_size_of_the_crop_is_found_without_reading(
    tmp_path: Path, windows: list[tuple[str, int, int]]
) -> None:
    root = write_scenes(tmp_path, dtype="uint16", nodata=0, suffix=".tif")
    assert _crop(FolderDataset(root, "train", bands=BANDS)) == (64, 192)
    assert windows == []


def test_a_mask_of_another_size_is_named(tmp_path: Path) -> None:
    root = write_scenes(tmp_path, dtype="uint16", nodata=0, suffix=".tif")
    write_bands(root / "train" / "masks" / "1.tif", labels((40, 299), 0)[None])
    dataset = FolderDataset(root, "train", bands=BANDS)
    with pytest.raises(DataError, match=r"1\.tif: Expected the size of 1\.tif, 300x40"):
        dataset.compact(1)["target"][..., :5, :5]


def test_images_without_masks_are_read_in_windows(
    tmp_path: Path, windows: list[tuple[str, int, int]]
) -> None:
    root = write_scenes(tmp_path, dtype="float32", nodata=None, suffix=".tif")
    (root / "splits").mkdir()
    (root / "splits" / "few.txt").write_text("2\n")
    images = open_unlabeled(root, "few", bands=BANDS)
    assert images.stems == ("train/0", "train/1")
    augmentation, strong = Augmentation((16, 16), bands=True), StrongColours(bands=True)
    stream = UnlabeledStream(images, augmentation, strong, views=1, seed=2)
    windows.clear()
    found = [stream[draw] for draw in range(6)]
    assert max(height * width for _, height, width in windows) <= 32 * 32
    read = [images[index]["image"] for index in range(2)]
    images.stored = read.__getitem__
    for one, draw in zip(found, range(6), strict=True):
        other = stream[draw]
        for key in ("image", "strong", "inside"):
            torch.testing.assert_close(one[key], other[key], rtol=0, atol=0, equal_nan=True)
    partly = PartlyLabeled(FolderDataset(root, "few", bands=BANDS), images)
    for index in range(3):
        sample, stored = partly[index], partly.compact(index)
        assert stored["target"][..., 5:9, 2:7].equal(sample["target"][..., 5:9, 2:7])
        assert sample["target"].dtype == torch.int64
        torch.testing.assert_close(
            stored["image"][..., 5:9, 2:7], sample["image"][..., 5:9, 2:7], equal_nan=True
        )
    assert (partly[1]["target"] == 255).all()


def test_missing_pixels_lack_any_band() -> None:
    image = torch.zeros(3, 2, 2)
    image[1, 0, 1] = image[2, 0, 1] = image[0, 1, 0] = torch.nan
    assert missing(image).tolist() == [[False, True], [True, False]]
    assert missing(image[:1]).tolist() == [[False, False], [True, False]]


# Masks


def mask_file(path: Path, how: str) -> Path:
    """Write classes 0 to 4 in a TIFF of one of several kinds."""
    mask = labels((40, 56), 0) % 5
    if how == "palette":
        picture = Image.fromarray(mask)
        picture.putpalette([0, 0, 0, 9, 8, 7, 1, 2, 3, 4, 4, 4, 5, 6, 6])
        picture.save(path)
    elif how == "one bit":
        Image.fromarray(mask > 2).save(path)
    elif how == "four bits":
        write_bands(path, mask[None], nbits=4)
    elif how == "tiles":
        write_bands(path, mask[None], tiled=True, compress="lzw")
    elif how == "png":
        Image.fromarray(mask).save(path, "PNG")
    else:
        values = 255 - mask if how == "miniswhite" else mask
        about: Any = {"photometric": "miniswhite" if how == "miniswhite" else "minisblack"}
        tifffile.imwrite(path, values.astype(np.uint16 if how == "deep" else np.uint8), **about)
    return path


@pytest.mark.parametrize(
    ("how", "in_windows"),
    [
        ("plain", True),
        ("tiles", True),
        ("deep", True),
        ("palette", True),
        ("one bit", False),
        ("four bits", False),
        ("miniswhite", False),
        ("png", False),
    ],
)
def test_windows_of_a_mask_are_those_of_the_whole(
    tmp_path: Path, windows: list[tuple[str, int, int]], how: str, in_windows: bool
) -> None:
    path = mask_file(tmp_path / "a.tif", how)
    whole = READER.read(path)
    window, size = READER.part(path, (slice(4, 30), slice(7, 50)))
    assert windows == ([(tmp_path.name, 26, 43)] if in_windows else [])
    assert (tuple(size), window.dtype) == ((40, 56), whole.dtype)
    assert window.equal(whole[4:30, 7:50])
    expected = labels((40, 56), 0) % 5
    assert whole.tolist() == (expected > 2 if how == "one bit" else expected).tolist()


def test_palettes_are_compared_in_windows_too(tmp_path: Path) -> None:
    reader = MaskReader(READER.description, label_map={})
    reader.part(mask_file(tmp_path / "a.tif", "palette"), WHOLE)
    picture = Image.fromarray(np.full((8, 8), 1, np.uint8))
    picture.putpalette([0, 0, 0, 200, 100, 0])
    picture.save(tmp_path / "b.tif")
    with pytest.raises(DataError, match=r"b\.tif: Value 1 has the palette colour \(200, 100, 0\)"):
        reader.part(tmp_path / "b.tif", (slice(4), slice(4)))


def test_wrong_numbers_are_named_in_windows(tmp_path: Path) -> None:
    path = write_bands(tmp_path / "a.tif", band_values(1, "uint8", size=(20, 20)))
    with pytest.raises(DataError, match=r"a\.tif"):
        READER.part(path, (slice(5), slice(5)))


def test_colours_are_read_as_a_whole(tmp_path: Path) -> None:
    colours = {(0, 0, 0): 0, (255, 0, 0): 1}
    reader = MaskReader(READER.description, label_map={}, colours=colours)
    rgb = np.zeros((6, 7, 3), np.uint8)
    rgb[2:4, 1:5, 0] = 255
    tifffile.imwrite(tmp_path / "a.tif", rgb, photometric="rgb")
    found, size = reader.part(tmp_path / "a.tif", (slice(1, 4), slice(2, 6)))
    assert size == (6, 7)
    assert found.tolist() == (rgb[1:4, 2:6, 0] > 0).tolist()
