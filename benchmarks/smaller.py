"""A copy of a data set at a fraction of its size, for experiments that small pictures suffice."""

import shutil
from pathlib import Path

from PIL import Image

from benchmarks._machine import ROOT

COPIES = ROOT / "runs" / "smaller"


def smaller_copy(source: Path, factor: int) -> Path:
    """Return a folder with the images of a data set at 1 / factor of their height and width.

    Images are reduced with a bicubic filter, and masks take the nearest pixel. A folder that is
    complete is not written again.

    Args:
        source: Data set folder with images as .jpg or .png and masks in folders called `masks`.
        factor: At least 2.
    """
    copy = COPIES / f"{source.name}_{factor}"
    if copy.exists():
        return copy
    unfinished = copy.with_name(copy.name + ".part")
    shutil.rmtree(unfinished, ignore_errors=True)
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        target = unfinished / file.relative_to(source)
        target.parent.mkdir(parents=True, exist_ok=True)
        if file.suffix.lower() in (".jpg", ".jpeg", ".png"):
            _reduce(file, target, factor)
        else:
            shutil.copyfile(file, target)
    unfinished.rename(copy)
    return copy


def _reduce(file: Path, target: Path, factor: int) -> None:
    with Image.open(file) as image:
        size = (round(image.width / factor), round(image.height / factor))
        if file.parent.name.startswith("masks"):
            image.resize(size, Image.Resampling.NEAREST).save(target)
        else:
            image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0).save(target, quality=92)
