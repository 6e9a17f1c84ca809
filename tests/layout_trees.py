"""Tiny data sets in the published layouts: real names and numbers, pictures of noise."""

from collections.abc import Callable
from itertools import groupby
from pathlib import Path
from typing import Any
from zlib import crc32

import numpy as np
from PIL import Image
from torch import Tensor

SIZE = (40, 48)  # no multiple of a stride


def picture(path: Path) -> None:
    """Write noise that differs from file to file."""
    path.parent.mkdir(parents=True, exist_ok=True)
    random = np.random.default_rng(crc32(path.name.encode()))
    Image.fromarray(random.integers(0, 256, (*SIZE, 3), dtype=np.uint8)).save(path)


def stripes(path: Path, *values: Any, palette: list[int] | None = None) -> None:
    """Write a mask with one vertical stripe of each value, which is a number or a colour."""
    path.parent.mkdir(parents=True, exist_ok=True)
    row = np.array(values, np.uint8)[np.arange(SIZE[1]) * len(values) // SIZE[1]]
    image = Image.fromarray(np.repeat(row[None], SIZE[0], axis=0))
    if palette:
        image.putpalette(palette)
    image.save(path)


def seen(target: Tensor) -> list[int]:
    """Return the values of the stripes of a target (H, W), from left to right."""
    return [value for value, _ in groupby(target[0].tolist())]


def lines(path: Path, *texts: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("".join(f"{text}\n" for text in texts), encoding="utf-8")


def cityscapes(root: Path, *, annotation: str = "gtFine", kind: str = "labelIds") -> str:
    """Two cities in train, one in val, one in test; ego vehicle, road, car, licence plate."""
    values = (1, 7, 26, 33) if kind == "labelIds" else (255, 0, 13, 18)
    for split, name in (
        ("train", "aachen_000000_000019"),
        ("train", "bochum_000000_000313"),
        ("train_extra", "augsburg_000000_000000"),
        ("val", "frankfurt_000000_000294"),
        ("test", "berlin_000000_000019"),
    ):
        if split == "train_extra" and annotation == "gtFine":
            continue
        place = Path(split) / name.split("_")[0]
        picture(root / "leftImg8bit" / place / f"{name}_leftImg8bit.png")
        ids = (3,) if split == "test" else values
        stripes(root / annotation / place / f"{name}_{annotation}_{kind}.png", *ids)
    return f"cityscapes{'' if annotation == 'gtFine' else '-coarse'}:{root}"


def voc(root: Path, *, augmented: bool = False) -> str:
    """Two images in train, one in val, and with SBD two more in trainaug."""
    devkit = root / "VOCdevkit" / "VOC2012"
    palette = [0, 0, 0, 128, 0, 0] + [0] * 756 + [224, 224, 192]
    palette[45:48], palette[60:63] = [192, 128, 128], [0, 64, 128]  # person and monitor
    train, val, more = ["2007_000032", "2007_000039"], ["2007_000033"], ["2008_000002"]
    for stem in train + val + more:
        picture(devkit / "JPEGImages" / f"{stem}.jpg")
    for stem in train + val:
        stripes(devkit / "SegmentationClass" / f"{stem}.png", 0, 1, 15, 255, palette=palette)
    lists = devkit / "ImageSets" / "Segmentation"
    for name, stems in (("train", train), ("val", val), ("trainval", train + val)):
        lines(lists / f"{name}.txt", *stems)
    if augmented:
        for stem in train + val + more:
            stripes(devkit / "SegmentationClassAug" / f"{stem}.png", 0, 15, 20, palette=palette)
    return f"voc:{root / 'VOCdevkit'}"


def ade20k(root: Path) -> str:
    """Two images in train, one in val; other, wall, floor, flag."""
    for folder, part, numbers in (("training", "train", (1, 2)), ("validation", "val", (1,))):
        for number in numbers:
            name = f"{folder}/ADE_{part}_{number:08}"
            picture(root / "images" / f"{name}.jpg")
            stripes(root / "annotations" / f"{name}.png", 0, 1, 4, 150)
    return f"ade20k:{root}"


def deepglobe(root: Path) -> str:
    """Six images with masks, of which one is val, and one without; colours are not pure."""
    for stem in ("119", "1194", "2334", "266", "694", "855"):
        picture(root / "train" / f"{stem}_sat.jpg")
        colours = ((0, 255, 255), (1, 0, 3), (255, 255, 254), (2, 250, 0))
        stripes(root / "train" / f"{stem}_mask.png", *colours)
    picture(root / "valid" / "1000_sat.jpg")
    return f"deepglobe:{root}"


def camvid_numbers(root: Path) -> str:
    """The form of SegNet; sky, road, bicyclist, unlabelled."""
    for split, stems in (
        ("train", ("0001TP_006690", "0006R0_f00930")),
        ("val", ("0016E5_07959",)),
        ("test", ("Seq05VD_f00000",)),
    ):
        for stem in stems:
            picture(root / "CamVid" / split / f"{stem}.png")
            stripes(root / "CamVid" / f"{split}annot" / f"{stem}.png", 0, 3, 10, 11)
        paths = (f"/SegNet/CamVid/{split}/{stem}.png" for stem in stems)
        lines(root / "CamVid" / f"{split}.txt", *(f"{path} {path}" for path in paths))
    return f"camvid:{root}"


def camvid_colours(root: Path) -> str:
    """The form of its authors; sky, markings of the road, motorcycle, void."""
    for stem in (
        *("0001TP_008520", "0001TP_008550", "0006R0_f00930"),
        *("0016E5_07920", "0016E5_07959", "Seq05VD_f00000"),
    ):
        picture(root / "701_StillsRaw_full" / f"{stem}.png")
        colours = ((128, 128, 128), (128, 0, 192), (192, 0, 192), (0, 0, 0))
        stripes(root / "LabeledApproved_full" / f"{stem}_L.png", *colours)
    return f"camvid:{root}"


TREES: dict[str, Callable[[Path], str]] = {
    "cityscapes": cityscapes,
    "cityscapes-coarse": lambda root: cityscapes(root, annotation="gtCoarse"),
    "voc": lambda root: voc(root, augmented=True),
    "ade20k": ade20k,
    "deepglobe": deepglobe,
    "camvid": camvid_numbers,
    "camvid-colours": camvid_colours,
}
