"""What is kept of every image, so that every figure can be computed of any choice of images.

Shapes: N images, C classes, B bins of confidence, F fine bins.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor

from softiou.metrics.bins import CalibrationBins
from softiou.metrics.calibration_sums import PixelSums
from softiou.metrics.counts import OverlapCounts
from softiou.metrics.images import ImageSums
from softiou.metrics.soft import OverlapMasses

_PARTS: Mapping[str, type[ImageSums]] = {
    "counts": OverlapCounts,
    "bins": CalibrationBins,
    "fine_bins": CalibrationBins,
    "boundary": OverlapCounts,
    "boundary_bins": CalibrationBins,
    "class_bins": CalibrationBins,
    "masses": OverlapMasses,
}
_TENSORS = ("brier", "nll", "pixels", "energy")


@dataclass(frozen=True)
class ImageStatistics(ImageSums):
    """Sums over the pixels of every image; parts that are None give no figures.

    Attributes:
        counts: Overlap of prediction and target: IoU, Dice and accuracies.
        bins: Top-label bins (N, B): ece_d, ece_i, mce_d.
        fine_bins: Top-label bins as `bins.fine_bins` counts them (N, F): ace_d.
        brier: Of the squared distances between probabilities and truth (N,).
        nll: Of the negative log-likelihoods (N,), nats.
        pixels: That count (N,), for `brier` and `nll`.
        boundary: Overlap counts of the boundary bands: biou_d.
        boundary_bins: Top-label bins of the boundary band (N, B): bece_d.
        class_bins: Bins of the probability of every class (N, C, B): cece_d.
        masses: Overlap with a soft truth: soft IoU and Dice.
        energy: Squared generalised energy distance of every image (N,), NaN where undefined: ged.

    Raises:
        ValueError: The parts are of different numbers of images, or `pixels` are missing.
    """

    counts: OverlapCounts
    bins: CalibrationBins | None = None
    fine_bins: CalibrationBins | None = None
    brier: Tensor | None = None
    nll: Tensor | None = None
    pixels: Tensor | None = None
    boundary: OverlapCounts | None = None
    boundary_bins: CalibrationBins | None = None
    class_bins: CalibrationBins | None = None
    masses: OverlapMasses | None = None
    energy: Tensor | None = None

    def __post_init__(self) -> None:
        for name, tensor in self.tensors().items():
            if len(tensor) != self.num_images:
                raise ValueError(
                    f"Expected `{name}` to be of {self.num_images} images, as `counts.present`, "
                    f"but got {tuple(tensor.shape)}. Give the sums of every image, empty ones, too."
                )
        if self.pixels is None and (self.brier is not None or self.nll is not None):
            raise ValueError("Expected `pixels` beside `brier` and `nll`, but got None.")

    @property
    def num_images(self) -> int:
        """Return N."""
        return len(self.counts.present)

    @property
    def width(self) -> int:
        """Return how many numbers the widest tensor holds of an image."""
        return max(tensor[:1].numel() for tensor in self.tensors().values())

    @classmethod
    def from_pixels(
        cls,
        sums: PixelSums,
        *,
        boundary: OverlapCounts | None = None,
        boundary_bins: CalibrationBins | None = None,
        masses: OverlapMasses | None = None,
        energy: Tensor | None = None,
    ) -> Self:
        """Take what one pass over the pixels has gathered, and what is known beside it."""
        calibration = sums.calibration
        return cls(
            counts=sums.overlap,
            bins=calibration.equal_width(),
            fine_bins=calibration.fine,
            brier=calibration.brier,
            nll=calibration.nll,
            pixels=calibration.pixels,
            boundary=boundary,
            boundary_bins=boundary_bins,
            class_bins=sums.classwise,
            masses=masses,
            energy=energy,
        )

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Undo `tensors`; parts that are not there whole are None.

        Raises:
            KeyError: There are no counts.
            ValueError: As for the class.
        """
        parts: dict[str, Any] = {name: tensors.get(name) for name in _TENSORS}
        for part, kind in _PARTS.items():
            columns = {field.name: tensors.get(f"{part}_{field.name}") for field in fields(kind)}
            whole = all(column is not None for column in columns.values())
            parts[part] = kind(**columns) if whole else None
        if parts["counts"] is None:
            raise KeyError("counts")
        return cls(**parts)

    @classmethod
    def from_images(cls, images: Sequence[Mapping[str, Any]], *, num_classes: int) -> Self:
        """Read the entry `images` of evaluation.json.

        Args:
            images: Each with "counts" {class index: [true_positives, predicted, present]}, and
                perhaps "bins" {"count", "confidence", "correct"}, "brier", "nll" and "pixels",
                "boundary_counts" (as "counts") and "boundary_bins" (as "bins"). A part that one
                image lacks is left out for all. A null among the sums is NaN, as of a model that
                gave NaN.
            num_classes: C.

        Raises:
            KeyError, TypeError, ValueError, IndexError, AttributeError: Entries of another kind.
        """

        def column(name: str) -> list[Any] | None:
            found = [image.get(name) for image in images]
            return None if None in found or not found else found

        def sums(name: str) -> Tensor | None:
            known = bool(images) and all(name in image for image in images)
            return _numbers([image[name] for image in images]) if known else None

        pixels = sums("pixels")
        boundary = column("boundary_counts")
        return cls(
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
