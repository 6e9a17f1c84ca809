"""Divide a data set into disjoint, class-balanced training, validation and test lists.

Shapes: G groups of images, C classes.
"""

import csv
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from softiou.data.files import fingerprint
from softiou.data.folder import FolderDataset
from softiou.data.fractions import balanced_order, count_pixels, pool_of
from softiou.data.problems import data_error, some_of
from softiou.data.source import DataSource, open_source
from softiou.data.volumes import SLICE
from softiou.errors import DataError


def divide_images(
    source: str | Path, shares: Mapping[str, float], *, by: str | None = None, seed: int = 0
) -> dict[str, tuple[str, ...]]:
    """Divide the images of train into disjoint splits with similar class frequencies.

    The images are those of the split `train` (of most layouts) that are not in val or test. Images
    are only moved out of train while each of their classes remains in train.

    Args:
        source: Folder of the data set, or LAYOUT:/path.
        shares: Share of the images for each split, above 0, such as {"val": 0.2, "test": 0.1}.
        by: Key of the images that stay together, such as a patient or a video: a regular expression
            whose first group (or whole match) in the stem is the key, or FILE.csv:COLUMN, a table
            with stems or file names in its first column. None keeps slices of a volume together.
        seed: Random seed.

    Returns:
        The sorted stems of each split; "train" has the remaining ones.

    Raises:
        DataError: A split already exists, an image has no key, or there are too few groups.
    """
    opened = open_source(source)
    for name in shares:
        if opened.has(name):
            message = f"Expected no split {name}, but it already exists."
            raise data_error(opened.place(name), message, "Move it away, or divide the rest only.")
    if not (all(share > 0 for share in shares.values()) and sum(shares.values()) < 1):
        given = ", ".join(f"--{name} {share:g}" for name, share in shares.items())
        raise DataError(f"Expected shares above 0 whose sum is below 1, but got {given}.")
    dataset, numbers = pool_of(opened)
    stems = [dataset.stems[number] for number in numbers]
    groups = _numbered(_keys(stems, by) if by else _volumes(dataset, numbers))
    sizes = np.bincount(groups)
    if len(sizes) <= len(shares):
        raise DataError(
            f"Expected more than {len(shares)} groups of images to divide, but found {len(sizes)}"
            f" in {opened.place(opened.layout.pool)}. Use another --by, or add images."
        )
    pixels = _summed(count_pixels(dataset, numbers), groups)
    left: NDArray[np.int64] = np.arange(len(sizes))
    found: dict[str, list[int]] = {}
    for name, share in shares.items():
        order = balanced_order(pixels[left], len(left) - 1, seed=seed, spare=True)
        chosen = _up_to(left[order], sizes, share * len(stems))
        left = np.setdiff1d(left, chosen)
        found[name] = chosen
    return {
        name: tuple(sorted(stems[n] for n in np.flatnonzero(np.isin(groups, chosen))))
        for name, chosen in {opened.layout.pool: left.tolist(), **found}.items()
    }


_SHARE = 0.2  # share of the split held_out
_held: dict[str, tuple[str, ...]] = {}  # by fingerprint of the files


def hold_out(opened: DataSource) -> tuple[str, ...]:
    """Choose a fifth of the images of train, as in `divide_images`; at least one of two.

    Raises:
        DataError: The data set has errors other than unreadable files.
    """
    dataset, numbers = pool_of(opened)
    chosen_from = dataset.samples.at(np.array(numbers, np.int64))
    version = "".join(map(fingerprint, (chosen_from.images, *chosen_from.masks)))
    if version not in _held:
        try:
            pixels = count_pixels(dataset, numbers)
        except DataError:
            dataset, numbers = pool_of(opened, skip_corrupt=True)
            pixels = count_pixels(dataset, numbers)
        groups = _numbered(_volumes(dataset, numbers))
        sizes = np.bincount(groups)
        order = balanced_order(_summed(pixels, groups), len(sizes) - 1, seed=0, spare=True)
        chosen = _up_to(np.array(order, np.int64), sizes, _SHARE * len(numbers))
        places = np.flatnonzero(np.isin(groups, chosen or range(len(sizes) > 1)))
        _held[version] = tuple(sorted(dataset.stems[numbers[place]] for place in places))
    return _held[version]


def _up_to(order: NDArray[np.int64], sizes: NDArray[np.int64], wanted: float) -> list[int]:
    """Return the first groups, as long as each brings the number of images closer to `wanted`."""
    chosen: list[int] = []
    total = 0
    for group in order.tolist():
        if not chosen or abs(total + sizes[group] - wanted) < abs(total - wanted):
            chosen.append(group)
            total += sizes[group]
    return chosen


def _numbered(keys: Iterable[str | int]) -> NDArray[np.int64]:
    """Return the group index of each image; images with equal keys share a group."""
    numbers: dict[str | int, int] = {}
    return np.array([numbers.setdefault(key, len(numbers)) for key in keys], np.int64)


def _volumes(dataset: FolderDataset, numbers: Sequence[int]) -> Iterator[str | int]:
    """Return the volume of each slice, and a unique index for any other image."""
    images = dataset.samples.images.take(np.array(numbers, np.int64)).texts()
    return (os.path.dirname(i) if i.endswith(SLICE) else n for n, i in enumerate(images))


def _summed(pixels: NDArray[np.float64], groups: NDArray[np.int64]) -> NDArray[np.float64]:
    """Sum the pixels of each class over the groups: (I, C) -> (G, C)."""
    found = np.zeros((groups.max() + 1, pixels.shape[1]))
    np.add.at(found, groups, pixels)
    return found


def _keys(stems: Sequence[str], by: str) -> Sequence[str]:
    """Return the group key of each image."""
    table, _, column = by.rpartition(":")
    if table.endswith(".csv"):
        found = _column(Path(table).expanduser(), column)
        keys = [found.get(stem) for stem in stems]
    else:
        try:
            matches = [re.search(by, stem) for stem in stems]
        except re.error as error:
            raise DataError(
                f"--by: Expected a regular expression or FILE.csv:COLUMN, but got {by!r}: {error}."
            ) from error
        keys = [match and match[min(1, match.re.groups)] for match in matches]
    if without := [stem for stem, key in zip(stems, keys, strict=True) if not key]:
        raise DataError(
            f"--by {by}: Expected a key for each image, but {len(without)} have none: "
            f"{some_of(without)}."
        )
    return [str(key) for key in keys]


def _column(path: Path, column: str) -> dict[str, str]:
    """Return {stem in the first column: value of another column} of a table."""
    try:
        with path.open(newline="", encoding="utf-8") as file:
            rows = csv.DictReader(file)
            names = list(rows.fieldnames or ())
            if column not in names:
                message = f"Expected a column {column!r}, but found {', '.join(names)}."
                raise data_error(path, message, "Choose a column with --by FILE.csv:COLUMN.")
            return {Path(row[names[0]]).stem: row[column] for row in rows}
    except (OSError, UnicodeDecodeError) as error:
        raise DataError(f"--by: Cannot read {path}: {error}.") from error
