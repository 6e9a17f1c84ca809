"""Tiny data sets in the published layouts that learn from real samples, where there are some.

They are judged by noise: a real image takes longer than two steps of training.
"""

import shutil
from pathlib import Path

from layout_trees import TREES, lines

SAMPLES = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "layouts"


def write_tree(data_set: str, root: Path) -> str:
    """Write a data set; returns its source, LAYOUT:FOLDER."""
    source = TREES[data_set](root)
    if SAMPLES.is_dir():
        if data_set == "cityscapes":
            _replace(root, SAMPLES / "cityscapes", "leftImg8bit/train", "gtFine/train")
        if data_set == "ade20k":
            samples = SAMPLES / "ADEChallengeData2016"
            _replace(root, samples, "images/training", "annotations/training")
        if data_set == "voc":
            _join(root / "VOCdevkit" / "VOC2012", SAMPLES / "VOCdevkit" / "VOC2012")
    return source


def _replace(root: Path, samples: Path, *folders: str) -> None:
    """Link to samples instead of noise."""
    for folder in folders:
        shutil.rmtree(root / folder)
        (root / folder).symlink_to(samples / folder)


def _join(devkit: Path, samples: Path) -> None:
    """Link to samples beside the noise, and list them to learn from."""
    stems = sorted(path.stem for path in samples.glob("JPEGImages/*.jpg"))
    for stem in stems:
        mask = samples / "SegmentationClass" / f"{stem}.png"
        (devkit / "JPEGImages" / f"{stem}.jpg").symlink_to(samples / "JPEGImages" / f"{stem}.jpg")
        for folder in ("SegmentationClass", "SegmentationClassAug"):
            (devkit / folder / mask.name).symlink_to(mask)
    lists = devkit / "ImageSets" / "Segmentation"
    lines(lists / "train.txt", *stems[:2])
    lines(lists / "trainaug.txt", *stems)
