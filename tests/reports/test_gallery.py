"""Thumbnails become text that fits the page, and say the same after the way back."""

import base64
import json
import zlib
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from browser.fake_run import CLASSES, draw_scene, write_run
from softiou.errors import DataError
from softiou.evaluation.schema import ImageScores, read_evaluation
from softiou.metrics.registry import IMAGE_METRICS
from softiou.reports import collect, render, write_report
from softiou.reports import gallery as module
from softiou.reports.formatting import View
from softiou.reports.gallery import (
    LEVELS,
    UNCERTAINTY_LEVELS,
    GalleryImage,
    Level,
    choose,
    encode,
    has_gallery,
    pack,
)
from softiou.reports.gallery_view import gallery_view, paired_gallery_view, score_sort
from softiou.reports.pictures import MISTAKE

SCENES = [draw_scene(f"seq{index % 2}/{index}", seed=index, skill=0.5) for index in range(6)]
FULL = LEVELS[0]


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("gallery") / "run"
    write_run(path, SCENES)
    return path


def images_of(run: Path) -> list[GalleryImage]:
    evaluation = read_evaluation(run / "evaluation.json")
    return [
        GalleryImage(one.stem, (run / "gallery",), (one,), one.miou) for one in evaluation.images
    ]


def decoded(view: View, dtype: str = "<u1") -> NDArray[np.integer]:
    values = np.frombuffer(zlib.decompress(base64.b64decode(view["data"])), dtype)
    return values.reshape(view["height"], view["width"])


# Encoding


def test_indices_come_back_and_ignored_pixels_are_one_past_the_classes(run: Path) -> None:
    view = encode(images_of(run)[0], len(CLASSES), FULL)
    target = decoded(view["target"])
    expected = np.where(SCENES[0].target == 255, len(CLASSES), SCENES[0].target)
    assert np.array_equal(target, expected)
    assert np.array_equal(decoded(view["sides"][0]["preds"]), SCENES[0].preds)


def test_uncertainty_comes_in_levels(run: Path) -> None:
    levels = decoded(encode(images_of(run)[0], len(CLASSES), FULL)["sides"][0]["uncertainty"])
    assert levels.shape == (160, 213)
    assert levels.max() < UNCERTAINTY_LEVELS
    mean = 1 - SCENES[0].confidence.mean()
    assert levels.mean() / (UNCERTAINTY_LEVELS - 1) == pytest.approx(mean, abs=0.02)


def test_photograph_is_passed_on_as_it_is_or_made_smaller(run: Path) -> None:
    image = images_of(run)[0]
    whole = base64.b64decode(encode(image, 11, FULL)["photo"]["data"])
    assert whole == (run / "gallery" / f"{image.stem}.image.jpg").read_bytes()
    small = encode(image, 11, Level(96, 65))
    assert (small["photo"]["width"], small["photo"]["height"]) == (96, 72)
    assert decoded(small["target"]).shape == (72, 96)
    assert len(base64.b64decode(small["photo"]["data"])) < len(whole) / 4


def test_photograph_larger_than_a_thumbnail_is_made_smaller_first(tmp_path: Path) -> None:
    Image.new("RGB", (640, 320)).save(tmp_path / "a.image.jpg")
    photo = encode(GalleryImage("a", (tmp_path,), (), None), 11, FULL)["photo"]
    assert (photo["width"], photo["height"]) == (320, 160)


def test_more_than_255_classes_take_two_bytes(tmp_path: Path) -> None:
    indices = np.array([[0, 299, 300, 65535]], np.uint16)
    Image.fromarray(indices).save(tmp_path / "a.target.png")
    view = encode(GalleryImage("a", (tmp_path,), (), None), 300, FULL)
    assert decoded(view["target"], "<u2").tolist() == [[0, 299, 300, 300]]


def test_missing_thumbnails_are_none_and_broken_ones_named(tmp_path: Path) -> None:
    image = GalleryImage("a", (tmp_path,), (), None)
    view = encode(image, 11, FULL)
    assert view["photo"] is view["target"] is view["sides"][0]["preds"] is None
    (tmp_path / "a.preds.png").write_bytes(b"nothing")
    with pytest.raises(DataError, match=r"a\.preds\.png to be an image"):
        encode(image, 11, FULL)


@pytest.mark.parametrize("stem", ["../secret", "/etc/passwd", "a/../../b"])
def test_stem_cannot_leave_the_folder(stem: str, tmp_path: Path) -> None:
    with pytest.raises(DataError, match="to stay inside"):
        encode(GalleryImage(stem, (tmp_path,), (), None), 11, FULL)


# What fits


def test_pictures_are_made_smaller_until_they_fit(run: Path) -> None:
    images = images_of(run)
    whole = pack(images, 11)
    assert (whole.level, whole.left_out, len(whole.pictures)) == (FULL, 0, 6)
    size = len(json.dumps(whole.pictures))
    small = pack(images, 11, budget=size // 3)
    assert small.level.long_side_px < 320
    assert small.left_out == 0
    assert len(json.dumps(small.pictures)) < size / 2.5


def test_images_are_left_out_when_even_the_smallest_do_not_fit(run: Path) -> None:
    packed = pack(images_of(run), 11, budget=12_000)
    assert packed.level == LEVELS[-1]
    assert 0 < len(packed.images) < 6
    assert packed.left_out == 6 - len(packed.images)
    assert sum(map(module._size, packed.pictures)) <= 12_000
    assert [one["stem"] for one in packed.pictures] == [one.stem for one in packed.images]


def test_estimate_that_was_too_low_leads_to_the_next_level(
    run: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "_estimate", lambda *_: 0.0)
    images = images_of(run)
    smaller = sum(map(module._size, (encode(one, 11, LEVELS[3]) for one in images)))
    assert pack(images, 11, budget=smaller).level == LEVELS[3]


def test_best_worst_and_a_sample_stay() -> None:
    images = [
        GalleryImage(str(index), (), (), rank=None if index == 3 else float(index * 7 % 100))
        for index in range(100)
    ]
    chosen = choose(images, 12)
    assert len(chosen) == 12
    ranks = sorted(one.rank for one in chosen if one.rank is not None)
    assert ranks[:3] == [0, 1, 2]
    assert ranks[-2:] == [98, 99]
    assert chosen == sorted(chosen, key=lambda one: int(one.stem))
    assert choose(images, 100) == images
    assert choose(images, 0) == []


# The view


def test_view_has_scores_classes_and_sorts(run: Path) -> None:
    evaluation = read_evaluation(run / "evaluation.json")
    view = gallery_view(evaluation, run)
    data = view["data"]
    assert [sort["name"] for sort in data["sorts"]] == [
        "mIoU",
        "Accuracy",
        "Boundary IoU",
        "ECE",
        "Confidence",
    ]
    assert (view["note"], view["sides"], data["mistake"]) == ("", ("",), MISTAKE)
    image, score = data["images"][2], evaluation.images[2]
    assert image["sorts"][0] == round(score.miou or 0, 2)
    assert image["scores"][3] == [round(score.score("ece") or 0, 2)]
    shares = [share for _, share, _ in image["classes"]]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(100, abs=0.1)
    index, _, iou = image["classes"][0]
    counts = score.counts or {}
    correct, predicted, present = counts[index]
    assert iou == pytest.approx(100 * correct / (predicted + present - correct), abs=0.006)
    assert len(data["ramp"]) == UNCERTAINTY_LEVELS
    assert max(data["ramp"][0]) < 8
    assert min(data["ramp"][-1][:2]) > 240


def test_scores_that_no_image_has_are_left_out(run: Path, tmp_path: Path) -> None:
    content = json.loads((run / "evaluation.json").read_text())
    content["schema_version"] = 1  # which has no counts
    for image in content["images"]:
        image |= {"boundary_iou": None, "ece": None, "counts": None}
    (tmp_path / "evaluation.json").write_text(json.dumps(content))
    data = gallery_view(read_evaluation(tmp_path / "evaluation.json"), run)["data"]
    assert [score["name"] for score in data["scores"]] == ["mIoU", "Accuracy", "Confidence"]
    assert data["images"][0]["classes"] == []


def test_two_runs_are_sorted_by_what_the_second_gains(run: Path) -> None:
    evaluation = read_evaluation(run / "evaluation.json")
    data = paired_gallery_view([("a", evaluation, run), ("b", evaluation, run)])["data"]
    assert data["sides"] == ["a", "b"]
    assert data["sorts"][0] == {"name": "mIoU: b \N{MINUS SIGN} a", "better": "high", "gain": True}
    assert data["sorts"][-1] == {"name": "mIoU: b", "better": "high", "gain": False}
    assert {image["sorts"][0] for image in data["images"]} == {0}
    assert all(len(row) == 4 for image in data["images"] for row in image["classes"])


def test_only_images_of_all_runs_are_compared(run: Path) -> None:
    whole = read_evaluation(run / "evaluation.json")
    part = whole.model_copy(update={"images": whole.images[2:]})
    data = paired_gallery_view([("a", whole, run), ("b", part, run)])["data"]
    assert [one["stem"] for one in data["images"]] == [one.stem for one in part.images]


def test_difference_of_an_undefined_score_is_undefined(run: Path) -> None:
    evaluation = read_evaluation(run / "evaluation.json")
    view = paired_gallery_view([("a", evaluation, run), ("b", evaluation, run)])
    scores = [ImageScores(stem="x", miou=miou, accuracy=None) for miou in (None, 3.0)]
    one = GalleryImage("x", (), tuple(scores), None)
    assert view["data"]["images"][0]["sorts"][0] == 0
    assert score_sort("", IMAGE_METRICS[0], 1, gain=True).read(one.scores) is None
    assert score_sort("", IMAGE_METRICS[0], 1).read(one.scores) == 3


def test_page_says_what_was_left_out(run: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert "left out" not in render(collect(run)).split("<script>", maxsplit=1)[0]
    monkeypatch.setattr(module, "LEVELS", (Level(320, None), Level(96, 65)))
    monkeypatch.setattr(module.pack, "__kwdefaults__", {"budget": 12_000, "max_images": 2000})
    page = render(collect(run))
    assert "at most 96 pixels long" in page
    assert "of 6 are left out: the worst, the best" in page


def test_run_without_thumbnails_shows_its_examples(run: Path, tmp_path: Path) -> None:
    assert has_gallery(run)
    assert not has_gallery(tmp_path)
    (tmp_path / "evaluation.json").write_bytes((run / "evaluation.json").read_bytes())
    page = render(collect(tmp_path))
    assert 'id="gallery"' not in page
    assert "Best images" in page


def test_two_hundred_images_stay_below_ten_megabytes(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Noise is the worst case; of each picture one file is enough for what is measured."""
    noise = np.random.default_rng(0)
    scene = draw_scene("0", seed=0, skill=0.5)
    preds = noise.integers(0, 11, scene.preds.shape, dtype=np.uint8)
    loud = type(scene)("0", scene.photo, preds, preds, noise.random(preds.shape))
    write_run(tmp_path / "run", [loud])
    content = json.loads((tmp_path / "run" / "evaluation.json").read_text())
    content["images"] = [content["images"][0] | {"stem": str(index)} for index in range(200)]
    (tmp_path / "run" / "evaluation.json").write_text(json.dumps(content))
    for path in list((tmp_path / "run" / "gallery").iterdir()):
        for index in range(1, 200):
            path.with_name(path.name.replace("0.", f"{index}.", 1)).hardlink_to(path)
    path = write_report(tmp_path / "run")
    assert 1_000_000 < path.stat().st_size <= 10_000_000
    page = path.read_text()
    assert "pixels long, so that the page stays small" in page
    assert "are left out:" not in page
