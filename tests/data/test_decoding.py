"""Files that simplejpeg decodes: the same pixels as Pillow's, and Pillow for all others."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
import simplejpeg
import torch
from PIL import Image

from softiou.data import read_image, reading
from softiou.errors import DataError


@pytest.fixture
def decoded(monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Heights of the images that simplejpeg has decoded."""
    found: list[int] = []

    def call(raw: bytes) -> Any:
        pixels = simplejpeg.decode_jpeg(raw)
        found.append(len(pixels))
        return pixels

    monkeypatch.setattr(reading, "simplejpeg", SimpleNamespace(decode_jpeg=call))
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
    monkeypatch.setattr(reading, "simplejpeg", None)
    assert torch.equal(read_image(tmp_path / "a.jpg"), expected)
