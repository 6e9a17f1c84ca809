"""A teacher's soft labels through a view: the same place as the image, at every stride."""

import math
from pathlib import Path

import pytest
import torch
from torch import Tensor

from softiou.data import View
from softiou.errors import DataError
from softiou.soft_labels import (
    Manifest,
    Normalisation,
    Quantisation,
    SoftLabelReader,
    SoftLabelStore,
    Teacher,
    interpolate_at,
)

SIZE = (26, 38)  # no multiple of a stride
IMAGE = torch.zeros(3, *SIZE, dtype=torch.uint8)
CLASSES = ("a", "b", "c")


def make_reader(
    path: Path, probs: Tensor, *, stride: int, mass: float = 1.0, levels: int = 255
) -> SoftLabelReader:
    """Store the probabilities (C, h, w) of one image and open them again."""
    quantisation = Quantisation(stride=stride, mass=mass, levels=levels)
    manifest = Manifest(
        teacher=Teacher("t", "0" * 64),
        classes=CLASSES,
        ignore_index=255,
        normalisation=Normalisation((0.0,), (1.0,)),
        quantisation=quantisation,
        data="d",
    )
    store = SoftLabelStore.create(path, manifest)
    store.write("train", "image", probs, IMAGE)
    return SoftLabelReader(store, "train")


VIEWS = [
    View(0, 0, *SIZE, SIZE),
    View(3, 5, 16, 20, (16, 20), flip=True),
    View(3, 5, 16, 20, (32, 40)),  # enlarged
    View(-4, -6, 40, 50, (20, 25), flip=True),  # all of it and more, at half the size
    View(10, 20, 30, 30, (30, 30)),  # beyond the corner
]


@pytest.mark.parametrize("view", VIEWS)
def test_full_resolution_shows_what_labels_show(view: View, tmp_path: Path) -> None:
    labels = torch.randint(3, SIZE)
    probs = torch.nn.functional.one_hot(labels).movedim(-1, 0).float()
    read = make_reader(tmp_path / "s", probs, stride=1).read("image", view, IMAGE)
    shown = view.labels(labels, fill=255)
    assert torch.equal(read["soft_indices"][0].long(), shown)
    inside = view.inside(SIZE)
    assert torch.equal(read["soft_weights"].sum(0)[inside], torch.ones(int(inside.sum())))
    assert torch.equal(read["soft_indices"][0] == 255, ~inside)


def plane(rows: Tensor, columns: Tensor) -> Tensor:
    """Logits (C, h, w) that are linear in the place (in pixels): interpolation keeps them."""
    y, x = rows.view(-1, 1) / 20, columns.view(1, -1) / 20
    return torch.stack([y - x, 0.5 * x + 0 * y, 1 - y + 0 * x])


@pytest.mark.parametrize("view", VIEWS)
@pytest.mark.parametrize("stride", [2, 4])
def test_at_a_stride_the_logits_are_interpolated(stride: int, view: View, tmp_path: Path) -> None:
    cells = [math.ceil(side / stride) for side in SIZE]
    places = [(torch.arange(n) + 0.5) * (side / n) for n, side in zip(cells, SIZE, strict=True)]
    reader = make_reader(tmp_path / "s", plane(*places).softmax(0), stride=stride)
    found = reader.read("image", view, IMAGE)["soft_logits"]
    assert found.shape == (3, *(math.ceil(side / stride) for side in view.crop_px))
    # Where the centres of the crop's cells lie in the image; beyond its outer centres it is flat.
    rows, columns = (
        (start + (torch.arange(n) + 0.5) * (length / n)).clamp(outer[0], outer[-1])
        for start, length, n, outer in zip(
            (view.top, view.left), (view.height, view.width), found.shape[1:], places, strict=True
        )
    )
    expected = view.mirrored(plane(rows, columns).softmax(0))
    torch.testing.assert_close(found.float().softmax(0), expected, rtol=0, atol=0.01)


def test_absent_classes_have_no_mass(tmp_path: Path) -> None:
    # A trace at every pixel would add up to an object that the overlap losses teach.
    probs = torch.zeros(3, 7, 10)
    probs[0], probs[1, :, 5:], probs[2] = 0.9999, 0.9998, 1e-4
    probs[0, :, 5:] = 1e-4
    reader = make_reader(tmp_path / "s", probs, stride=4, mass=0.995, levels=56)
    logits = reader.read("image", VIEWS[0], IMAGE)["soft_logits"].float()
    found = logits.softmax(0)
    assert float(found[2].amax()) < 1e-6
    assert float(found[1, :, :3].amax()) < 1e-6  # away from the border of the class
    assert 1e-5 < float(found[1, :, 4].amin()) < 1e-3  # beside it, it fades


def test_an_image_of_another_content_is_refused_once_and_for_all(tmp_path: Path) -> None:
    probs = torch.full((3, *SIZE), 1 / 3)
    reader = make_reader(tmp_path / "s", probs, stride=1)
    with pytest.raises(DataError, match="'train/image': they belong to another image"):
        reader.read("image", VIEWS[0], IMAGE + 50)
    reader.read("image", VIEWS[0], IMAGE)


def test_interpolation_by_hand() -> None:
    values = torch.tensor([[[0.0, 4.0], [8.0, 12.0]]])
    found = interpolate_at(values, torch.tensor([-3.0, 0.5]), torch.tensor([0.0, 0.25, 9.0]))
    assert found.tolist() == [[[0, 1, 4], [4, 5, 8]]]
