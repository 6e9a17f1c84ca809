"""JPEGs and PNGs decoded without Pillow: the same pixels as Pillow's, and Pillow for all others."""

import struct
import zlib
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import simplejpeg
import torch
from isal import isal_zlib
from PIL import Image, ImageOps

from softiou.data import DatasetDescription, decoders, read_image
from softiou.data.reading import MaskReader, stored_image
from softiou.errors import DataError


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Heights of the images that simplejpeg has decoded."""
    found: list[int] = []

    def call(raw: bytes, **settings: Any) -> Any:
        pixels = simplejpeg.decode_jpeg(raw, **settings)
        found.append(len(pixels))
        return pixels

    monkeypatch.setattr(decoders, "simplejpeg", SimpleNamespace(decode_jpeg=call))
    return found


def picture(*shape: int) -> Image.Image:
    coarse = np.random.default_rng(0).integers(0, 256, (7, 9, *shape[2:]), np.uint8)
    return Image.fromarray(coarse).resize((shape[1], shape[0]))


@pytest.mark.parametrize("size", [(64, 96), (33, 47), (1, 1)])
@pytest.mark.parametrize(
    ("name", "settings"),
    [
        ("a.jpg", {"quality": 60}),
        ("b.jpg", {"quality": 95, "subsampling": 0}),
        ("c.jpg", {"progressive": True}),
    ],
)
def test_pixels_are_those_of_pillow(
    decoded: list[int], tmp_path: Path, size: tuple[int, int], name: str, settings: dict[str, Any]
) -> None:
    picture(*size, 3).save(tmp_path / name, **settings)
    found = read_image(tmp_path / name)
    expected = torch.from_numpy(np.array(Image.open(tmp_path / name))).permute(2, 0, 1)
    assert torch.equal(found, expected)
    assert decoded == [size[0]]


WINDOWS = [(0, 5, 0, 150), (40, 90, 20, 60), (17, 33, 101, 150), (63, 64, 0, 1), (0, 120, 0, 150)]


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("subsampling", ["4:4:4", "4:2:2", "4:2:0"])
@pytest.mark.parametrize("settings", [{}, {"progressive": True}, {"restart_marker_rows": 1}])
def test_windows_are_those_of_the_image_without_the_rows_below(
    decoded: list[int],
    tmp_path: Path,
    window: tuple[int, int, int, int],
    subsampling: str,
    settings: dict[str, Any],
) -> None:
    picture(120, 150, 3).save(tmp_path / "a.jpg", quality=90, subsampling=subsampling, **settings)
    top, bottom, left, right = window
    found = stored_image(tmp_path / "a.jpg")[..., top:bottom, left:right]
    assert torch.equal(found, read_image(tmp_path / "a.jpg")[:, top:bottom, left:right])
    assert bottom <= decoded[0] <= min(120, bottom + 31)  # whole blocks, and one more row of them


def test_several_windows_in_any_order(decoded: list[int], tmp_path: Path) -> None:
    picture(120, 150, 3).save(tmp_path / "a.jpg")
    stored, expected = stored_image(tmp_path / "a.jpg"), read_image(tmp_path / "a.jpg")
    for bottom in (40, 10, 120, 70):
        assert torch.equal(stored[..., :bottom, :], expected[:, :bottom])
    assert tuple(stored.shape) == (3, 120, 150)
    assert decoded == [120, 64, 32, 120, 96]


def test_a_file_without_an_end_is_decoded_as_a_whole(decoded: list[int], tmp_path: Path) -> None:
    picture(120, 150, 3).save(tmp_path / "a.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"a.jpg: Cannot decode the image: OSError: .*truncated"):
        stored_image(tmp_path / "a.jpg")[..., :8, :8]
    (tmp_path / "a.jpg").write_bytes(whole + bytes(100))
    assert stored_image(tmp_path / "a.jpg")[..., :8, :8].shape == (3, 8, 8)
    assert decoded == [120]


def test_upright_photographs_with_exif(decoded: list[int], tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x010F] = "maker"
    picture(120, 150, 3).save(tmp_path / "a.JPG", exif=exif)
    assert stored_image(tmp_path / "a.JPG")[..., :8, :8].shape == (3, 8, 8)
    assert decoded == [32]


@pytest.mark.parametrize("mode", ["L", "CMYK", "P", "RGB"])
def test_other_kinds_are_left_to_pillow(decoded: list[int], tmp_path: Path, mode: str) -> None:
    file = tmp_path / f"image.{'jpg' if mode in ('L', 'CMYK') else 'png'}"
    picture(8, 12, 3).convert(mode).save(file)
    read_image(file)
    assert decoded == []


def test_turned_images_are_turned(decoded: list[int], tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    picture(8, 12, 3).save(tmp_path / "a.jpg", exif=exif)
    assert read_image(tmp_path / "a.jpg").shape == (3, 12, 8)
    assert decoded == []


def test_a_part_of_a_file_is_refused_by_pillow(decoded: list[int], tmp_path: Path) -> None:
    picture(64, 96, 3).save(tmp_path / "a.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "a.jpg").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(DataError, match=r"a.jpg: Cannot decode the image: OSError: .*truncated"):
        read_image(tmp_path / "a.jpg")
    assert decoded == []


def test_without_simplejpeg(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    picture(33, 47, 3).save(tmp_path / "a.jpg")
    expected = read_image(tmp_path / "a.jpg")
    monkeypatch.setattr(decoders, "simplejpeg", None)
    assert torch.equal(read_image(tmp_path / "a.jpg"), expected)


def filtered_png(pixels: np.ndarray[Any, Any], kinds: Sequence[int], file: Path) -> None:
    """Write a PNG whose rows have certain filters, in a chunk for each thousand bytes."""
    height, line, bands = len(pixels), pixels[0].size, 1 if pixels.ndim == 2 else pixels.shape[2]
    values = np.zeros((height + 1, line + bands), np.int64)
    values[1:, bands:] = pixels.reshape(height, line)
    a, b, c = values[1:, :-bands], values[:-1, bands:], values[:-1, :-bands]
    near = np.abs(a + b - c - np.stack([a, b, c])).argmin(0)  # the first of equal ones
    paeth = np.choose(near, [a, b, c])
    guesses = np.stack([0 * a, a, b, (a + b) // 2, paeth])
    rows = [
        bytes([kind]) + (values[row + 1, bands:] - guesses[kind, row]).astype(np.uint8).tobytes()
        for row, kind in enumerate(kinds)
    ]
    data = zlib.compress(b"".join(rows))
    header = struct.pack(">IIBBBBB", pixels.shape[1], height, 8, 2 if bands == 3 else 0, 0, 0, 0)
    parts = [(b"IDAT", data[start : start + 1000]) for start in range(0, len(data), 1000)]
    content = b"\x89PNG\r\n\x1a\n"
    for kind, part in [(b"IHDR", header), *parts, (b"IEND", b"")]:
        content += struct.pack(">I", len(part)) + kind + part
        content += struct.pack(">I", zlib.crc32(kind + part))
    file.write_bytes(content)


@pytest.fixture(params=["isal", "zlib"])
def inflated(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Bytes of pixels that were inflated without Pillow, by either library."""
    library, found = {"isal": isal_zlib, "zlib": zlib}[request.param], list[int]()

    def make() -> Any:
        whole = library.decompressobj()

        def decompress(data: bytes, most: int) -> bytes:
            pixels: bytes = whole.decompress(data, most)
            found.append(len(pixels))
            return pixels

        return SimpleNamespace(decompress=decompress)

    monkeypatch.setattr(decoders, "inflating", SimpleNamespace(decompressobj=make))
    return found


@pytest.mark.parametrize("shape", [(40, 31, 3), (1, 1, 3), (5, 1, 3), (2, 300, 3)])
def test_png_of_every_filter(
    inflated: list[int], tmp_path: Path, shape: tuple[int, int, int]
) -> None:
    random = np.random.default_rng(1)
    pixels = random.integers(0, 256, shape, np.uint8)
    for shift in range(5):
        kinds = [(row + shift) % 5 for row in range(shape[0])]
        filtered_png(pixels, kinds, tmp_path / "a.png")
        assert np.array_equal(np.array(Image.open(tmp_path / "a.png")), pixels)
        found = read_image(tmp_path / "a.png")
        assert np.array_equal(found.permute(1, 2, 0).numpy(), pixels)
        rows = slice(shape[0] // 3, shape[0] // 2 + 1)
        part = stored_image(tmp_path / "a.png")[..., rows, 1:]
        assert torch.equal(part, found[:, rows, 1:])
        line = 1 + 3 * shape[1]
        assert inflated[-2:] == [shape[0] * line, rows.stop * line]


@pytest.mark.parametrize("mode", ["L", "P"])
def test_masks_of_every_filter_in_parts(inflated: list[int], tmp_path: Path, mode: str) -> None:
    labels = np.random.default_rng(2).integers(0, 3, (30, 41), np.uint8)
    file = tmp_path / "mask.png"
    filtered_png(labels, [row % 5 for row in range(30)], file)
    if mode == "P":
        palette = Image.fromarray(labels, "P")
        palette.putpalette([value for number in range(256) for value in (number, 0, 80)])
        palette.save(file)
    reader = MaskReader(DatasetDescription(("a", "b", "c")), label_map={0: 2, 1: 0, 2: 1})
    expected = np.array([2, 0, 1])[labels]
    assert np.array_equal(reader.read(file).numpy(), expected)
    part, size = reader.part(file, (slice(4, 9), slice(10, 41)))
    assert np.array_equal(part.numpy(), expected[4:9, 10:])
    assert tuple(size) == (30, 41)
    assert inflated == [30 * 42, 9 * 42]


def test_pngs_that_hold_more_are_left_to_pillow(inflated: list[int], tmp_path: Path) -> None:
    colours = picture(20, 30, 3)
    exif = Image.Exif()
    exif[0x0112] = 6
    colours.save(tmp_path / "exif.png", exif=exif)
    colours.convert("RGBA").save(tmp_path / "alpha.png")
    colours.save(tmp_path / "clear.png", transparency=(1, 2, 3))
    colours.convert("L").save(tmp_path / "grey.png")
    colours.quantize(8).save(tmp_path / "palette.png")
    for file in sorted(tmp_path.iterdir()):
        expected = ImageOps.exif_transpose(Image.open(file)).convert("RGBA").convert("RGB")
        assert np.array_equal(read_image(file).permute(1, 2, 0).numpy(), np.array(expected))
    assert inflated == []


@pytest.mark.parametrize("damage", ["cut", "filter", "stream"])
def test_damaged_pngs_are_explained(inflated: list[int], tmp_path: Path, damage: str) -> None:
    file = tmp_path / "a.png"
    filtered_png(np.full((20, 30, 3), 7, np.uint8), [1] * 20, file)
    content = bytearray(file.read_bytes())
    if damage == "cut":
        del content[-40:]
    elif damage == "stream":
        content[content.index(b"IDAT") + 8] ^= 0xFF
    else:
        data = zlib.compress(b"".join(bytes([9]) + bytes(90) for _ in range(20)))
        start, end = content.index(b"IDAT"), content.index(b"IEND") - 4
        content[start - 4 : end] = struct.pack(">I", len(data)) + b"IDAT" + data
        content[end - 4 : end - 4] = struct.pack(">I", zlib.crc32(b"IDAT" + data))
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"a.png: Cannot decode the image"):
        stored_image(file)[..., :10, :10]
