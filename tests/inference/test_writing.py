"""Predicted image files: masks, probabilities and overlays, each whole or not there."""

import resource
import stat
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from softiou._files import atomic_file
from softiou.data import DatasetDescription
from softiou.errors import DataError, RunExistsError
from softiou.inference import (
    InferenceSettings,
    MaskWriter,
    ModelPredictor,
    find_images,
    predict_probs,
    writing,
)
from softiou.inference.writing import ProbabilityFile
from softiou.models import ModelSpec, SegmentationModel
from softiou.temperature import LogitScaling

WINDOWS = InferenceSettings(window_px=(16, 16), flips=True, batch_size=2)
COLD = LogitScaling("vector", (3.0, 2.0, 1.0), (0.5, 0.0, 0.0))

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


def _writer(
    model: SegmentationModel, out: Path, *, scaling: LogitScaling | None = None, **options: Any
) -> MaskWriter:
    return MaskWriter(ModelPredictor(model, "fp32", scaling), CLASSES, out, **options)


# Files


def test_replacing_leaves_nothing_of_another_model(
    model: SegmentationModel, images: list[Path], tmp_path: Path
) -> None:
    out = tmp_path / "out"
    first = _writer(model, out, probabilities=True, overlays=True)
    first.prepare(images[:2], overwrite=False)
    for file in images[:2]:
        first.write(file)
    second = _writer(model, out, overlays=True)
    second.prepare(images[:1], overwrite=True)
    assert not (out / "a.probs.npy").exists()
    kept = {"a.png", "a.overlay.jpg", "b.png", "b.probs.npy", "b.overlay.jpg"}
    assert {path.name for path in out.iterdir()} == kept


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
    with pytest.raises(DataError, match="contains no images"):
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
    with pytest.raises(RunExistsError, match=r"1 results already exist, such as .*b\.png"):
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


def test_windows_and_scaling_reach_the_files(
    model: SegmentationModel, images: list[Path], tmp_path: Path
) -> None:
    writer = _writer(
        model, tmp_path / "out", probabilities=True, overlays=True, settings=WINDOWS, scaling=COLD
    )
    writer.prepare(images[:1], overwrite=False)
    writer.write(images[0])
    with Image.open(images[0]) as image:
        rgb = torch.from_numpy(np.array(image)).permute(2, 0, 1)
    expected = predict_probs(model, rgb, precision="fp32", settings=WINDOWS, scaling=COLD)
    probs = np.load(writer.out / "a.probs.npy", mmap_mode="r")
    assert probs.dtype == np.float16
    np.testing.assert_array_equal(probs, expected.half().numpy())
    with Image.open(writer.out / "a.png") as mask:
        np.testing.assert_array_equal(np.asarray(mask), expected.argmax(0).numpy())


def test_many_classes_are_written_with_sixteen_bits(tmp_path: Path, images: list[Path]) -> None:
    names = tuple(map(str, range(300)))
    spec = ModelSpec("linknet", "tu-test_efficientnet", 300)
    many = SegmentationModel(spec).eval()
    writer = MaskWriter(
        ModelPredictor(many, "fp32"),
        DatasetDescription(names),
        tmp_path / "out",
        overlays=True,
        settings=WINDOWS,
    )
    writer.prepare(images[:1], overwrite=False)
    writer.write(images[0])
    with Image.open(writer.out / "a.png") as mask, Image.open(images[0]) as image:
        rgb = torch.from_numpy(np.array(image)).permute(2, 0, 1)
        found = np.asarray(mask)
    probs = predict_probs(many, rgb, precision="fp32", settings=WINDOWS)
    assert probs.argmax(0).max() > 255
    np.testing.assert_array_equal(found, probs.argmax(0).numpy())


def test_large_images_need_windows(
    model: SegmentationModel, images: list[Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(writing, "_LARGEST_PASS", 33 * 47 - 1)
    writer = _writer(model, tmp_path / "out")
    writer.prepare(images[:1], overwrite=False)
    with pytest.raises(DataError, match=r"a\.png has 47 x 33 pixels, too many .* --window 1024"):
        writer.write(images[0])
    assert list(writer.out.iterdir()) == []
    _writer(model, tmp_path / "out", settings=WINDOWS).write(images[0])


class _Interrupted(BaseException):
    """Stands for Ctrl-C: KeyboardInterrupt itself would end the tests when it is not caught."""


@pytest.mark.parametrize("earlier", [None, b"from before"])
def test_interrupt_leaves_whole_files_or_none(
    model: SegmentationModel,
    images: list[Path],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    earlier: bytes | None,
) -> None:
    writer = _writer(model, tmp_path / "out", probabilities=True, settings=WINDOWS)
    writer.prepare(images, overwrite=False)
    writer.write(images[0])
    before = {path.name: path.read_bytes() for path in writer.out.iterdir()}
    if earlier is not None:
        before["b.probs.npy"] = earlier
        (writer.out / "b.probs.npy").write_bytes(earlier)
    whole = ProbabilityFile.write

    def interrupt(self: ProbabilityFile, rows: slice, probs: Any) -> None:
        whole(self, rows, probs)
        if rows.start > 0:
            assert any(path.name.startswith(".tmp-") for path in writer.out.iterdir())
            raise _Interrupted

    monkeypatch.setattr(ProbabilityFile, "write", interrupt)
    with pytest.raises(_Interrupted):
        writer.write(images[1])
    assert {path.name: path.read_bytes() for path in writer.out.iterdir()} == before


def test_the_name_appears_when_all_is_written(tmp_path: Path) -> None:
    """A process that is killed before leaves a hidden file alone."""
    path = tmp_path / "a.probs.npy"
    with atomic_file(path) as opened:
        file = ProbabilityFile(opened, (2, 4, 3))
        file.write(slice(0, 4), torch.rand(2, 4, 3))
        assert not path.exists()
        assert [p.name.startswith(".tmp-") for p in tmp_path.iterdir()] == [True]
    assert path.exists()


def test_bands_find_their_place_in_the_file(tmp_path: Path) -> None:
    probs = torch.rand(3, 7, 5)
    path = tmp_path / "a.npy"
    with atomic_file(path) as opened:
        file = ProbabilityFile(opened, (3, 7, 5))
        for rows in (slice(5, 7), slice(0, 2), slice(2, 5)):
            file.write(rows, probs[:, rows])
    np.testing.assert_array_equal(np.load(path), probs.half().numpy())
    np.save(tmp_path / "b.npy", probs.half().numpy())
    assert path.read_bytes() == (tmp_path / "b.npy").read_bytes()
    other = tmp_path / "b.npy"
    assert stat.S_IMODE(path.stat().st_mode) == stat.S_IMODE(other.stat().st_mode)


def test_a_full_disk_is_an_error_that_leaves_nothing(tmp_path: Path) -> None:
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with (
            pytest.raises(OSError, match="File too large"),
            atomic_file(tmp_path / "a.npy") as opened,
        ):
            ProbabilityFile(opened, (2, 100, 100)).write(slice(0, 100), torch.rand(2, 100, 100))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert list(tmp_path.iterdir()) == []
