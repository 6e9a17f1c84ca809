"""Read evaluated runs: evaluation.json and the files beside it.

Sizes: N images, C classes.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from functools import cached_property
from operator import attrgetter
from pathlib import Path
from typing import Any

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor

from softiou._reading import read_yaml
from softiou.comparison.results import WHOLE_IMAGE
from softiou.configuration.files import by_dotted_key
from softiou.data import absolute_source
from softiou.errors import DataError
from softiou.evaluation import schema
from softiou.metrics import CalibrationBins, OverlapCounts
from softiou.resampling import ImageStatistics

SUMS_VERSION = "1"

# Settings that do not affect the training; `data.source` is compared as absolute path.
_IRRELEVANT = ("seed", "data.workers", "distillation.baseline")


@dataclass(frozen=True, eq=False)
class EvaluatedRun:
    """An evaluation of schema version 2, and the files beside it."""

    name: str  # as given by the caller
    path: Path  # its evaluation.json
    evaluation: schema.Evaluation  # the content
    statistics: ImageStatistics  # of the images, in the order of their stems
    # settings that affect the training, by dotted key; None without config.yaml
    settings: Mapping[str, Any] | None
    seed: int | None  # None if unknown

    @cached_property
    def images(self) -> dict[str, schema.ImageScores]:
        """The images by stem, sorted."""
        return {
            image.stem: image for image in sorted(self.evaluation.images, key=attrgetter("stem"))
        }

    @property
    def inference(self) -> str:
        """Description of the inference settings."""
        return self.evaluation.inference.summary() or WHOLE_IMAGE


def read_run(path: Path) -> EvaluatedRun:
    """Read the evaluation of a run directory or of its evaluation.json."""
    file, evaluation = schema.evaluation_file(path), schema.read_evaluation(path)
    if evaluation.schema_version < 2:
        raise DataError(
            f"{file} has the schema version {evaluation.schema_version}, which lacks the sums of "
            "each image. Write it again with `softiou evaluate RUN DATA`."
        )
    if not evaluation.images:
        raise DataError(f"{file} contains no images, so there is nothing to compare.")
    settings, seed = _read_settings(file.with_name("config.yaml"))
    try:
        statistics = _read_sums(file, evaluation)
    except (ValueError, RuntimeError) as error:
        raise DataError(
            f"Expected the images of {file} to have sums of one size, but got: {error}. Write it "
            "again with `softiou evaluate RUN DATA`."
        ) from error
    return EvaluatedRun(str(path), file, evaluation, statistics, settings, seed)


def _read_sums(file: Path, evaluation: schema.Evaluation) -> ImageStatistics:
    """Return the sums of each image, sorted by stem; fewer if the file of tensors is missing."""
    images = evaluation.images
    listed = statistics_of_images(images, num_classes=len(evaluation.classes))
    stored = _read_tensors(file.with_suffix(".safetensors"), created=evaluation.created)
    counts = listed.counts.tensors()  # the stored tensors may belong to another evaluation
    same = stored is not None and all(
        torch.equal(x, counts[name]) for name, x in stored.counts.tensors().items()
    )
    statistics = stored if stored is not None and same else listed
    order = sorted(range(len(images)), key=lambda index: images[index].stem)
    return statistics.apply(lambda x: x[torch.tensor(order)])


def _read_tensors(file: Path, *, created: str) -> ImageStatistics | None:
    """Return the content of a file of tensors, or None if it is missing or does not match."""
    try:
        with safe_open(file, framework="pt") as opened:
            if opened.metadata() != {"evaluation": created, "schema_version": SUMS_VERSION}:
                return None
            names = opened.keys()
            return ImageStatistics.from_tensors({name: opened.get_tensor(name) for name in names})
    except (OSError, SafetensorError, ValueError, KeyError, TypeError):
        return None


def statistics_of_images(
    images: Sequence[schema.ImageScores], *, num_classes: int
) -> ImageStatistics:
    """Collect the sums of the images of an evaluation with C classes.

    A sum that is missing for an image is omitted for all; null becomes NaN, as for a model that
    predicts NaN.
    """

    def sums(name: str) -> Tensor | None:
        complete = bool(images) and all(name in image.model_fields_set for image in images)
        return numbers([getattr(image, name) for image in images]) if complete else None

    pixels = sums("pixels")
    boundary = [image.boundary_counts for image in images if image.boundary_counts is not None]
    return ImageStatistics(
        counts=_counts([image.counts or {} for image in images], num_classes),
        bins=_bins([image.bins for image in images]),
        brier=None if pixels is None else sums("brier"),
        nll=None if pixels is None else sums("nll"),
        pixels=pixels,
        boundary=_counts(boundary, num_classes) if len(boundary) == len(images) > 0 else None,
        boundary_bins=_bins([image.boundary_bins for image in images]),
    )


def _counts(images: Sequence[Mapping[int, schema.Counts]], num_classes: int) -> OverlapCounts:
    """Return the counts of all classes; images list only the classes that occur."""
    table = torch.zeros(3, len(images), num_classes, dtype=torch.int64)
    for n, classes in enumerate(images):
        for index, counts in classes.items():
            table[:, n, index] = torch.tensor(counts)
    return OverlapCounts(*table)


def _bins(images: Sequence[schema.ImageBins | None]) -> CalibrationBins | None:
    found = [bins for bins in images if bins is not None]
    if not found or len(found) < len(images):
        return None
    names = [field.name for field in fields(CalibrationBins)]
    return CalibrationBins(
        *(torch.stack([numbers(getattr(bins, name)) for bins in found]) for name in names)
    )


def numbers(values: Sequence[float | None]) -> Tensor:
    """Return a tensor of numbers, with NaN for None."""
    return torch.tensor([math.nan if x is None else x for x in values], dtype=torch.float64)


def _read_settings(file: Path) -> tuple[dict[str, Any] | None, int | None]:
    """Return the settings that affect the training, and the seed; None without the file."""
    try:
        content = read_yaml(file)
    except FileNotFoundError:
        return None, None
    except ValueError as error:
        raise DataError(f"{file} is not valid YAML: {error}") from error
    if not isinstance(content, dict):
        raise DataError(f"{file} contains no settings. Remove it to compare without settings.")
    values = by_dotted_key(content)
    seed = values.get("seed")
    for key in _IRRELEVANT:
        values.pop(key, None)
    source = values.get("data.source")
    if isinstance(source, str):
        values["data.source"] = absolute_source(source)
    return values, seed if isinstance(seed, int) else None
