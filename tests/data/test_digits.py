import time
from fractions import Fraction
from hashlib import sha256

import numpy as np
import pytest
import torch

from softiou.data import DigitScenes, available_splits, open_dataset, verify_readable
from softiou.data.digits import _SOURCES, _enlarged, _handwriting
from softiou.errors import DataError

SPLITS = ("train", "val", "test")


def test_default_sizes() -> None:
    assert available_splits("digits") == SPLITS
    assert [len(DigitScenes(split)) for split in SPLITS] == [2000, 64, 128]
    assert len(DigitScenes("train", size=3)) == 3


@pytest.mark.parametrize(("split", "size"), [("1_16", 125), ("1_8", 250), ("1_4", 500)])
def test_parts_are_the_first_scenes_of_train(split: str, size: int) -> None:
    part, train = DigitScenes(split, labels="soft"), DigitScenes("train", labels="soft")
    assert (part.split, part.folder, train.folder) == (split, "train", "train")
    assert part.stems == train.stems[:size]
    for index in (0, size - 1):
        assert torch.equal(part[index]["image"], train[index]["image"])
        assert torch.equal(part[index]["target"], train[index]["target"])
    assert len(DigitScenes(split, size=3)) == 3
    assert open_dataset("digits", split).labels == "hard"
    assert split not in available_splits("digits")  # of train, so no split to evaluate on


def test_smallest_part_shows_every_class() -> None:
    scenes = DigitScenes("1_16", labels="hard")
    seen = torch.zeros(11, dtype=torch.int64)
    for scene in scenes:
        seen += torch.bincount(scene["target"].flatten(), minlength=11) > 0
    assert seen[0] == 125
    assert seen[1:].min() >= 30  # of 125 scenes with three to six digits each


def test_a_scene() -> None:
    scenes = DigitScenes("val")
    sample = scenes[5]
    assert scenes.description.classes == ("background", *"0123456789")
    assert scenes.labels == "hard"
    assert sample["image"].shape == (3, 64, 64)
    assert sample["image"].dtype == torch.uint8
    assert sample["target"].shape == (64, 64)
    assert sample["target"].dtype == torch.int64
    assert sample["stem"] == scenes.stems[5] == "val-00005"


def test_soft_target_is_a_distribution_with_true_shares() -> None:
    scenes = DigitScenes("train", labels="soft", size=20)
    targets = torch.stack([scene["target"] for scene in scenes])
    assert scenes.labels == "soft"
    assert targets.dtype == torch.float32
    assert targets.min() >= 0
    torch.testing.assert_close(targets.sum(dim=1), torch.ones(20, 64, 64), rtol=0, atol=3e-7)
    partly = (targets.amax(dim=1) < 0.9).float().mean()
    assert 0.02 < partly < 0.5  # a fair part of the pixels is truly mixed
    assert (targets.sum(dim=(0, 2, 3)) > 0).all()


def test_hard_target_is_the_largest_share() -> None:
    soft, hard = DigitScenes("test", labels="soft"), DigitScenes("test", labels="hard")
    for index in range(10):
        assert torch.equal(soft[index]["target"].argmax(dim=0), hard[index]["target"])
        assert torch.equal(soft[index]["image"], hard[index]["image"])


@pytest.mark.parametrize("split", SPLITS)
def test_scene_depends_on_split_and_index_alone(split: str) -> None:
    first, second = DigitScenes(split), DigitScenes(split, size=1000)
    torch.manual_seed(0)
    np.random.seed(0)
    assert torch.equal(first[7]["image"], second[7]["image"])
    assert torch.equal(first[-1]["image"], first[len(first) - 1]["image"])
    assert not torch.equal(first[7]["image"], first[8]["image"])


def test_splits_share_neither_digits_nor_regions() -> None:
    for material in ("digits", "columns"):
        ranges = [getattr(_SOURCES[split], material) for split in SPLITS]
        everything = [place for places in ranges for place in places]
        assert len(set(everything)) == len(everything)
        assert len(everything) == {"digits": len(_handwriting()[0]), "columns": 640}[material]
    assert len({source.seed for source in _SOURCES.values()}) == 3


@pytest.mark.parametrize("magnification", [1, 2, 3])
def test_enlargement_keeps_the_coverage(magnification: int) -> None:
    ink = _handwriting()[0][0]
    enlarged = _enlarged(ink, magnification)
    assert enlarged.shape == (9 * magnification - 1,) * 2
    assert enlarged.sum() == pytest.approx(magnification**2 * ink.sum() / 16, rel=1e-6)
    assert enlarged.min() >= 0
    assert enlarged.max() <= 1
    if magnification == 1:
        np.testing.assert_array_equal(enlarged, ink / 16)


def test_shares_are_fractions_rounded_once() -> None:
    ink = _handwriting()[0][5]
    weights = [Fraction(1, 3), Fraction(2, 3), Fraction(1), Fraction(2, 3), Fraction(1, 3)]
    exact = [[Fraction(0)] * 26 for _ in range(26)]
    for (row, column), sixteenths in np.ndenumerate(ink):
        for down, vertical in enumerate(weights):
            for right, horizontal in enumerate(weights):
                share = vertical * horizontal * Fraction(int(sixteenths), 16)
                exact[3 * row + down][3 * column + right] += share
    rounded = np.array([[float(share) for share in row] for row in exact], np.float32)
    np.testing.assert_array_equal(_enlarged(ink, 3), rounded)


def test_scenes_are_the_same_on_every_machine() -> None:
    scene = DigitScenes("test", labels="soft")[0]
    assert sha256(scene["image"].numpy().tobytes()).hexdigest()[:16] == "c194e2c8146b8639"
    assert sha256(scene["target"].numpy().tobytes()).hexdigest()[:16] == "a99cc30cef33dd2e"


def test_ink_counts_sixteenths() -> None:
    ink = _handwriting()[0]
    assert (ink.min(), ink.max()) == (0, 16)


@pytest.mark.parametrize("scene_px", [32, 128])
def test_scene_px(scene_px: int) -> None:
    for split in SPLITS:
        scenes = DigitScenes(split, scene_px=scene_px)
        assert {scenes[i]["image"].shape for i in range(5)} == {(3, scene_px, scene_px)}


def test_scenes_are_fast() -> None:
    scenes = DigitScenes("train")
    scenes[0]
    durations = []
    for index in range(20):
        start = time.perf_counter()
        scenes[index]
        durations.append(time.perf_counter() - start)
    assert min(durations) < 4e-3  # about 1.4 ms alone; the machine may be shared


def test_nothing_to_verify() -> None:
    scenes = open_dataset("digits", "val")
    assert isinstance(scenes, DigitScenes)
    assert scenes.files(0) == ()
    assert verify_readable(scenes) == []


def test_errors() -> None:
    with pytest.raises(DataError, match="one of train, val, test, 1_16, 1_8, 1_4, but got 'dev'"):
        DigitScenes("dev")
    with pytest.raises(ValueError, match="`size` to be at least 1 scene, but got 0"):
        DigitScenes("train", size=0)
    with pytest.raises(ValueError, match=r"`scene_px` to be in 32\.\.128, but got 256"):
        DigitScenes("train", scene_px=256)
    with pytest.raises(IndexError):
        DigitScenes("val")[64]
