"""Disjoint lists for training, validation and test."""

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from small_data import Make
from softiou.data import divide_images, open_dataset, open_source, write_splits
from softiou.data.fractions import balanced_order
from softiou.errors import DataError


@pytest.fixture
def frames(make_dataset: Make) -> Path:
    """20 images of 5 videos; the third class is in one video, the rarest in two images of two."""
    masks = {}
    for number in range(20):
        mask = np.zeros((4, 6), np.uint8)
        mask[:, : 1 + number % 5] = 1
        mask[0, 5] = 2 if number // 4 == 1 else 0
        mask[1, 5] = 3 if number in (0, 19) else 0
        masks[f"video{number // 4}-{number:02d}"] = mask
    return make_dataset({"train/masks": masks}, classes=["sky", "road", "car", "sign"])


def test_splits_are_disjoint_complete_and_balanced(frames: Path) -> None:
    found = divide_images(frames, {"val": 0.2, "test": 0.1})
    assert {name: len(stems) for name, stems in found.items()} == {"train": 14, "val": 4, "test": 2}
    assert len({stem for stems in found.values() for stem in stems}) == 20
    assert divide_images(frames, {"val": 0.2, "test": 0.1}) == found
    assert divide_images(frames, {"val": 0.2, "test": 0.1}, seed=1) != found
    write_splits(frames, found)
    assert open_source(frames).splits() == ("train", "val", "test")
    classes = {
        name: set(np.unique(np.stack([sample["target"] for sample in open_dataset(frames, name)])))
        for name in found
    }
    assert classes["train"] == {0, 1, 2, 3}
    assert classes["val"] == {0, 1, 2, 3}  # one of the two signs, and not the other


@pytest.mark.parametrize("by", [r"video\d+", r"^video(\d+)-", "TABLE:video"])
def test_groups_stay_together(frames: Path, by: str) -> None:
    table = frames / "frames.csv"
    names = [f"video{n // 4}-{n:02d}.png,{n},v{n // 4}" for n in range(20)]
    table.write_text("\n".join(["name,number,video", *names]))
    found = divide_images(frames, {"val": 0.2}, by=by.replace("TABLE", str(table)))
    videos = {name: {stem[:6] for stem in stems} for name, stems in found.items()}
    assert (len(videos["val"]), len(found["val"])) == (1, 4)
    assert videos["train"].isdisjoint(videos["val"])
    assert "video1" in videos["train"]  # alone in having cars, which could not be learnt otherwise


def test_the_last_image_of_a_class_is_spared() -> None:
    pixels = np.array([[4, 0], [3, 1], [5, 0]], dtype=np.float64)
    for seed in range(8):
        assert set(balanced_order(pixels, 3, seed=seed, spare=True)) <= {0, 2}
        assert balanced_order(pixels, 3, seed=seed)[0] == 1


@pytest.mark.parametrize(
    ("shares", "by", "message"),
    [
        ({"val": 0.7, "test": 0.3}, None, "sum is below 1, but got --val 0.7, --test 0.3"),
        ({"val": 0.0}, None, "shares above 0"),
        ({"val": 0.2}, "([", "--by: Expected a regular expression or FILE.csv:COLUMN"),
        ({"val": 0.2}, "video1", "16 have none: video0-00"),
        ({"val": 0.2}, "video", r"more than 1 groups .* but found 1"),
        ({"val": 0.2}, "nowhere.csv:x", "--by: Cannot read nowhere.csv"),
    ],
)
def test_mistakes(frames: Path, shares: dict[str, float], by: str | None, message: str) -> None:
    with pytest.raises(DataError, match=message.replace("([", r"\(\[")):
        divide_images(frames, shares, by=by)


def test_splits_that_exist_are_kept(frames: Path, make_shapes: Callable[..., Path]) -> None:
    (frames / "splits").mkdir()
    (frames / "splits" / "val.txt").write_text("video0-00\n")
    with pytest.raises(DataError, match="Expected no split val, but it already exists"):
        divide_images(frames, {"val": 0.2})
    rest = divide_images(frames, {"test": 0.25})  # of those that val does not have
    assert len(rest["test"]) == 5
    assert "video0-00" not in rest["train"] + rest["test"]
