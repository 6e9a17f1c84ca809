"""Downscaled copies of data sets, for experiments that do not need full resolution."""

import shutil
from collections.abc import Iterator
from pathlib import Path

import numpy as np
from PIL import Image

from benchmarks._machine import ROOT
from softiou._files import atomic_folder

COPIES = ROOT / "runs" / "smaller"


def smaller_copy(source: Path, factor: int, *, shares: bool = False) -> Path:
    """Return a folder with the images of a data set at 1 / factor of their height and width.

    Images are reduced with a bicubic filter, masks by nearest neighbour. A complete folder is not
    written again.

    Args:
        source: Data set folder with images as .jpg or .png and masks in folders called `masks`.
        factor: At least 2.
        shares: Write a separate mask for each of the factor x factor pixels of a reduced pixel, as
            if by several annotators; their votes are the area fraction of each class.
    """
    copy = COPIES / f"{source.name}_{factor}{'_shares' if shares else ''}"
    if copy.exists():
        return copy
    try:
        with atomic_folder(copy) as folder:
            _write_reduced(source, folder, factor, shares=shares)
    except OSError:  # another process was first
        if not copy.exists():
            raise
    return copy


def _write_reduced(source: Path, folder: Path, factor: int, *, shares: bool) -> None:
    """Write reduced pictures, and copies of all other files."""
    for file in sorted(path for path in source.rglob("*") if path.is_file()):
        target = folder / file.relative_to(source)
        if file.suffix.lower() in (".jpg", ".jpeg", ".png"):
            for path, image in _reduced(file, target, factor, shares=shares):
                path.parent.mkdir(parents=True, exist_ok=True)
                image.save(path, quality=92)
        else:
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copyfile(file, target)


def _reduced(
    file: Path, target: Path, factor: int, *, shares: bool
) -> Iterator[tuple[Path, Image.Image]]:
    """Yield the reduced pictures of one file, and their paths."""
    with Image.open(file) as image:
        size = (round(image.width / factor), round(image.height / factor))
        if not file.parent.name.startswith("masks"):
            yield target, image.resize(size, Image.Resampling.BICUBIC, reducing_gap=3.0)
        elif not shares:
            yield target, image.resize(size, Image.Resampling.NEAREST)
        else:
            pixels = np.asarray(image)[: size[1] * factor, : size[0] * factor]
            for number in range(factor * factor):
                row, column = divmod(number, factor)
                folder = target.parent.with_name(f"masks_{number + 1}")
                part = pixels[row::factor, column::factor]
                yield folder / target.name, Image.fromarray(part)
