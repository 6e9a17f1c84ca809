"""Pictures as people have them: nothing in a file is left out in silence.

Each kind is read, or refused with a message that says what was found and what to do.
"""

import struct
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import EpsImagePlugin, Image

from softiou.checking import check_dataset
from softiou.data import DatasetDescription, open_dataset, read_image, reading
from softiou.data.reading import MaskReader
from softiou.errors import DataError
from softiou.inference import find_images
from softiou.reports.pictures import open_image as open_picture

Pixels = NDArray[Any]
RANDOM = np.random.default_rng(0)
COLOURS = RANDOM.integers(1, 256, (6, 8, 3), dtype=np.uint8)


def write_png(
    path: Path, rows: list[bytes], size: tuple[int, int], *, bits: int, kind: int
) -> Path:
    """Write a PNG of any depth: `kind` is 0 for grey, 2 for RGB; `size` is (H, W)."""

    def chunk(name: bytes, content: bytes) -> bytes:
        check = struct.pack(">I", zlib.crc32(name + content))
        return struct.pack(">I", len(content)) + name + content + check

    header = struct.pack(">IIBBBBB", size[1], size[0], bits, kind, 0, 0, 0)
    data = zlib.compress(b"".join(b"\0" + row for row in rows))
    content = chunk(b"IHDR", header) + chunk(b"IDAT", data) + chunk(b"IEND", b"")
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + content)
    return path


def write_tiff(path: Path, pixels: Pixels, *, extra: int = 0) -> Path:
    """Write an uncompressed TIFF of any dtype and number of bands (H, W, B)."""
    height, width, bands = pixels.shape
    data = np.ascontiguousarray(pixels).astype(pixels.dtype.newbyteorder("<")).tobytes()
    tags = {256: [width], 257: [height], 258: [pixels.itemsize * 8] * bands, 259: [1], 262: [2]}
    tags |= {273: [0], 277: [bands], 278: [height], 279: [len(data)], 284: [1]}
    tags |= {338: [extra] * (bands - 3)} if bands > 3 else {}
    tags[339] = [{"u": 1, "f": 3}[pixels.dtype.kind]] * bands
    start, behind, fields = 8 + 2 + 12 * len(tags) + 4, b"", b""
    tags[273] = [start + sum(2 * len(v) for v in tags.values() if len(v) > 2)]
    for tag, values in tags.items():
        wide = tag in (273, 279)
        packed = b"".join(struct.pack("<I" if wide else "<H", value) for value in values)
        if len(packed) > 4:
            packed, behind = struct.pack("<I", start + len(behind)), behind + packed
        fields += struct.pack("<HHI", tag, 4 if wide else 3, len(values)) + packed.ljust(4, b"\0")
    head = b"II*\0" + struct.pack("<IH", 8, len(tags))
    path.write_bytes(head + fields + bytes(4) + behind + data)
    return path


def png_of_16_bits(path: Path, pixels: Pixels) -> Path:
    rows = [row.astype(">u2").tobytes() for row in pixels]
    return write_png(path, rows, pixels.shape[:2], bits=16, kind=2)


@pytest.mark.parametrize("suffix", [".png", ".tif"])
@pytest.mark.parametrize(("factor", "dark"), [(16, True), (8, True), (1, True), (256, False)])
def test_rgb_of_16_bits_that_holds_8_to_12(
    suffix: str, factor: int, dark: bool, tmp_path: Path
) -> None:
    write = png_of_16_bits if suffix == ".png" else write_tiff
    path = write(tmp_path / f"a{suffix}", COLOURS.astype(np.uint16) * factor)
    if dark:
        with pytest.raises(DataError, match=rf"a\{suffix}.*none of 4096 or more.*stretch"):
            read_image(path)
    else:
        assert np.array_equal(read_image(path).permute(1, 2, 0), COLOURS)


def test_grey_of_16_bits(tmp_path: Path) -> None:
    path = tmp_path / "a.png"
    Image.fromarray(np.array([[0, 4095]], np.uint16)).save(path)
    with pytest.raises(DataError, match="none of 4096 or more"):
        read_image(path)
    Image.fromarray(np.array([[0, 4096]], np.uint16)).save(path)
    assert read_image(path)[0].tolist() == [[0, 16]]
    Image.fromarray(np.zeros((1, 2), np.uint16)).save(path)
    assert read_image(path)[0].tolist() == [[0, 0]]


@pytest.mark.parametrize("suffix", [".tif", ".gif", ".png", ".webp"])
def test_pages_and_frames(suffix: str, tmp_path: Path) -> None:
    pages = [Image.fromarray(np.roll(COLOURS, n, 0)) for n in range(3)]
    path = tmp_path / f"a{suffix}"
    pages[0].save(path, save_all=True, append_images=pages[1:])
    with pytest.raises(DataError, match="Expected one image, but found 3 pages or frames"):
        read_image(path)
    pages[0].save(path)
    assert read_image(path).shape == (3, 6, 8)


def test_smaller_copies_in_a_tiff_are_no_pages(tmp_path: Path) -> None:
    path, picture = tmp_path / "a.tif", Image.fromarray(COLOURS)
    small = picture.resize((4, 3))
    small.encoderinfo = {"tiffinfo": {254: 1}}
    picture.save(path, save_all=True, append_images=[small])
    assert np.array_equal(read_image(path).permute(1, 2, 0), COLOURS)


def test_previews_of_a_camera_are_no_pages(tmp_path: Path) -> None:
    path, picture = tmp_path / "a.jpg", Image.fromarray(COLOURS)
    picture.save(path, "MPO", save_all=True, append_images=[picture.resize((4, 3))])
    assert read_image(path).shape == (3, 6, 8)


@pytest.mark.parametrize("bands", [4, 5, 8])
def test_more_bands_than_three(bands: int, tmp_path: Path) -> None:
    pixels = RANDOM.integers(0, 256, (6, 8, bands), dtype=np.uint8)
    path = write_tiff(tmp_path / "a.tif", pixels)
    with pytest.raises(DataError, match=rf"a\.tif: .*(found {bands} bands|Cannot decode)"):
        read_image(path)


def test_transparency_is_no_band(tmp_path: Path) -> None:
    pixels = np.dstack([COLOURS, np.full((6, 8), 255, np.uint8)])
    path = write_tiff(tmp_path / "a.tif", pixels, extra=2)
    assert np.array_equal(read_image(path).permute(1, 2, 0), COLOURS)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_floating_rgb(dtype: Any, tmp_path: Path) -> None:
    path = write_tiff(tmp_path / "a.tif", (COLOURS / 255).astype(dtype))
    bits = np.dtype(dtype).itemsize * 8
    with pytest.raises(DataError, match=rf"3 bands of {bits}-bit floating-point values.*Scale"):
        read_image(path)


def test_cmyk(tmp_path: Path) -> None:
    inks = np.array([[[0, 0, 0, 0], [0, 0, 0, 255]], [[255, 0, 0, 0], [0, 255, 255, 0]]], np.uint8)
    Image.fromarray(inks, "CMYK").save(tmp_path / "a.tif")
    expected = [[[255] * 3, [0] * 3], [[0, 255, 255], [255, 0, 0]]]
    assert read_image(tmp_path / "a.tif").permute(1, 2, 0).tolist() == expected


@pytest.mark.parametrize(("rows", "complete"), [(3, False), (5, False), (6, True)])
def test_a_png_that_ends_early_with_valid_checksums(
    rows: int, complete: bool, tmp_path: Path
) -> None:
    content = [row.tobytes() for row in COLOURS[:rows]]
    path = write_png(tmp_path / "a.png", content, (6, 8), bits=8, kind=2)
    if complete:
        assert np.array_equal(read_image(path).permute(1, 2, 0), COLOURS)
    else:
        with pytest.raises(DataError, match=r"a\.png.*bytes of pixels instead of 150"):
            read_image(path)


def test_a_black_last_row_is_complete(tmp_path: Path) -> None:
    for mode in ("RGB", "L", "1", "P", "RGBA", "LA"):
        for size in ((5, 3), (9, 4)):
            Image.new(mode, size).save(tmp_path / "a.png")
            assert read_image(tmp_path / "a.png").shape == (3, size[1], size[0])


READER = MaskReader(DatasetDescription(("ground", "box", "disc")), label_map={})


@pytest.mark.parametrize("bits", [1, 2, 4])
def test_grey_masks_of_few_bits_keep_their_numbers(bits: int, tmp_path: Path) -> None:
    classes = RANDOM.integers(0, min(3, 1 << bits), (5, 8))
    classes[0, :2] = 0, 1
    packed = [
        bytes(
            sum(int(v) << (8 - bits * (k + 1)) for k, v in enumerate(row[at : at + 8 // bits]))
            for at in range(0, 8, 8 // bits)
        )
        for row in classes
    ]
    path = write_png(tmp_path / "a.png", packed, (5, 8), bits=bits, kind=0)
    assert np.array_equal(READER.read(path), classes)


def test_a_mask_that_ends_early(tmp_path: Path) -> None:
    path = write_png(tmp_path / "a.png", [b"\1" * 8] * 2, (5, 8), bits=8, kind=0)
    with pytest.raises(DataError, match="bytes of pixels instead of 45"):
        READER.read(path)


def _indexed(path: Path, numbers: list[int], colours: list[tuple[int, int, int]]) -> Path:
    image = Image.fromarray(np.array([numbers], np.uint8))
    image.putpalette([channel for colour in colours for channel in colour])
    path.parent.mkdir(parents=True, exist_ok=True)
    image.save(path)
    return path


RED, GREEN, BLACK = (255, 0, 0), (0, 255, 0), (0, 0, 0)


def test_palettes_that_number_the_colours_anew(tmp_path: Path) -> None:
    reader = MaskReader(READER.description, label_map={})
    first = _indexed(tmp_path / "1.png", [0, 1, 2], [BLACK, RED, GREEN])
    same = _indexed(tmp_path / "2.png", [2, 0, 2], [BLACK, BLACK, GREEN])  # 1 is not used
    grey = _indexed(tmp_path / "3.png", [1, 2, 0], [(n, n, n) for n in range(3)])
    other = _indexed(tmp_path / "4.png", [0, 2, 1], [BLACK, GREEN, RED])
    assert [reader.read(path).tolist()[0] for path in (first, same, grey)] == [
        [0, 1, 2],
        [2, 0, 2],
        [1, 2, 0],
    ]
    message = r"4\.png: Value 1 has the palette colour \(0, 255, 0\), but \(255, 0, 0\) in .*1\.png"
    with pytest.raises(DataError, match=message):
        reader.read(other)


def test_check_and_training_agree_on_palettes(tmp_path: Path) -> None:
    (tmp_path / "dataset.yaml").write_text("classes: [ground, box, disc]\n", encoding="utf-8")
    (tmp_path / "train/images").mkdir(parents=True)
    for n, colours in enumerate([[BLACK, RED, GREEN], [BLACK, GREEN, RED]]):
        _indexed(tmp_path / f"train/masks/{n}.png", [0, 1, 2], colours)
        Image.new("RGB", (3, 1), (n, 9, 9)).save(tmp_path / f"train/images/{n}.png")
    assert "mask_palette" in {problem.kind for problem in check_dataset(tmp_path).problems}
    with pytest.raises(DataError, match="has the palette colour"):
        list(open_dataset(tmp_path, "train"))


@pytest.mark.parametrize("suffix", [".bmp", ".jfif", ".gif", ".JPG", ".webp", ".tiff"])
def test_every_common_format_is_an_image(suffix: str, tmp_path: Path) -> None:
    kind = {".jfif": "JPEG", ".jpg": "JPEG"}.get(suffix.lower())
    Image.fromarray(COLOURS).save(tmp_path / f"a{suffix}", kind)
    assert find_images(tmp_path) == [tmp_path / f"a{suffix}"]
    assert read_image(tmp_path / f"a{suffix}").shape == (3, 6, 8)


@pytest.mark.parametrize("ending", ["png", "eps"])
def test_a_picture_that_is_a_program_is_not_run(
    ending: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    interpreter = tmp_path / "gs"
    interpreter.write_text(f"#!/bin/sh\ntouch {tmp_path}/run\n")
    interpreter.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path), prepend=":")
    monkeypatch.setattr(EpsImagePlugin, "gs_binary", None)
    path = tmp_path / f"a.{ending}"
    path.write_text("%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 10 10\n%%EndComments\nshowpage\n")
    for read in (read_image, open_picture):
        with pytest.raises(DataError, match=r"a\.(png|eps)"):
            read(path)
    assert not (tmp_path / "run").exists()
    with suppress(OSError), Image.open(path) as image:  # what Pillow does by itself
        image.load()
    assert (tmp_path / "run").exists()


def test_scenes_beyond_the_limit_of_pillow(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Image, "MAX_IMAGE_PIXELS", 10)
    for name, how in (("a.png", {}), ("a.tif", {}), ("b.tif", {"compression": "tiff_lzw"})):
        Image.fromarray(COLOURS).save(tmp_path / name, **how)
        assert np.array_equal(read_image(tmp_path / name).permute(1, 2, 0), COLOURS)
    assert Image.MAX_IMAGE_PIXELS == 10  # that of other code is left alone
    monkeypatch.setattr(reading, "_LARGEST_PX", 47)
    with pytest.raises(DataError, match="Expected at most 2\\^30 pixels, but found 8 x 6"):
        read_image(tmp_path / "a.png")
