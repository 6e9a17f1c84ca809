"""Tiny data sets in the native layouts, of real samples where there are some, else of noise.

They are judged by noise: a real image takes longer than two steps of training.
"""

from collections.abc import Callable
from pathlib import Path

import numpy as np
from PIL import Image

SAMPLES = Path(__file__).resolve().parents[2].parent / "shared" / "data" / "layouts"
CITYSCAPES_IDS = (7, 8, 11, 12, 13, 17, *range(19, 29), 31, 32, 33)
DEEPGLOBE_COLOURS = ((0, 255, 255), (255, 255, 0), (255, 0, 255), (0, 255, 0), (0, 0, 255))
SIDE_PX = 32


def write_tree(data_set: str, root: Path) -> str:
    """Write a data set; returns its source, LAYOUT:FOLDER."""
    root.mkdir(parents=True)
    _WRITERS[data_set](root)
    return f"{data_set}:{root}"


def _write_pair(image: Path, mask: Path, values: tuple[int, ...], *, palette: bool = False) -> None:
    """Write noise, and a mask of four quarters with some of the values."""
    random = np.random.default_rng(list(image.name.encode()))
    for path in (image, mask):
        path.parent.mkdir(parents=True, exist_ok=True)
    pixels = random.integers(0, 256, (SIDE_PX, SIDE_PX, 3)).astype(np.uint8)
    Image.fromarray(pixels).save(image)
    quarters = np.kron(random.choice(values, (2, 2)), np.ones((SIDE_PX // 2, SIDE_PX // 2)))
    written = Image.fromarray(quarters.astype(np.uint8))
    if palette:
        written.putpalette([0, 0, 0, 128, 0, 0, 0, 128, 0])
    written.save(mask)


def _link(folder: Path, samples: Path) -> bool:
    """Link a folder of samples, if it is there."""
    if not samples.is_dir():
        return False
    folder.parent.mkdir(parents=True, exist_ok=True)
    folder.symlink_to(samples)
    return True


def _cityscapes(root: Path) -> None:
    def write(split: str, number: int) -> None:
        stem = f"bonn/bonn_{number:06}_000019"
        image = root / "leftImg8bit" / split / f"{stem}_leftImg8bit.png"
        mask = root / "gtFine" / split / f"{stem}_gtFine_labelIds.png"
        _write_pair(image, mask, CITYSCAPES_IDS)

    write("val", 0)
    real = SAMPLES / "cityscapes"
    if _link(root / "leftImg8bit" / "train", real / "leftImg8bit" / "train"):
        (root / "gtFine" / "train").symlink_to(real / "gtFine" / "train")
        return
    for number in (1, 2, 3):
        write("train", number)


def _voc(root: Path) -> None:
    real = SAMPLES / "VOCdevkit" / "VOC2012"
    lists = root / "ImageSets" / "Segmentation"
    lists.mkdir(parents=True)
    stems = sorted(path.stem for path in real.glob("JPEGImages/*.jpg")) or ["a", "b", "c"]
    for stem in ["val", *stems]:
        image = root / "JPEGImages" / f"{stem}.jpg"
        for folder in ("SegmentationClass", "SegmentationClassAug"):
            mask = root / folder / f"{stem}.png"
            if (real / "JPEGImages" / image.name).is_file():
                _link_file(image, real / "JPEGImages")
                _link_file(mask, real / "SegmentationClass")
            else:
                _write_pair(image, mask, tuple(range(21)), palette=True)
    for name, listed in (("train", stems[:2]), ("trainaug", stems), ("val", ["val"])):
        (lists / f"{name}.txt").write_text("\n".join(listed), encoding="utf-8")


def _link_file(path: Path, samples: Path) -> None:
    path.parent.mkdir(exist_ok=True)
    if not path.is_symlink():
        path.symlink_to(samples / path.name)


def _ade20k(root: Path) -> None:
    def write(folder: str, name: str) -> None:
        image = root / "images" / folder / f"{name}.jpg"
        mask = root / "annotations" / folder / f"{name}.png"
        _write_pair(image, mask, tuple(range(151)))

    write("validation", "ADE_val_00000001")
    real = SAMPLES / "ADEChallengeData2016"
    if _link(root / "images" / "training", real / "images" / "training"):
        (root / "annotations" / "training").symlink_to(real / "annotations" / "training")
        return
    for number in (1, 2, 3):
        write("training", f"ADE_train_{number:08}")


def _deepglobe(root: Path) -> None:
    for number in range(5):  # the first fifth is val
        image, mask = root / "train" / f"{number}_sat.jpg", root / "train" / f"{number}_mask.png"
        _write_pair(image, mask, tuple(range(5)))
        classes = np.asarray(Image.open(mask))
        Image.fromarray(np.array(DEEPGLOBE_COLOURS, np.uint8)[classes]).save(mask)


def _camvid(root: Path) -> None:
    for split, count in (("train", 3), ("val", 1)):
        for number in range(count):
            name = f"{split}{number}.png"
            _write_pair(root / split / name, root / f"{split}annot" / name, tuple(range(12)))


_WRITERS: dict[str, Callable[[Path], None]] = {
    "cityscapes": _cityscapes,
    "voc": _voc,
    "ade20k": _ade20k,
    "deepglobe": _deepglobe,
    "camvid": _camvid,
}
