"""What an evaluation keeps of every image: evaluation.safetensors, or evaluation.json alone.

Sizes: N images, C classes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from softiou.metrics import CalibrationBins, OverlapCounts
from softiou.resampling import ImageStatistics

SUMS_VERSION = "1"


def read_sums(file: Path, content: Mapping[str, Any]) -> ImageStatistics:
    """Read the sums of an evaluation over every image, in the order of their stems.

    Args:
        file: Its evaluation.json, beside which the tensors lie: a file of the same name that ends
            in .safetensors.
        content: Of evaluation.json.

    Returns:
        What the tensors hold, if they are of this very evaluation; otherwise the part of it that
        the entry `images` has, too. A file of tensors that is damaged, missing or of another
        evaluation is no error: it allows intervals of a few more figures, no other values.

    Raises:
        KeyError, TypeError, ValueError, IndexError, AttributeError: Entries of another kind.
    """
    images, num_classes = content["images"], len(content["classes"])
    told = statistics_of_images(images, num_classes=num_classes)
    kept = _read_tensors(file.with_suffix(".safetensors"), created=content.get("created"))
    statistics = kept if kept is not None and _same_counts(kept, told) else told
    order = sorted(range(len(images)), key=lambda index: str(images[index]["stem"]))
    return statistics.apply(lambda x: x[torch.tensor(order)])


def _read_tensors(file: Path, *, created: object) -> ImageStatistics | None:
    """Return what a file of tensors holds; None where it is of no use."""
    try:
        with safe_open(file, framework="pt") as opened:
            metadata = opened.metadata() or {}
            if created is None or metadata.get("evaluation") != created:
                return None
            if metadata.get("schema_version") != SUMS_VERSION:
                return None
            names = opened.keys()
            return ImageStatistics.from_tensors({name: opened.get_tensor(name) for name in names})
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None


def _same_counts(one: ImageStatistics, other: ImageStatistics) -> bool:
    """Say whether two are of the same images in the same order, and of the same predictions."""
    theirs = other.counts.tensors()
    return all(torch.equal(x, theirs[name]) for name, x in one.counts.tensors().items())


def statistics_of_images(
    images: Sequence[Mapping[str, Any]], *, num_classes: int
) -> ImageStatistics:
    """Read the sums in the entry `images` of evaluation.json.

    Args:
        images: Each with "counts" {class index: [true_positives, predicted, present]}, and perhaps
            "bins" {"count", "confidence", "correct"}, "brier", "nll" and "pixels",
            "boundary_counts" (as "counts") and "boundary_bins" (as "bins"). A part that one image
            lacks is left out for all. A null among the sums is NaN, as of a model that gave NaN.
        num_classes: C.

    Raises:
        KeyError, TypeError, ValueError, IndexError, AttributeError: Entries of another kind.
    """

    def column(name: str) -> list[Any] | None:
        found = [image.get(name) for image in images]
        return None if None in found or not found else found

    def sums(name: str) -> Tensor | None:
        complete = bool(images) and all(name in image for image in images)
        return _numbers([image[name] for image in images]) if complete else None

    pixels = sums("pixels")
    boundary = column("boundary_counts")
    return ImageStatistics(
        counts=_counts([image["counts"] for image in images], num_classes),
        bins=_bins(column("bins")),
        brier=None if pixels is None else sums("brier"),
        nll=None if pixels is None else sums("nll"),
        pixels=pixels,
        boundary=None if boundary is None else _counts(boundary, num_classes),
        boundary_bins=_bins(column("boundary_bins")),
    )


def _counts(images: Sequence[Mapping[str, Sequence[int]]], num_classes: int) -> OverlapCounts:
    """Read counts that name only the classes that occur."""
    table = torch.zeros(3, len(images), num_classes, dtype=torch.int64)
    for n, classes in enumerate(images):
        for index, counts in classes.items():
            table[:, n, _class_index(index, num_classes)] = torch.tensor(counts, dtype=torch.int64)
    return OverlapCounts(*table)


def _class_index(text: str, num_classes: int) -> int:
    index = int(text)
    if not 0 <= index < num_classes:  # -1 would be the last class
        raise ValueError(f"class {index} of {num_classes}")
    return index


def _bins(images: Sequence[Mapping[str, Sequence[float]]] | None) -> CalibrationBins | None:
    if images is None:
        return None
    return CalibrationBins(
        *(
            torch.stack([_numbers(image[field.name]) for image in images])
            for field in fields(CalibrationBins)
        )
    )


def _numbers(values: Sequence[float | None]) -> Tensor:
    """Read numbers of JSON, which has no NaN."""
    return torch.tensor([math.nan if x is None else x for x in values], dtype=torch.float64)
