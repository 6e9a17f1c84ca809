"""Recommended settings for training, from the class statistics of a data set.

References:
    D. Eigen, R. Fergus. Predicting Depth, Surface Normals and Semantic Labels with a Common
    Multi-Scale Convolutional Architecture. ICCV 2015. https://arxiv.org/abs/1411.4734 (Median-
    frequency balancing, in the section on semantic labels.)
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import median

from softiou.checking.summaries import SplitSummary
from softiou.data.crops import automatic_crop
from softiou.data.problems import Problem, some_of, warning

_MANY_IMAGES = 50
_FEW_IMAGES = 10
_TINY_SHARE = 5e-4
_LARGE_SHIFT = 0.2
_ENOUGH_IMAGES = 20


@dataclass(frozen=True)
class Advice:
    """Recommended settings for training on the split `train`."""

    crop_px: tuple[int, int]  # height and width of `data.crop_px=auto`
    # classes in fewer than 10 images or less than 0.05 % of the pixels (a rule of thumb), if there
    # are at least 50 images: merge each with a similar class by `label_map`, or label more
    scarce: tuple[str, ...]
    # median-frequency weights median(f) / f_c, where f_c is the share of class c in the images with
    # the class, and the median is over the classes that occur; 1 for absent classes. For
    # cross-entropy only, because IoU losses weight classes equally.
    class_weights: tuple[float, ...]
    imbalance: float  # the largest f_c divided by the smallest one


def advise(summary: SplitSummary, sizes: Sequence[tuple[int, int]]) -> Advice:
    """Return advice from the statistics of `train` and the image sizes for `automatic_crop`."""
    frequencies = [c.frequency for c in summary.classes if c.images]
    middle = median(frequencies)
    return Advice(
        crop_px=automatic_crop(sizes),
        scarce=_scarce(summary),
        class_weights=tuple(
            round(middle / c.frequency, 3) if c.images else 1.0 for c in summary.classes
        ),
        imbalance=max(frequencies) / min(frequencies),
    )


def _scarce(summary: SplitSummary) -> tuple[str, ...]:
    """Return the rare classes; empty for few images, where every class is rare."""
    if summary.images < _MANY_IMAGES:
        return ()
    return tuple(
        c.name
        for c in summary.classes
        if c.images and (c.images < _FEW_IMAGES or c.pixel_share < _TINY_SHARE)
    )


def class_shifts(
    place_of: Callable[[str], Path], summaries: Mapping[str, SplitSummary]
) -> Iterator[Problem]:
    """Warn about splits whose class distribution differs strongly from that of `train`.

    The limit is a total variation distance (half the sum of absolute differences) of 20 %, for
    splits of at least 20 images.
    """
    train = summaries.get("train")
    if train is None or train.images < _ENOUGH_IMAGES:
        return
    for split in (split for split in ("val", "test") if split in summaries):
        other = summaries[split]
        differences = [
            (theirs.pixel_share - own.pixel_share, own.name)
            for own, theirs in zip(train.classes, other.classes, strict=True)
        ]
        distance = sum(abs(difference) for difference, _ in differences) / 2
        if other.images < _ENOUGH_IMAGES or distance <= _LARGE_SHIFT:
            continue
        differences.sort(key=lambda pair: -abs(pair[0]))
        largest = some_of(f"{name} {difference:+.1%}" for difference, name in differences[:3])
        message = f"{distance:.0%} of the pixels of {split} would need another class for the class "
        message += f"distribution of train; the largest differences are {largest}."
        remedy = "Metrics on it say little about data like train: consider a random division."
        yield warning(place_of(split), "class_shift", message, remedy)
