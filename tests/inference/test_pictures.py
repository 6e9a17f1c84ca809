"""Class indices as pictures."""

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from softiou.data import DatasetDescription
from softiou.inference import encode_image, index_image, overlay

CLASSES = DatasetDescription(
    ("ground", "box", "disc"), palette=((9, 9, 9), (200, 0, 0), (0, 0, 90))
)


def _read(picture: Image.Image) -> Any:
    """Write and read a picture as PNG."""
    buffer = io.BytesIO(encode_image(picture, "PNG"))
    with Image.open(buffer) as opened:
        return opened.mode, np.asarray(opened)


@pytest.mark.parametrize("num_classes", [2, 3, 17, 255])
def test_index_image_keeps_every_value(num_classes: int) -> None:
    palette = DatasetDescription(tuple(map(str, range(num_classes)))).palette
    indices = torch.tensor([[0, 1, num_classes - 1, 255]])
    mode, values = _read(index_image(indices, palette))
    assert mode == "P"
    # With the palette of two classes alone, Pillow would write one bit a pixel.
    assert values.tolist() == indices.tolist()


def test_index_image_has_the_colours_of_the_classes() -> None:
    picture = index_image(torch.tensor([[0, 1, 2, 255]]), CLASSES.palette)
    colours = np.asarray(picture.convert("RGB"))[0].tolist()
    assert colours == [[9, 9, 9], [200, 0, 0], [0, 0, 90], [0, 0, 0]]


def test_many_classes_take_sixteen_bits() -> None:
    palette = DatasetDescription(tuple(map(str, range(300)))).palette
    mode, values = _read(index_image(torch.tensor([[0, 255, 299, 65535]]), palette))
    assert mode.startswith("I")
    assert values.tolist() == [[0, 255, 299, 65535]]


@pytest.mark.parametrize("ignored", [-1, -100, 1000])
def test_ignored_pixels_never_look_like_a_class(ignored: int) -> None:
    _, values = _read(index_image(torch.tensor([[0, ignored]]), CLASSES.palette))
    assert values.tolist() == [[0, 255]]
    palette = DatasetDescription(tuple(map(str, range(256)))).palette
    _, values = _read(index_image(torch.tensor([[255, -1]]), palette))
    assert values.tolist() == [[255, 65535]]


def test_overlay_mixes_image_and_colours() -> None:
    image = torch.full((3, 1, 2), 100, dtype=torch.uint8)
    mixed = overlay(image, torch.tensor([[0, 1]]), CLASSES.palette, opacity=0.25)
    # Three quarters of 100, and a quarter of the colours of ground and box.
    assert np.asarray(mixed).tolist() == [[[77, 77, 77], [125, 75, 75]]]
