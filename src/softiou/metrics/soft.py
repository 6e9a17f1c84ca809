"""Soft IoU and soft Dice: overlap of probabilities with a soft target, such as vote shares.

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
from softiou.targets import as_target
from softiou.targets.hard import LabelsTarget, validate_on_cpu


@dataclass(frozen=True)
class OverlapMasses(OverlapSums):
    """Sums over the pixels of each image and class, float64 (N, C), with prediction p and target y.

    Attributes:
        P: Mass of the prediction, sum p.
        Y: Mass of the target, sum y.
        D: Absolute difference, sum |p - y|.
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
        # A softmax gives every class some mass, so classes that are not in the target would score
        # 0. They need no penalty: the mass predicted for them is missing from the other classes.
        return score.where(self.occurs(), torch.nan)

    def _twice_overlap(self) -> Tensor:
        # Rounding of the three sums can make it slightly negative without overlap.
        return (self.P + self.Y - self.D).clamp(min=0)


@torch.no_grad()
def overlap_masses(
    probs: Tensor,
    target: AnyTarget,
    *,
    ignore_index: int | None = None,
    valid: Tensor | None = None,
) -> OverlapMasses:
    """Compute the masses of prediction, target and their difference for each image.

    Args:
        probs: Probabilities (N, C, *S) of any floating dtype.
        target: Class indices (N, *S), probabilities (N, C, *S), or any `Target`.
        ignore_index: Label of pixels to ignore; in a soft target, all C entries of such a pixel.
        valid: Bool (N, *S), False for pixels to ignore.

    Returns:
        float64 masses (N, C).

    Raises:
        TypeError: `probs` are not floating, or `valid` is not bool.
        ValueError: Shapes do not match, or `probs` or the target do not sum to 1 over the classes.

    Note:
        The pixels of an image are summed in float32 (float64 for float64 `probs`), images in
        float64. The target is read in tiles and never expanded as a whole.

    Example:
        >>> probs, target = torch.tensor([[[0.75], [0.25]]]), torch.tensor([[[0.5], [0.5]]])
        >>> overlap_masses(probs, target).iou()
        tensor([[0.6667, 0.5000]], dtype=torch.float64)
    """
    if not _checks.dense_tensor("probs", probs).is_floating_point():
        raise TypeError(
            f"Expected `probs` to be floating probabilities (N, C, *S), but got {probs.dtype}. For "
            "predicted classes, use MeanIoU or MeanDice."
        )
    if isinstance(target, DecodedTarget):
        valid = target.valid if valid is None else target.valid & valid
        target, ignore_index = target.top_labels() if target.probs is None else target.probs, None
    sums = overlap_statistics(
        probs, target, activation="none", ignore_index=ignore_index, valid=valid, validate=False
    )
    ready = as_target(target, logits_shape=tuple(probs.shape), ignore_index=ignore_index)
    if isinstance(ready, LabelsTarget):
        validate_on_cpu(
            ready.labels, num_classes=probs.shape[1], ignore_index=ready.ignore_index, valid=valid
        )
    masses = OverlapMasses(P=sums.P.double(), Y=sums.Y.double(), D=sums.D.double())
    weight = sums.weight.double()
    _check_mass("probs", masses.P.sum(1), weight, "For logits, use `logits.softmax(1)`.")
    _check_mass(
        "target",
        masses.Y.sum(1),
        weight,
        "Exclude unlabelled pixels with `valid` or `ignore_index`.",
    )
    return masses


def _check_mass(name: str, mass: Tensor, weight: Tensor, way_out: str) -> None:
    """Raise a ValueError unless the probabilities of each image sum to 1 on average.

    This checks N numbers instead of all pixels. NaN raises as well, because it would be silently
    left out of the means over images and classes.
    """
    wrong = ~((mass - weight).abs() <= 1e-2 * weight)
    if bool(wrong.any()):
        found = (mass / weight)[wrong][0].item()
        raise ValueError(
            f"Expected `{name}` to be probabilities that sum to 1 over the classes, but the mean "
            f"sum of an image is {found:.4g}. {way_out}"
        )


class SoftOverlapMetric(ImageMetric[OverlapMasses]):
    """Base class of metrics whose state is the overlap masses (N, C) of every image.

    Args:
        num_classes: C, at least 2.
        **kwargs: `ignore_index`, and arguments of `torchmetrics.Metric`.
    """

    P: list[Tensor]
    Y: list[Tensor]
    D: list[Tensor]

    def __init__(self, num_classes: int, **kwargs: Any) -> None:
        _checks.whole("num_classes", num_classes, 1)
        none = torch.zeros(0, num_classes, dtype=torch.float64)
        super().__init__(num_classes, empty=OverlapMasses(none, none, none), **kwargs)

    def update(self, probs: Tensor, target: AnyTarget, valid: Tensor | None = None) -> None:
        """Add images; for the shapes see `overlap_masses`."""
        if _checks.dense_tensor("probs", probs).ndim < 3 or probs.shape[1] != self.num_classes:
            raise ValueError(
                f"Expected `probs` to have shape (N, C, *S) with C = {self.num_classes}, but got "
                f"{tuple(probs.shape)}."
            )
        self._append(overlap_masses(probs, target, ignore_index=self.ignore_index, valid=valid))


class SoftIoU(MeanMetric[OverlapMasses], SoftOverlapMetric):
    """Soft IoU of probabilities and a hard or soft target, averaged as in `MeanIoU`.

        soft IoU = (P + Y - D) / (P + Y + D),    P = sum p, Y = sum y, D = sum |p - y|

    It is 1 only at p = y, and 1 - soft IoU is a metric on [0, 1]^n. The usual product form
    M / (P + Y - M), M = sum p y, is not suitable for soft targets: at p = y it is below 1 if y is
    soft, and overconfident predictions of the majority class score higher. For hard targets and
    hard predictions both are the IoU.

    Args:
        num_classes: C, at least 2.
        per: "dataset" (masses are summed over the images first; a class with Y = 0 is left out),
            "image" or "class" (classes with Y > 0 in the image), or "none".
        ignore_index: Label of pixels to ignore.
        **kwargs: Arguments of `torchmetrics.Metric`.

    Example:
        >>> from softiou import targets
        >>> masks = torch.tensor([[[0, 1], [1, 1]]])  # two annotators disagree on one pixel
        >>> metric = SoftIoU(num_classes=2)
        >>> metric.update(torch.tensor([[[0.5, 0.0], [0.5, 1.0]]]), targets.votes(masks))
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

    It is 1 only at p = y. The product form 2 M / (P + Y) has no maximum there: with y = 1/2 in all
    pixels, it is 1/2 at p = y and 2/3 at p = 1.

    References:
        Wang, Popordanoska, Bertels, Lemmens, Blaschko, Dice Semimetric Losses, MICCAI 2023, arXiv
        2303.16296.
    """

    def score(self, sums: OverlapMasses) -> Tensor:
        """Return the soft Dice score (N, C)."""
        return sums.dice()


class SoftScores(SoftOverlapMetric):
    """Soft IoU and soft Dice together, computed in one pass over the pixels.

    `compute` returns a dict of float64 scalars in [0, 1]: soft_iou_d, soft_iou_i, soft_iou_c,
    soft_dice_d, soft_dice_i, soft_dice_c (data set, image, class; see `SoftIoU`).
    """

    def compute(self) -> dict[str, Tensor]:
        """Return the scores by name."""
        sums = self.sums()
        return soft_metrics(sums, equal_weights(sums)).of_row()
