"""Soft IoU and soft Dice: overlap of probabilities with a soft target, such as shares of votes.

Shapes: N images, C classes, *S space.
"""

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from softiou import _checks
from softiou.metrics.decoding import AnyTarget, DecodedTarget
from softiou.metrics.image_metrics import ImageMetric, MeanMetric
from softiou.metrics.image_sums import OverlapSums
from softiou.metrics.weighted import equal_weights, soft_metrics
from softiou.overlap import overlap_statistics


@dataclass(frozen=True)
class OverlapMasses(OverlapSums):
    """Masses of each image and class, float64 (N, C), of prediction p and target y.

    Attributes:
        P: Of the prediction, sum p.
        Y: Of the target, sum y.
        D: Of the absolute difference, sum |p - y|.
    """

    P: Tensor
    Y: Tensor
    D: Tensor

    def target_size(self) -> Tensor:
        """Return the mass of the target (N, C)."""
        return self.Y

    def predicted_size(self) -> Tensor:
        """Return the mass of the prediction (N, C)."""
        return self.P

    def iou(self) -> Tensor:
        """Compute the soft Jaccard index (P + Y - D) / (P + Y + D); NaN where Y = 0."""
        return self._defined(self._twice_overlap() / (self.P + self.Y + self.D))

    def dice(self) -> Tensor:
        """Compute the soft Dice score (P + Y - D) / (P + Y); NaN where Y = 0."""
        return self._defined(self._twice_overlap() / (self.P + self.Y))

    def _defined(self, score: Tensor) -> Tensor:
        # A softmax gives every class a trace of mass: without this, a class that does not occur in
        # any target would score 0. The mass predicted for it is missing from the other classes.
        return score.where(self.occurs(), torch.nan)

    def _twice_overlap(self) -> Tensor:
        # Rounding of the three sums can leave a disjoint pair just below zero.
        return (self.P + self.Y - self.D).clamp(min=0)


@torch.no_grad()
def overlap_masses(
    probs: Tensor,
    target: AnyTarget,
    *,
    ignore_index: int | None = None,
    valid: Tensor | None = None,
) -> OverlapMasses:
    """Gather the masses of prediction, target and their difference, image by image.

    Args:
        probs: Probabilities (N, C, *S) of any floating dtype.
        target: Class indices (N, *S), probabilities (N, C, *S), or any `Target`.
        ignore_index: Label value of the pixels to ignore; in a soft target it fills all C entries
            of the pixel.
        valid: Bool (N, *S), False for pixels to ignore.

    Returns:
        float64 masses (N, C).

    Raises:
        TypeError: `probs` are not floating, or `valid` is not bool.
        ValueError: Shapes do not match, or `probs` or the target do not sum to 1 over the classes.

    Note:
        The pixels of one image are added up in float32 (float64 for float64 `probs`) by the tiled
        pass of the losses, images in float64. Nothing of the size of a dense target is made.

    Example:
        >>> probs, target = torch.tensor([[[0.75], [0.25]]]), torch.tensor([[[0.5], [0.5]]])
        >>> overlap_masses(probs, target).iou()
        tensor([[0.6667, 0.5000]], dtype=torch.float64)
    """
    if not _checks.dense_tensor("probs", probs).is_floating_point():
        raise TypeError(
            f"Expected `probs` to be floating probabilities (N, C, *S), but got {probs.dtype}. For "
            "predicted classes use MeanIoU or MeanDice."
        )
    if isinstance(target, DecodedTarget):
        valid = target.valid if valid is None else target.valid & valid
        target, ignore_index = target.top_labels() if target.probs is None else target.probs, None
    sums = overlap_statistics(
        probs, target, activation="none", ignore_index=ignore_index, valid=valid, validate=False
    )
    masses = OverlapMasses(P=sums.P.double(), Y=sums.Y.double(), D=sums.D.double())
    weight = sums.weight.double()
    _check_mass("probs", masses.P.sum(1), weight, "Logits need `logits.softmax(1)` first.")
    _check_mass(
        "target",
        masses.Y.sum(1),
        weight,
        "Exclude unlabelled pixels with `valid` or `ignore_index`.",
    )
    return masses


def _check_mass(name: str, mass: Tensor, weight: Tensor, way_out: str) -> None:
    """Raise unless the mean pixel of each image (N,) has the mass 1: it costs N numbers, not N P.

    NaN raises, too: it would drop out of the means over images and classes without a trace.
    """
    wrong = ~((mass - weight).abs() <= 1e-2 * weight)
    if bool(wrong.any()):
        found = (mass / weight)[wrong][0].item()
        raise ValueError(
            f"Expected `{name}` to be probabilities that sum to 1 over the classes, but the mean "
            f"sum of an image is {found:.4g}. {way_out}"
        )


class SoftOverlapMetric(ImageMetric[OverlapMasses]):
    """Base of the metrics that keep the overlap masses of every image, (N, C).

    Args:
        num_classes: C, at least 2.
        **kwargs: `ignore_index`, for hard and soft targets, and those of `torchmetrics.Metric`.
    """

    P: list[Tensor]
    Y: list[Tensor]
    D: list[Tensor]

    def __init__(self, num_classes: int, **kwargs: Any) -> None:
        _checks.whole("num_classes", num_classes, 1)
        none = torch.zeros(0, num_classes, dtype=torch.float64)
        super().__init__(num_classes, empty=OverlapMasses(none, none, none), **kwargs)

    def update(self, probs: Tensor, target: AnyTarget, valid: Tensor | None = None) -> None:
        """Add images: see `overlap_masses` for the shapes."""
        if _checks.dense_tensor("probs", probs).ndim < 3 or probs.shape[1] != self.num_classes:
            raise ValueError(
                f"Expected `probs` to have shape (N, C, *S) with C = {self.num_classes}, but got "
                f"{tuple(probs.shape)}."
            )
        self._append(overlap_masses(probs, target, ignore_index=self.ignore_index, valid=valid))


class SoftIoU(MeanMetric[OverlapMasses], SoftOverlapMetric):
    """Soft IoU of probabilities and a target that may be soft, averaged as in `MeanIoU`.

        soft IoU = (P + Y - D) / (P + Y + D),    P = sum p, Y = sum y, D = sum |p - y|

    It is 1 at p = y and nowhere else, and 1 - soft IoU is a metric on [0, 1]^n. The usual product
    form M / (P + Y - M), M = sum p y, is not suited to soft targets: at p = y it stays below 1
    wherever y is soft, and predictions that exaggerate the majority score higher. For hard targets
    and hard predictions both are the IoU.

    Args:
        num_classes: C, at least 2.
        per: "dataset" (masses added over the images first; a class with Y = 0 is NaN and left
            out), "image" or "class" (classes with Y > 0 in the image), or "none".
        ignore_index: Label value of the pixels to ignore.
        **kwargs: Of `torchmetrics.Metric`.

    Example:
        >>> from softiou import targets
        >>> raters = torch.tensor([[[0, 1], [1, 1]]])  # (1, 2, 2): they disagree on one pixel
        >>> metric = SoftIoU(num_classes=2)
        >>> metric.update(torch.tensor([[[0.5, 0.0], [0.5, 1.0]]]), targets.votes(raters))
        >>> metric.compute()
        tensor(1., dtype=torch.float64)

    References:
        Wang, Ning, Blaschko, Jaccard Metric Losses, NeurIPS 2023, arXiv 2302.05666, definition 2.
    """

    def score(self, sums: OverlapMasses) -> Tensor:
        """Return the soft IoU (N, C)."""
        return sums.iou()


class SoftDice(MeanMetric[OverlapMasses], SoftOverlapMetric):
    """Soft Dice score, (P + Y - D) / (P + Y); arguments and averages as in `SoftIoU`.

    It is 1 at p = y and nowhere else. The product form 2 M / (P + Y) is not: with y = 1/2
    everywhere it is 1/2 at p = y, and 2/3 at p = 1.

    References:
        Wang, Popordanoska, Bertels, Lemmens, Blaschko, Dice Semimetric Losses, MICCAI 2023, arXiv
        2303.16296.
    """

    def score(self, sums: OverlapMasses) -> Tensor:
        """Return the soft Dice score (N, C)."""
        return sums.dice()


class SoftScores(SoftOverlapMetric):
    """Soft IoU and soft Dice at once, from masses that are gathered once.

    `compute` returns a dict of float64 scalars in [0, 1]: soft_iou_d, soft_iou_i, soft_iou_c,
    soft_dice_d, soft_dice_i, soft_dice_c (data set, image, class; see `SoftIoU`).
    """

    def compute(self) -> dict[str, Tensor]:
        """Return the scores by name."""
        sums = self.sums()
        return soft_metrics(sums, equal_weights(sums)).of_row()
