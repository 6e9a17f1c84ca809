"""Labelling: the right probabilities at the right places, each image once."""

import json
from pathlib import Path
from typing import Any

import pytest
import torch
import torch.nn.functional as F

from softiou._validation import validated
from softiou.checkpoints import TrainedModel, file_sha256, load_trained
from softiou.data import open_dataset, open_images
from softiou.errors import ConfigError, DataError
from softiou.labelling import (
    TeacherSettings,
    cell_probs,
    label,
    logits_stride,
    make_manifest,
    own_part,
)
from softiou.models import ModelSpec, SegmentationModel
from softiou.soft_labels import Manifest, Quantisation, SoftLabelStore
from softiou.temperature import LogitScaling


@pytest.fixture(scope="module")
def teacher(trained: Any) -> TrainedModel:
    return load_trained(trained.directory)


def test_full_resolution_is_what_the_model_predicts(teacher: TrainedModel) -> None:
    image = torch.randint(256, (3, 40, 48), dtype=torch.uint8)  # padded to 64 x 64 inside
    with torch.no_grad():
        expected = teacher.model.predict_logits(image.unsqueeze(0)).softmax(1)[0]
    found = cell_probs(teacher.model, image, stride=1, precision="fp32")
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_own_stride_is_the_logits_themselves(teacher: TrainedModel) -> None:
    stride = logits_stride(teacher.model)
    image = torch.randint(256, (3, 64, 32), dtype=torch.uint8)  # nothing is padded
    with torch.no_grad():
        expected = teacher.model(image.unsqueeze(0)).softmax(1)[0]
    found = cell_probs(teacher.model, image, stride=stride, precision="fp32")
    assert found.shape == (3, 64 // stride, 32 // stride)
    torch.testing.assert_close(found, expected, rtol=1e-4, atol=1e-5)


def test_sides_that_the_stride_does_not_divide(teacher: TrainedModel) -> None:
    image = torch.zeros(3, 41, 30, dtype=torch.uint8)
    found = cell_probs(teacher.model, image, stride=4, precision="fp32")
    assert found.shape == (3, 11, 8)
    torch.testing.assert_close(found.sum(0), torch.ones(11, 8))


@pytest.mark.parametrize(("architecture", "stride"), [("unet", 1), ("fpn", 4)])
def test_stride_of_the_logits(architecture: str, stride: int) -> None:
    model = SegmentationModel(ModelSpec(architecture, "tu-test_efficientnet", 3)).eval()
    assert logits_stride(model) == stride


def test_parts_share_the_images_and_go_on(
    teacher: TrainedModel, shapes: Path, tmp_path: Path
) -> None:
    images, _ = open_images(shapes, "train")
    manifest = make_manifest(teacher, Quantisation(stride=4), data=str(shapes))
    assert manifest.teacher.sha256 == file_sha256(teacher.path)
    store = SoftLabelStore.create(tmp_path / "store", manifest)
    part = (1, 4, 7)
    done = label(teacher.model, [images[n] for n in part], store, folder="train", precision="fp32")
    assert next(done) == images.stems[1]
    again = SoftLabelStore.create(tmp_path / "store", manifest)  # after a kill
    assert again.stems("train") == (images.stems[1],)
    assert list(done) == [images.stems[4], images.stems[7]]
    assert again.stems("train") == tuple(images.stems[n] for n in part)


def test_which_part_is_ours(monkeypatch: pytest.MonkeyPatch) -> None:
    assert own_part(None) == (1, 1)
    monkeypatch.setenv("RANK", "3")
    monkeypatch.setenv("WORLD_SIZE", "4")
    assert own_part(None) == (4, 4)
    assert own_part("1/2") == (1, 2)
    for wrong in ("0/2", "3/2", "1", "a/b", "1/2/3"):
        with pytest.raises(ConfigError, match="--part: expected i/n"):
            own_part(wrong)


def test_images_without_masks(teacher: TrainedModel, make_shapes: Any, tmp_path: Path) -> None:
    data = make_shapes(tmp_path / "data", train=3)
    (data / "unlabeled").mkdir()
    (data / "train" / "images").rename(data / "unlabeled" / "images")
    images, description = open_images(data, "unlabeled")
    assert images.stems == ("train0", "train1", "train2")
    assert description.classes == teacher.description.classes
    assert images[1]["image"].shape == (3, 40, 48)
    scenes, _ = open_images("digits", "val")
    assert (len(scenes), scenes[2]["stem"]) == (64, "val-00002")


def test_unreadable_images_are_named_or_left_out(make_shapes: Any, tmp_path: Path) -> None:
    data = make_shapes(tmp_path / "data", train=3)
    (data / "train" / "images" / "train1.png").write_bytes(b"no picture")
    with pytest.raises(DataError, match=r"train1\.png: Cannot decode"):
        open_images(data, "train")
    images, _ = open_images(data, "train", skip_corrupt=True)
    assert (images.stems, images.skipped) == (("train0", "train2"), ("train1",))


def test_a_list_of_stems_shares_the_folder(make_shapes: Any, tmp_path: Path) -> None:
    data = make_shapes(tmp_path / "data", train=3)
    (data / "splits").mkdir()
    (data / "splits" / "few.txt").write_text("train2\n")
    images, _ = open_images(data, "few")
    assert (images.folder, images.stems) == ("train", ("train2",))
    assert open_dataset(data, "few").folder == "train"


def test_mirror_images_sizes_and_calibration(teacher: TrainedModel) -> None:
    image = torch.randint(256, (3, 40, 48), dtype=torch.uint8)

    def probs(image: torch.Tensor, stride: int = 4, **settings: Any) -> torch.Tensor:
        how = TeacherSettings(**settings)
        return cell_probs(teacher.model, image, stride=stride, precision="fp32", settings=how)

    both = (probs(image) + probs(image.flip(-1)).flip(-1)) / 2
    torch.testing.assert_close(probs(image, flip=True), both)
    height, width = image.shape[-2:]
    larger = F.interpolate(
        image[None].float() / 255, (2 * height, 2 * width), mode="bilinear", antialias=True
    )[0]
    twice = probs(larger, stride=8)
    torch.testing.assert_close(probs(image, scales=(2.0,)), twice)
    torch.testing.assert_close(probs(image, scales=(1.0, 2.0)), (probs(image) + twice) / 2)
    # A softmax of logarithms: the scaling is affine, and a constant of the pixel changes nothing.
    scaling = LogitScaling("vector", (0.5, 0.5, 0.5), (0.3, 0.0, -0.3))
    expected = scaling.apply(probs(image).log(), dim=0).softmax(0)
    torch.testing.assert_close(probs(image, scaling=scaling), expected, rtol=1e-4, atol=1e-6)


def test_manifest_knows_how_the_teacher_predicted(teacher: TrainedModel) -> None:
    def manifest(**settings: Any) -> Manifest:
        how = TeacherSettings(**settings)
        return make_manifest(teacher, Quantisation(stride=4), data="d", settings=how)

    calibrated = LogitScaling("temperature", (0.5,))
    kinds: list[dict[str, Any]] = [{}, {"flip": True}, {"scales": (0.5, 1.0)}]
    kinds.append({"scaling": calibrated})
    assert len({manifest(**settings).identity for settings in kinds}) == 4
    old = {k: v for k, v in json.loads(manifest().to_json()).items() if k != "prediction"}
    assert validated(Manifest, old).identity == manifest().identity
    for settings in kinds:
        again = validated(Manifest, json.loads(manifest(**settings).to_json()))
        found = TeacherSettings.of(again.prediction)
        assert found.flip == settings.get("flip", False)
        assert found.scales == settings.get("scales", (1.0,))
        assert (found.scaling is None) == ("scaling" not in settings)
    assert found.scaling is not None
    assert found.scaling.scale == (0.5,)
    assert manifest().differences(manifest(flip=True)) == [
        "flip is None in the folder, but (1.0,) was requested"
    ]
