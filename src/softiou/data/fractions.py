"""Nested, class-balanced fractions of the training images, for experiments with few labels.

Shapes: I images, C classes, K candidates.
"""

from collections.abc import Sequence
from fractions import Fraction
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from softiou._files import write_atomically
from softiou.data.base import count_classes
from softiou.data.folder import FolderDataset
from softiou.data.problems import data_error
from softiou.data.source import DataSource, open_source
from softiou.data.verifying import bounded_map
from softiou.errors import DataError

_CANDIDATES = 64  # enough for a good balance, few enough for different results with different seeds
_TOGETHER = 4096  # images ordered together; the time grows quadratically

_Pixels = NDArray[np.float64]


def parse_fractions(text: str) -> list[Fraction]:
    """Parse fractions such as "1/16,1/8".

    Raises:
        DataError: A fraction is not between 0 and 1.

    Example:
        >>> parse_fractions("1/8, 0.25")
        [Fraction(1, 8), Fraction(1, 4)]
    """
    fractions = []
    for part in text.split(","):
        try:
            fraction = Fraction(part.strip())
        except (ValueError, ZeroDivisionError) as error:
            raise DataError(
                f"--fractions: {part.strip()!r} is not a fraction; write, say, 1/16,1/8,1/4."
            ) from error
        if not 0 < fraction < 1:
            raise DataError(f"--fractions: {part.strip()} is not between 0 and 1.")
        fractions.append(fraction)
    return fractions


def name_of(fraction: Fraction) -> str:
    """Return the name of the list of a fraction, such as 1_8 for 1/8."""
    return f"{fraction.numerator}_{fraction.denominator}"


def split_fractions(
    source: str | Path, fractions: Sequence[Fraction], *, seed: int
) -> dict[str, tuple[str, ...]]:
    """Choose nested, class-balanced fractions of the training images.

    The images are those of the split `train` (of most layouts) that are not in val or test. They
    are sorted once, and each fraction takes the first of them, so smaller fractions are subsets of
    larger ones. First, images are added for the rarest class that is still missing. After that, of
    some random candidates the one is added that brings the class frequencies, in pixels and in
    images, closest to those of all images.

    Args:
        source: Folder of the data set, or LAYOUT:/path.
        fractions: Fractions between 0 and 1.
        seed: Random seed.

    Returns:
        The sorted stems of each list, such as "1_8"; at least one each.

    Raises:
        DataError: The data set has errors.
    """
    opened = open_source(source)
    dataset, numbers = pool_of(opened)
    sizes = {name_of(f): max(1, round(f * len(numbers))) for f in fractions}
    order = balanced_order(count_pixels(dataset, numbers), max(sizes.values()), seed=seed)
    return {
        name: tuple(sorted(dataset.stems[numbers[place]] for place in order[:size]))
        for name, size in sizes.items()
    }


def pool_of(opened: DataSource, *, skip_corrupt: bool = False) -> tuple[FolderDataset, list[int]]:
    """Return the split to choose from, and the indices of its images outside val and test.

    Raises:
        DataError: There are no such images.
    """
    pool = opened.layout.pool
    dataset = FolderDataset(opened, pool, labels="hard", skip_corrupt=skip_corrupt)
    evaluated = opened.images_of(("val", "test"))
    paths = dataset.samples.images.real()
    numbers = [number for number, path in enumerate(paths) if path not in evaluated]
    if not numbers:
        message = "Expected images to choose from, but all of them are in val or test."
        raise data_error(opened.place(pool), message, "Remove images from their lists.")
    return dataset, numbers


def count_pixels(dataset: FolderDataset, numbers: Sequence[int]) -> _Pixels:
    """Count the pixels of each class in some images: (I, C)."""

    def count(number: int) -> NDArray[np.int64]:
        target = dataset.target(dataset.samples[number])
        return count_classes(target, dataset.description).numpy()

    found = np.empty((len(numbers), dataset.description.num_classes))
    for place, pixels in enumerate(bounded_map(count, numbers)):
        found[place] = pixels
    return found


def balanced_order(pixels: _Pixels, length: int, *, seed: int, spare: bool = False) -> list[int]:
    """Order images so that any number of first images has the class frequencies of all.

    `pixels` (I, C) are the pixel counts of the images. With `spare`, the order ends before the last
    image of a class. More than 4096 images are grouped by their rarest class and divided into parts
    of this size; the order alternates evenly between the parts.
    """
    random = np.random.default_rng(seed)
    if len(pixels) <= _TOGETHER:
        return _order_of(pixels, length, random, spare=spare)
    occurs = pixels > 0
    rarest = np.where(occurs, occurs.sum(0), len(pixels) + 1).argmin(1)
    alike = random.permutation(len(pixels))
    alike = alike[rarest[alike].argsort(kind="stable")]
    found, places = [], []
    for part in np.array_split(alike, -(-len(alike) // _TOGETHER)):
        most = -(-length * len(part) // len(pixels))
        found.append(part[_order_of(pixels[part], most, random, spare=spare)])
        places.append((np.arange(len(found[-1])) + random.random()) / len(part))
    order: list[int] = np.concatenate(found)[np.concatenate(places).argsort()][:length].tolist()
    return order


def _order_of(
    pixels: _Pixels, length: int, random: np.random.Generator, *, spare: bool
) -> list[int]:
    """Order at most a few thousand images."""
    features = _features(pixels)
    occurs = pixels > 0  # (I, C)
    images = occurs.sum(0)
    missing, left = images > 0, images.copy()
    total = np.zeros(features.shape[1])
    order: list[int] = []
    free = np.ones(len(pixels), dtype=bool)
    while len(order) < length:
        pool = free.copy()
        if spare and (left == 1).any():
            pool &= ~occurs[:, left == 1].any(1)
        if spare and missing.any():
            missing &= occurs[pool].any(0)
        if not pool.any():
            break
        if missing.any():
            rarity = np.where(missing, images, len(pixels) + 1)
            pool &= occurs[:, rarity.argmin()]
        candidates = random.permutation(np.flatnonzero(pool))[:_CANDIDATES]
        means = (total + features[candidates]) / (len(order) + 1)  # (K, 2C)
        chosen = int(candidates[((means - 1) ** 2).sum(1).argmin()])
        order.append(chosen)
        total += features[chosen]
        free[chosen] = False
        left -= occurs[chosen]
        missing &= ~occurs[chosen]
    return order


def _features(pixels: _Pixels) -> _Pixels:
    """Return pixels and presence of each class, divided by their means over the images (I, 2C)."""
    both = np.concatenate([pixels, pixels > 0], axis=1)
    mean = both.mean(0)
    features: _Pixels = both[:, mean > 0] / mean[mean > 0]
    return features


def write_splits(
    source: str | Path, splits: dict[str, tuple[str, ...]], *, folder: Path | None = None
) -> list[Path]:
    """Write lists of stems, one per line.

    Args:
        source: Folder of the data set, or LAYOUT:/path.
        splits: Stems by name of the split.
        folder: Folder of the lists; None for DATA/splits.

    Returns:
        The paths of the lists.

    Raises:
        DataError: A list already exists with other stems; then nothing is written.
    """
    folder = open_source(source).lists if folder is None else folder
    contents = {
        folder / f"{name}.txt": "".join(f"{stem}\n" for stem in stems).encode(
            errors="surrogateescape"
        )
        for name, stems in splits.items()
    }
    for path, content in contents.items():
        if path.exists() and path.read_bytes() != content:
            message = "The list already exists with other images; nothing was changed."
            raise data_error(path, message, "Remove it, or choose another folder with --out.")
    for path, content in contents.items():
        path.parent.mkdir(parents=True, exist_ok=True)
        write_atomically(content, path)
    return list(contents)
