"""Every kind of file that the pages name: the pixels and labels that were written, and two steps.

Files are written by Pillow, tifffile, rasterio, tarfile and datasets, not by softiou. Annotation
files, published layouts and volumes are trained on in tests of their own.
"""

import io
import json
import tarfile
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import rasterio
import tifffile
import yaml
from numpy.typing import NDArray
from PIL import Image

from band_files import write_bands
from softiou.data import Bands, open_dataset
from softiou.training import start_training

Pixels = NDArray[Any]
Write = Callable[[Path, Pixels], object]
SIZE = (40, 48)
SPLITS = {"train": 3, "val": 1}
COLOURS = {0: (0, 0, 0), 1: (200, 30, 40), 255: (255, 255, 255)}


def scene(seed: int, bands: int = 3) -> tuple[Pixels, Pixels]:
    """Return values 0..255 (H, W, B) with a bright box, and its mask with ignored columns."""
    random = np.random.default_rng(seed)
    values = random.integers(0, 100, (*SIZE, bands))
    mask = np.zeros(SIZE, np.uint8)
    top, left = random.integers(0, 20, 2)
    mask[top : top + 18, left : left + 18] = 1
    values[mask == 1] += 120
    mask[:, -2:] = 255
    return values, mask


def pillow(suffix: str, mode: str = "RGB", **how: Any) -> tuple[str, Write]:
    """Return how Pillow writes a picture of a mode."""

    def write(path: Path, values: Pixels) -> None:
        Image.fromarray(values.astype(np.uint8)).convert(mode).save(path, **how)

    return suffix, write


def deep_png(path: Path, values: Pixels) -> None:
    write_bands(path, (values * 16).astype(np.uint16).transpose(2, 0, 1), driver="PNG")


def deep_jp2(path: Path, values: Pixels) -> None:
    stored = (values * 16).astype(np.uint16).transpose(2, 0, 1)
    exact = {"QUALITY": "100", "REVERSIBLE": "YES", "YCBCR420": "NO"}
    write_bands(path, stored, driver="JP2OpenJPEG", **exact)


def grey_16(path: Path, values: Pixels) -> None:
    Image.fromarray((values[..., 0] * 257).astype(np.uint16)).save(path)


def geotiff(path: Path, values: Pixels) -> None:
    stored = np.concatenate([values, values[..., :1] + 7], -1).transpose(2, 0, 1) * 30 + 1
    stored[:, :3, :4] = 0
    write_bands(path, stored.astype(np.uint16), nodata=0)


def floats(path: Path, values: Pixels) -> None:
    stored = (values / 100).astype(np.float32)
    stored[:3, :4, 1] = np.nan
    tifffile.imwrite(path, stored, photometric="rgb")


def pages(path: Path, values: Pixels) -> None:
    tifffile.imwrite(path, values.astype(np.uint8).transpose(2, 0, 1), photometric="minisblack")


def expected_rgb(path: Path) -> Pixels:
    """Return what Pillow alone shows of a file."""
    with Image.open(path) as image:
        if image.mode.startswith("I"):
            return np.stack([np.asarray(image) // 257] * 3, -1)
        return np.asarray(image.convert("RGBA" if "A" in image.mode else "RGB"))[..., :3]


def expected_bands(path: Path, numbers: list[int]) -> Pixels:
    """Return bands as tifffile or rasterio read them; NaN for what is missing."""
    if path.suffix == ".tif":
        stored = tifffile.imread(path)
        stored = np.moveaxis(stored, 0, -1) if len(stored) < 5 else stored
    else:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", rasterio.errors.NotGeoreferencedWarning)
            with rasterio.open(path) as file:
                stored = np.moveaxis(file.read(), 0, -1)
    values = stored[..., np.array(numbers) - 1].astype(np.float64)
    if stored.shape[-1] == 4:
        values[values == 0] = np.nan
    return values


IMAGES: dict[str, tuple[tuple[str, Write], list[int] | None]] = {
    "png": (pillow(".png"), None),
    "jpeg": (pillow(".jpg"), None),
    "bmp": (pillow(".bmp"), None),
    "webp": (pillow(".webp", lossless=True), None),
    "gif": (pillow(".gif", "P"), None),
    "jp2": (pillow(".jp2"), None),
    "tiff": (pillow(".tif", compression="tiff_lzw"), None),
    "grey": (pillow(".png", "L"), None),
    "grey, one band": (pillow(".png", "L"), [1]),
    "grey of 16 bits": ((".png", grey_16), None),
    "one bit": (pillow(".png", "1"), None),
    "palette": (pillow(".png", "P"), None),
    "alpha": (pillow(".png", "RGBA"), None),
    "grey with alpha": (pillow(".png", "LA"), None),
    "CMYK TIFF": (pillow(".tif", "CMYK"), None),
    "CMYK JPEG": (pillow(".jpg", "CMYK"), None),
    "PNG of 16 bits with bands": ((".png", deep_png), [3, 1]),
    "JPEG 2000 of 16 bits with bands": ((".jp2", deep_jp2), [3, 1]),
    "GeoTIFF of four bands": ((".tif", geotiff), [4, 3, 2]),
    "floats with NaN": ((".tif", floats), [1, 2, 3]),
    "pages": ((".tif", pages), [2, 1]),
}


def write_folder(root: Path, write: Write, suffix: str, mask: Write, **about: Any) -> str:
    """Write a plain folder of scenes."""
    for seed, (split, count) in enumerate(SPLITS.items()):
        for number in range(count):
            values, labels = scene(10 * seed + number)
            for kind, how, ending, content in (
                ("images", write, suffix, values),
                ("masks", mask, ".png", labels),
            ):
                path = root / split / kind / f"{number}{ending}"
                path.parent.mkdir(parents=True, exist_ok=True)
                how(path, content)
    described = {"classes": ["ground", "box"], **about}
    (root / "dataset.yaml").write_text(yaml.safe_dump(described), encoding="utf-8")
    return str(root)


def plain(path: Path, mask: Pixels) -> None:
    Image.fromarray(mask).save(path)


def instances(path: Path, mask: Pixels) -> None:
    """Write a mask as Cityscapes' instanceIds: 26001 and 26002 are cars, 7 is ground, 3 ignored."""
    ids = np.select([mask == 0, mask == 1], [7, 26001], 3).astype(np.uint16)
    ids[:, 24:][ids[:, 24:] == 26001] = 26002
    Image.fromarray(ids).save(path)


def coloured(path: Path, mask: Pixels) -> None:
    rgb = np.zeros((*mask.shape, 3), np.uint8)
    for number, colour in COLOURS.items():
        rgb[mask == number] = colour
    Image.fromarray(rgb).save(path)


MASKS: dict[str, tuple[Write, dict[str, Any]]] = {
    "instances": (instances, {"instances": 1000, "label_map": {7: 0, 26: 1, 3: 255}}),
    "colours": (coloured, {"palette": [COLOURS[0], COLOURS[1]], "ignore_colour": COLOURS[255]}),
    "16 bits": (lambda path, mask: Image.fromarray(mask.astype(np.uint16)).save(path), {}),
    "palette": (lambda path, mask: Image.fromarray(mask).convert("P").save(path), {}),
}


def encoded(pixels: Pixels) -> bytes:
    file = io.BytesIO()
    Image.fromarray(pixels.astype(np.uint8)).save(file, "PNG")
    return file.getvalue()


def voc_of_ones_own(root: Path) -> str:
    """Write a VOC-style folder of another year, as annotation tools export it."""
    home = root / "VOC2026"
    for folder in ("JPEGImages", "SegmentationClass", "ImageSets/Segmentation"):
        (home / folder).mkdir(parents=True)
    colours = "# label:color_rgb:parts:actions\nground:0,0,0::\nbox:200,30,40::\n"
    (home / "labelmap.txt").write_text(colours)
    for seed, (split, count) in enumerate(SPLITS.items()):
        stems = [f"{split}_{number}" for number in range(count)]
        (home / f"ImageSets/Segmentation/{split}.txt").write_text("\n".join(stems))
        for number, stem in enumerate(stems):
            values, mask = scene(10 * seed + number)
            Image.fromarray(values.astype(np.uint8)).save(home / f"JPEGImages/{stem}.png")
            rgb = np.array([COLOURS[0], COLOURS[1], (224, 224, 192)], np.uint8)
            Image.fromarray(rgb[np.minimum(mask, 2)]).save(home / f"SegmentationClass/{stem}.png")
    return f"voc:{home}"


def webdataset(root: Path) -> str:
    for seed, (split, count) in enumerate(SPLITS.items()):
        with tarfile.open(root / f"{split}-0.tar", "w") as tar:
            for number in range(count):
                values, mask = scene(10 * seed + number)
                for ending, content in (("png", values), ("mask.png", mask)):
                    data = encoded(content)
                    about = tarfile.TarInfo(f"{number}.{ending}")
                    about.size = len(data)
                    tar.addfile(about, io.BytesIO(data))
    (root / "dataset.yaml").write_text("classes: [ground, box]\n")
    return f"webdataset:{root}"


def parquet(root: Path) -> str:
    datasets = pytest.importorskip("datasets")
    for seed, (split, count) in enumerate(SPLITS.items()):
        scenes = [scene(10 * seed + number) for number in range(count)]
        rows = {
            name: [{"bytes": encoded(one[n]), "path": None} for one in scenes]
            for n, name in enumerate(("image", "mask"))
        }
        kinds = datasets.Features({name: datasets.Image() for name in rows})
        datasets.Dataset.from_dict(rows, kinds).to_parquet(root / f"{split}-00000-of-00001.parquet")
    (root / "dataset.yaml").write_text("classes: [ground, box]\n")
    return f"hf:{root}"


CONTAINERS: dict[str, Callable[[Path], str]] = {
    "voc with labelmap.txt": voc_of_ones_own,
    "webdataset": webdataset,
    "parquet": parquet,
}


@pytest.fixture
def two_steps(tiny_config: Any, tmp_path: Path) -> Callable[..., None]:
    """Return a function that trains on a data set."""

    def train(source: str, bands: list[int] | None = None) -> None:
        chosen = () if bands is None else (f"data.bands={bands}",)
        steps = ("optim.steps=2", "optim.validations=1")
        config = tiny_config(*steps, *chosen, source=source)
        run = start_training(config, directory=tmp_path / "run")
        lines = (run / "metrics.jsonl").read_text(encoding="utf-8").splitlines()
        last = json.loads(lines[-1])
        assert last["step"] == 2
        assert 0 <= last["val/miou_d"] <= 100

    return train


def assert_labels(source: str, bands: Bands | None = None) -> None:
    """Labels are those of the scenes, pixel by pixel: an IoU of 1."""
    for seed, (split, count) in enumerate(SPLITS.items()):
        dataset = open_dataset(source, split, bands=bands)
        assert len(dataset) == count
        for number, sample in enumerate(dataset):
            expected = scene(10 * seed + number)[1].astype(np.int64)
            gone = sample["image"].isnan().any(0).numpy()
            np.testing.assert_array_equal(sample["target"], np.where(gone, 255, expected))


@pytest.mark.parametrize("kind", IMAGES)
def test_images(kind: str, two_steps: Callable[..., None], tmp_path: Path) -> None:
    (suffix, write), numbers = IMAGES[kind]
    root = tmp_path / "data"
    source = write_folder(root, write, suffix, plain)
    bands = numbers and Bands(tuple(numbers), ((0.0, 1.0),) * len(numbers))
    assert_labels(source, bands or None)
    for sample, path in zip(
        open_dataset(source, "train", bands=bands or None),
        sorted((root / "train" / "images").iterdir()),
        strict=True,
    ):
        expected = expected_rgb(path) if numbers is None else expected_bands(path, numbers)
        np.testing.assert_array_equal(sample["image"].permute(1, 2, 0), expected)
    two_steps(source, numbers)


@pytest.mark.parametrize("kind", MASKS)
def test_masks(kind: str, two_steps: Callable[..., None], tmp_path: Path) -> None:
    write, about = MASKS[kind]
    source = write_folder(tmp_path / "data", pillow(".png")[1], ".png", write, **about)
    assert_labels(source)
    two_steps(source)


@pytest.mark.parametrize("kind", CONTAINERS)
def test_containers(
    kind: str, two_steps: Callable[..., None], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    if kind == "parquet":
        datasets = pytest.importorskip("datasets")
        monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    (tmp_path / "data").mkdir()
    source = CONTAINERS[kind](tmp_path / "data")
    assert_labels(source)
    two_steps(source)
