"""Prediction: probabilities at the image's own size, and the files that hold them."""

import io
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from softiou.data import DatasetDescription
from softiou.errors import DataError, RunExistsError
from softiou.inference import (
    MaskWriter,
    best_device,
    best_precision,
    encode_image,
    find_images,
    index_image,
    overlay,
    predict_probs,
)
from softiou.models import ModelSpec, SegmentationModel

CLASSES = DatasetDescription(
    ("ground", "box", "disc"), palette=((9, 9, 9), (200, 0, 0), (0, 0, 90))
)


@pytest.fixture(scope="module")
def model() -> SegmentationModel:
    torch.manual_seed(0)
    return SegmentationModel(ModelSpec("fpn", "tu-test_efficientnet", 3)).eval()


@pytest.fixture
def images(tmp_path: Path) -> list[Path]:
    """Three pictures of different sizes, kinds and modes."""
    random = np.random.default_rng(0)
    folder = tmp_path / "images"
    folder.mkdir()
    for name, shape in (("a.png", (33, 47, 3)), ("b.jpg", (64, 20, 3)), ("c.PNG", (1, 1))):
        Image.fromarray(random.integers(0, 256, shape, dtype=np.uint8)).save(folder / name)
    return find_images(folder)


def _writer(model: SegmentationModel, out: Path, **options: Any) -> MaskWriter:
    return MaskWriter(model, CLASSES, out, "fp32", **options)


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize("size", [(1, 1), (33, 47), (64, 64), (100, 3)])
def test_probabilities_have_the_size_of_the_image_and_sum_to_one(
    model: SegmentationModel, size: tuple[int, int], precision: Any
) -> None:
    image = torch.randint(0, 256, (3, *size), dtype=torch.uint8)
    probs = predict_probs(model, image, precision=precision)
    assert probs.shape == (3, *size)
    assert probs.dtype == torch.float32
    assert probs.min() >= 0
    torch.testing.assert_close(probs.sum(0), torch.ones(size))


def test_probabilities_are_the_softmax_of_the_logits(model: SegmentationModel) -> None:
    image = torch.rand(3, 33, 47)
    with torch.inference_mode():
        expected = model.predict_logits(image.unsqueeze(0)).softmax(1)[0]
    torch.testing.assert_close(predict_probs(model, image, precision="fp32"), expected)


def test_precision_follows_the_hardware() -> None:
    assert best_device().type in ("cpu", "cuda", "mps", "xpu")
    assert best_precision(torch.device("mps")) == "fp32"


# Index images


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


# Files


def test_masks_have_the_size_of_their_images(
    model: SegmentationModel, images: list[Path], tmp_path: Path
) -> None:
    writer = _writer(model, tmp_path / "new" / "out")
    writer.prepare(images, overwrite=False)
    for file in images:
        writer.write(file)
        with Image.open(file) as image, Image.open(writer.paths(file)[0]) as mask:
            assert mask.size == image.size
            assert mask.mode == "P"
            rgb = torch.from_numpy(np.array(image.convert("RGB"))).permute(2, 0, 1)
            probs = predict_probs(model, rgb, precision="fp32")
            assert np.asarray(mask).tolist() == probs.argmax(0).tolist()
    assert {path.name for path in writer.out.iterdir()} == {"a.png", "b.png", "c.png"}


def test_probabilities_and_overlays_on_request(
    model: SegmentationModel, images: list[Path], tmp_path: Path
) -> None:
    writer = _writer(model, tmp_path / "out", probabilities=True, overlays=True)
    writer.prepare(images[:1], overwrite=False)
    writer.write(images[0])
    names = sorted(path.name for path in writer.out.iterdir())
    assert names == ["a.overlay.jpg", "a.png", "a.probs.npy"]
    probs = np.load(writer.out / "a.probs.npy")
    assert (probs.dtype, probs.shape) == (np.float16, (3, 33, 47))
    assert np.abs(probs.astype(np.float32).sum(0) - 1).max() < 0.002
    with Image.open(writer.out / "a.png") as mask:
        assert (np.asarray(mask) == probs.argmax(0)).mean() > 0.99  # float16 makes ties
    with Image.open(writer.out / "a.overlay.jpg") as picture:
        assert (picture.mode, picture.size) == ("RGB", (47, 33))


def test_images_are_found_by_name_and_suffix(images: list[Path], tmp_path: Path) -> None:
    folder = tmp_path / "images"
    (folder / "notes.txt").touch()
    (folder / "._a.jpg").touch()  # macOS puts these beside the real ones
    assert find_images(folder) == images
    assert [file.name for file in images] == ["a.png", "b.jpg", "c.PNG"]
    assert find_images(images[1]) == [images[1]]


def test_no_images_is_an_error(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="holds no images"):
        find_images(tmp_path)
    with pytest.raises(DataError, match="does not exist"):
        find_images(tmp_path / "nowhere")


def test_two_images_of_one_stem_are_refused(model: SegmentationModel, tmp_path: Path) -> None:
    files = [tmp_path / "a.png", tmp_path / "a.jpg"]
    with pytest.raises(DataError, match=r"a\.png and .*a\.jpg would write the same mask"):
        _writer(model, tmp_path / "out").prepare(files, overwrite=True)
    assert not (tmp_path / "out").exists()


def test_existing_results_are_refused_and_untouched(
    model: SegmentationModel, images: list[Path], tmp_path: Path
) -> None:
    (tmp_path / "b.png").write_text("mine")
    writer = _writer(model, tmp_path)
    with pytest.raises(RunExistsError, match=r"1 results exist already, such as .*b\.png"):
        writer.prepare(images, overwrite=False)
    assert (tmp_path / "b.png").read_text() == "mine"
    writer.prepare(images, overwrite=True)


def test_images_are_never_replaced_by_their_masks(
    model: SegmentationModel, images: list[Path], tmp_path: Path
) -> None:
    for overwrite in (False, True):
        with pytest.raises(DataError, match=r"would replace the image .*a\.png"):
            _writer(model, tmp_path / "images").prepare(images, overwrite=overwrite)


def test_corrupt_image_leaves_no_file(
    model: SegmentationModel, images: list[Path], tmp_path: Path
) -> None:
    images[0].write_bytes(images[0].read_bytes()[:50])
    writer = _writer(model, tmp_path / "out")
    writer.prepare(images, overwrite=False)
    with pytest.raises(DataError, match=r"a\.png: Cannot decode the image"):
        writer.write(images[0])
    assert list(writer.out.iterdir()) == []
