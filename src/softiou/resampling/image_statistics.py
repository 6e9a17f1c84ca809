"""Sums over the pixels of each image, from which all metrics of any images are computed.

To add a metric of new sums: add a field to `ImageStatistics`, fill it in `gather_image_statistics`,
and compute the metric in `weighted_metrics`.

Shapes: N images, C classes, B bins of confidence, F fine bins, R weightings of the images.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any, Self, get_args, get_type_hints

import torch
from torch import Tensor

from softiou.metrics import weighted
from softiou.metrics.bins import CalibrationBins
from softiou.metrics.boundary import boundary_counts
from softiou.metrics.counts import OverlapCounts
from softiou.metrics.decoding import DecodedTarget
from softiou.metrics.disagreement import generalized_energy_distance, sample_levels
from softiou.metrics.image_sums import ImageSums
from softiou.metrics.pixels import boundary_confidence_sums, confidence_sums, pixel_sums
from softiou.metrics.soft import OverlapMasses, overlap_masses
from softiou.metrics.weighted import MetricValues

BOUNDARY_PX = 3


@dataclass(frozen=True)
class ImageStatistics(ImageSums):
    """Sums over the pixels of each image; metrics of missing parts are omitted.

    Attributes:
        counts: Overlap of prediction and target: IoU, Dice and accuracies.
        bins: Top-label bins (N, B): ece_d, ece_i, mce_d.
        fine_bins: Top-label bins as `bins.fine_bins` counts them (N, F): ace_d.
        brier: Sums of the squared distances between probabilities and target (N,).
        nll: Sums of the negative log-likelihoods (N,), nats.
        pixels: Valid pixels (N,), for `brier` and `nll`.
        boundary: Overlap counts of the boundary bands: biou_d.
        boundary_bins: Top-label bins of the pixels near a boundary (N, B): bece_d.
        class_bins: Bins of the probability of each class (N, C, B): cece_d.
        masses: Overlap with a soft target: soft IoU and Dice.
        energy: Squared generalized energy distance of each image (N,), NaN if undefined: ged.

    Raises:
        ValueError: The parts have different numbers of images, or `pixels` are missing.
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
                    f"Expected `{name}` to have {self.num_images} images, like `counts.present`, "
                    f"but got {tuple(tensor.shape)}. Include the sums of all images, even empty "
                    "ones."
                )
        if self.pixels is None and (self.brier is not None or self.nll is not None):
            raise ValueError("Expected `pixels` together with `brier` and `nll`, but got None.")

    @property
    def num_images(self) -> int:
        """Return N."""
        return len(self.counts.present)

    @property
    def width(self) -> int:
        """Return the largest number of entries per image of a tensor."""
        return max(tensor[:1].numel() for tensor in self.tensors().values())

    @classmethod
    def from_tensors(cls, tensors: Mapping[str, Tensor]) -> Self:
        """Invert `tensors`; parts with a missing tensor are None, except the required `counts`."""
        parts: dict[str, Any] = {}
        for part, hint in get_type_hints(cls).items():
            kind = (get_args(hint) or (hint,))[0]  # without "or None"
            if kind is Tensor:
                parts[part] = tensors.get(part)
                continue
            columns = {field.name: tensors.get(f"{part}_{field.name}") for field in fields(kind)}
            whole = all(column is not None for column in columns.values())
            parts[part] = kind(**columns) if whole else None
        if parts["counts"] is None:
            raise KeyError("counts")
        return cls(**parts)

    @classmethod
    def concatenate(cls, batches: Sequence[Self]) -> Self:
        """Concatenate the sums of several batches with the same parts."""
        columns = [batch.tensors() for batch in batches]
        return cls.from_tensors({k: torch.cat([c[k] for c in columns]) for k in columns[0]})


@torch.no_grad()
def gather_image_statistics(
    probs: Tensor,
    preds: Tensor,
    target: DecodedTarget,
    *,
    num_classes: int,
    boundaries: bool = True,
    near: Tensor | None = None,
    soft: bool = False,
    masks: Tensor | None = None,
    ignore_index: int | None = None,
) -> ImageStatistics:
    """Compute the sums of a batch of images.

    Args:
        probs: Probabilities (N, C, *S).
        preds: Their most probable classes, int64 (N, *S).
        target: The target, decoded once for all metrics.
        boundaries: Whether to compute the counts of the boundary IoU.
        near: Bool (N, *S), the pixels within `BOUNDARY_PX` of a boundary; None computes them.
        soft: Whether to compute the masses of soft IoU and Dice.
        masks: Masks of R annotators (N, R, *S), for the energy distance; None omits it.
        ignore_index: Label of the pixels that an annotator did not label.
    """
    sums = pixel_sums(probs, target, num_classes=num_classes)
    if near is None:
        band = boundary_confidence_sums(probs, target, width=BOUNDARY_PX, num_classes=num_classes)
    else:
        band = confidence_sums(probs, replace(target, valid=near), num_classes=num_classes)
    calibration, energy = sums.calibration, None
    if masks is not None:
        # as many samples of the model's probabilities as annotators
        energy = generalized_energy_distance(
            sample_levels(probs, masks.shape[1]),
            masks,
            num_classes=num_classes,
            # of two classes, the first is the background, which is easy
            classes=[1] if num_classes == 2 else None,
            ignore_index=ignore_index,
        )
    return ImageStatistics(
        counts=sums.overlap,
        bins=calibration.equal_width(),
        fine_bins=calibration.fine,
        brier=calibration.brier,
        nll=calibration.nll,
        pixels=calibration.pixels,
        boundary=boundary_counts(preds, target, num_classes=num_classes) if boundaries else None,
        boundary_bins=band.equal_width(),
        class_bins=sums.classwise,
        masses=overlap_masses(probs, target) if soft else None,
        energy=energy,
    )


def weighted_metrics(statistics: ImageStatistics, weights: Tensor) -> MetricValues:
    """Compute all metrics for each weighting of the images.

    An image of weight w counts as w copies; M = sum_n w_n is the number of copies:

    - over the data set: a function of the sums S = sum_n w_n s_n of the images
    - means over images: sum_n w_n x_n / sum_n w_n over the images with a defined score x_n
    - worst q %: the mean of the lowest ceil(q M / 100) of the M defined copies; for miou_c_q10 and
      miou_c_q5 first for each class, then averaged over the classes

    Means over classes exclude classes without a target pixel, even if predicted.

    Args:
        statistics: Sums of N images.
        weights: Integers (R, N) as float64; ones (1, N) give the metrics of the original images.

    Returns:
        The metrics that can be computed from the parts of `statistics`.

    Raises:
        TypeError: `weights` are not float64.
        ValueError: The number of images of `weights` differs.

    Example:
        >>> right, present = torch.tensor([[1, 0], [3, 1]]), torch.tensor([[2, 0], [3, 1]])
        >>> statistics = ImageStatistics(OverlapCounts(right, present, present))
        >>> weights = torch.tensor([[1.0, 1.0], [2.0, 0.0]], dtype=torch.float64)
        >>> weighted_metrics(statistics, weights).metrics["accuracy"]
        tensor([0.8333, 0.5000], dtype=torch.float64)

    References:
        Wang et al., Revisiting Evaluation Metrics for Semantic Segmentation, NeurIPS 2023 D&B,
        arXiv 2310.19252, sections 3 and 4: data set, image, class and worst cases.
    """
    if weights.dtype != torch.float64:
        raise TypeError(f"Expected `weights` to be float64, but got {weights.dtype}.")
    if weights.ndim != 2 or weights.shape[1] != statistics.num_images:
        raise ValueError(
            f"Expected `weights` to have shape (R, N) with N = {statistics.num_images}, like the "
            f"statistics, but got {tuple(weights.shape)}."
        )
    found = weighted.overlap_metrics(statistics.counts, weights)
    found |= weighted.confidence_metrics(
        weights,
        bins=statistics.bins,
        fine_bins=statistics.fine_bins,
        boundary_bins=statistics.boundary_bins,
        brier=statistics.brier,
        nll=statistics.nll,
        pixels=statistics.pixels,
    )
    if statistics.boundary is not None:
        found |= weighted.boundary_metrics(statistics.boundary, weights)
    if statistics.class_bins is not None:
        found |= weighted.classwise_metrics(statistics.class_bins, weights)
    if statistics.masses is not None:
        found |= weighted.soft_metrics(statistics.masses, weights)
    if statistics.energy is not None:
        energy = weighted.weighted_mean(statistics.energy, weights)
        found |= MetricValues({"ged": energy}, {})
    return found
