"""Real images of three data sets, in their own folders."""

from pathlib import Path

import numpy as np
import pytest

from softiou.checking import check_dataset
from softiou.data import open_dataset, open_source

SAMPLES = {
    "cityscapes": ("cityscapes", "aachen_000000_000019", (256, 512)),
    "voc": ("VOCdevkit", "2011_000003", (338, 500)),
    "ade20k": ("ADEChallengeData2016", "ADE_val_00000001", (512, 683)),
}
SEEN = {
    "cityscapes": {"road", "car", "person", "rider", "bicycle", "vegetation", "sky"},
    "voc": {"background", "bottle", "person"},
    "ade20k": {"wall", "building", "sky", "tree", "road", "grass", "plant"},
}


@pytest.mark.parametrize("name", SAMPLES)
def test_real_files_are_read_in_place(name: str, shared_data: Path) -> None:
    folder, stem, size = SAMPLES[name]
    source = f"{name}:{shared_data / 'layouts' / folder}"
    assert open_source(source).splits() == ("train", "val")
    train, val = open_dataset(source, "train"), open_dataset(source, "val")
    assert (len(train), len(val), train.stems[0]) == (2, 1, stem)
    sample = train[0]
    assert sample["image"].shape == (3, *size)
    assert sample["target"].shape == size
    found = set(np.unique(sample["target"]).tolist()) - {255}
    assert SEEN[name] <= {train.description.classes[index] for index in found}


@pytest.mark.parametrize("name", SAMPLES)
def test_nothing_is_wrong_with_real_files(name: str, shared_data: Path) -> None:
    report = check_dataset(f"{name}:{shared_data / 'layouts' / SAMPLES[name][0]}")
    assert [str(problem) for problem in report.errors] == []
