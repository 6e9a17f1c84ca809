"""Every figure as a function of sums over images, for many weightings of the images at once.

Shapes: N images, C classes, B bins of confidence, R weightings (resamples) of the images.
"""

import math
from dataclasses import dataclass, replace
from typing import TypeVar

import torch
from torch import Tensor

from softiou.metrics.bins import PARTS, TAIL, equal_mass
from softiou.metrics.calibration_sums import classwise_error
from softiou.metrics.counts import AnswerCounts, OverlapCounts
from softiou.metrics.image_statistics import ImageStatistics
from softiou.metrics.images import ImageSums, OverlapSums
from softiou.metrics.soft import OverlapMasses

WORST_PERCENT = (10, 5)

S = TypeVar("S", bound=ImageSums)


@dataclass(frozen=True)
class Figures:
    """Figures of R weightings of the images in float64; NaN where undefined.

    Attributes:
        metrics: By their names in evaluation.json, (R,) each. Shares in [0, 1], but "brier" is in
            [0, 2] and "nll" in nats.
        per_class: "iou", "iou_c" (mean over the images of the class), "dice", "accuracy" (recall),
            "soft_iou", "soft_dice", "boundary_iou" and "cece", (R, C) each.
    """

    metrics: dict[str, Tensor]
    per_class: dict[str, Tensor]


def weighted_figures(statistics: ImageStatistics, weights: Tensor) -> Figures:
    """Compute every figure for each weighting of the images.

    An image of weight w counts as w copies of it, M = sum_n w_n copies in all:

    - over the data set: a function of the sums S = sum_n w_n s_n of what is known of the images
    - means over images: sum_n w_n x_n / sum_n w_n over the images whose score x_n is defined
    - worst q %: the mean of the lowest ceil(q M / 100) of the M copies that are defined, as
      `mean_score` has it; of each class first and then of the classes for miou_c_q10, miou_c_q5

    Means over classes leave out those that are undefined: for miou_d, mdice_d and biou_d they occur
    neither in prediction nor target, for the others not in the target. A class that is predicted
    somewhere and never there scores 0 in these three.

    Args:
        statistics: Of N images.
        weights: Whole numbers (R, N), float64; ones (1, N) give the figures of the images as they
            are.

    Returns:
        The figures that the parts of `statistics` allow.

    Raises:
        TypeError: `weights` are not float64.
        ValueError: `weights` have another number of images.

    Note:
        Counts and weights are whole numbers, so their sums are exact in float64 (below 2^53) and do
        not depend on the machine.

    Example:
        >>> right, there = torch.tensor([[1, 0], [3, 1]]), torch.tensor([[2, 0], [3, 1]])
        >>> statistics = ImageStatistics(OverlapCounts(right, there, there))
        >>> weights = torch.tensor([[1.0, 1.0], [2.0, 0.0]], dtype=torch.float64)
        >>> weighted_figures(statistics, weights).metrics["accuracy"]
        tensor([0.8333, 0.5000], dtype=torch.float64)

    References:
        Wang et al., Revisiting Evaluation Metrics for Semantic Segmentation, NeurIPS 2023 D&B,
        arXiv 2310.19252, sections 3 and 4: data set, image, class and worst cases.
    """
    if weights.dtype != torch.float64:
        raise TypeError(f"Expected `weights` to be float64, but got {weights.dtype}.")
    if weights.ndim != 2 or weights.shape[1] != statistics.num_images:
        raise ValueError(
            f"Expected `weights` to have shape (R, N) with N = {statistics.num_images}, as the "
            f"statistics, but got {tuple(weights.shape)}."
        )
    metrics, per_class = _overlap(statistics.counts, weights)
    metrics |= _worst_cases(statistics.counts, weights) | _calibration(statistics, weights)
    if statistics.masses is not None:
        masses, of_classes = _soft(statistics.masses, weights)
        metrics |= masses
        per_class |= of_classes
    if statistics.energy is not None:
        metrics["ged"] = weighted_mean(statistics.energy, weights)
    for name, values in _class_errors(statistics, weights).items():
        per_class[name] = values
        metrics[{"cece": "cece_d", "boundary_iou": "biou_d"}[name]] = values.nanmean(1)
    return Figures(metrics, per_class)


def weighted_mean(values: Tensor, weights: Tensor, *, known: Tensor | None = None) -> Tensor:
    """Average over the images where a value is defined.

    Args:
        values: Of the images, floating (N,) or (N, C).
        weights: (R, N), float64.
        known: Bool, of the shape of `values`: which ones are defined; a NaN among them makes every
            mean NaN. None for those that are not NaN.

    Returns:
        float64 (R,) or (R, C); NaN where nothing is defined.
    """
    known = values.isfinite() if known is None else known
    return (weights @ values.double().where(known, 0.0)) / (weights @ known.double())


def worst_group_sizes(counts: OverlapCounts) -> dict[str, int]:
    """Return how many images are in the group that a worst case is the mean of.

    Args:
        counts: Of N images.

    Returns:
        ceil(q n / 100) by figure, n being the images that have a score; for miou_c_q10 and
        miou_c_q5 those of the rarest class that occurs. 0 without any.
    """
    occurs = counts.occurs()
    of_classes = occurs.sum(0)
    images = int(occurs.any(1).sum())
    rarest = int(of_classes.where(of_classes > 0, images).amin())
    return {
        f"miou_{per}_q{q}": math.ceil(q * n / 100)
        for q in WORST_PERCENT
        for per, n in (("i", images), ("c", rarest))
    }


def worst_means(values: Tensor, weights: Tensor, *, percent: tuple[int, ...]) -> list[Tensor]:
    """Average the lowest values, an image of weight w being w images.

    Args:
        values: Of the images, float64 (N,); NaN is left out.
        weights: Whole numbers (R, N), float64.
        percent: Shares q in (0, 100]; ceil(q M / 100) of M images are averaged.

    Returns:
        float64 (R,) for each q; NaN where nothing is defined.
    """
    order = values.argsort()[: int(values.isfinite().sum())]  # NaN comes last
    drawn = weights @ values.isfinite().double()
    wanted = [(q * drawn / 100).ceil() for q in percent]
    most = torch.stack(wanted).amax(0)
    # Only the head of the order is looked at: about as many images as are wanted, or a few more.
    size = 2 * int(most.max()) + 16 if len(most) else 0
    while True:
        copies = weights.t()[order[:size]]  # (head, R), the lowest first
        if size >= len(order) or bool((copies.sum(0) >= most).all()):
            break
        size *= 2
    before = copies.cumsum(0) - copies
    lowest = values[order[:size]]
    results = []
    for number in wanted:
        taken = (number - before).clamp_(min=0).minimum(copies)
        results.append((lowest @ taken) / taken.sum(0))
    return results


def _pool(sums: S, weights: Tensor) -> S:
    """Add the images up for each weighting: (N, ...) -> (R, ...)."""

    def pooled(tensor: Tensor) -> Tensor:
        return (weights @ tensor.double().flatten(1)).view(-1, *tensor.shape[1:])

    return sums.apply(pooled)


def _overlap(counts: OverlapCounts, weights: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    total = _pool(counts, weights)
    recall = total.recall()
    metrics = _averages(counts, total, weights, iou="miou", dice="mdice") | {
        "accuracy": _accuracy(total),
        "macc": recall.nanmean(1),
    }
    return metrics, {"iou": total.iou(), "dice": total.dice(), "accuracy": recall}


def _accuracy(total: OverlapCounts) -> Tensor:
    """Compute `total.accuracy()` of each row instead of all."""
    if isinstance(total, AnswerCounts):
        wrong = total.predicted + total.present - 2 * total.true_positives
        return 1 - wrong.sum(1) / total.judged.sum(1)
    return total.true_positives.sum(1) / total.present.sum(1)


def _averages(
    sums: OverlapSums, total: OverlapSums, weights: Tensor, *, iou: str, dice: str
) -> dict[str, Tensor]:
    """Average over data set, image and class, as `mean_score` does for one weighting."""
    found: dict[str, Tensor] = {}
    scores = ((iou, sums.iou(), total.iou()), (dice, sums.dice(), total.dice()))
    for name, of_images, of_total in scores:
        by_image = of_images.where(sums.occurs(), torch.nan)  # (N, C)
        found |= {
            f"{name}_d": of_total.nanmean(1),
            f"{name}_i": weighted_mean(by_image.nanmean(1), weights),
            f"{name}_c": weighted_mean(by_image, weights).nanmean(1),
        }
    return found


def _worst_cases(counts: OverlapCounts, weights: Tensor) -> dict[str, Tensor]:
    iou = torch.where(counts.occurs(), counts.iou(), torch.nan)
    of_images = worst_means(iou.nanmean(1), weights, percent=WORST_PERCENT)
    of_classes = zip(
        *(worst_means(column, weights, percent=WORST_PERCENT) for column in iou.unbind(1)),
        strict=True,
    )
    found = {f"miou_i_q{q}": values for q, values in zip(WORST_PERCENT, of_images, strict=True)}
    for q, columns in zip(WORST_PERCENT, of_classes, strict=True):
        found[f"miou_c_q{q}"] = torch.stack(columns, 1).nanmean(1)
    return found


def _soft(masses: OverlapMasses, weights: Tensor) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    total = _pool(masses, weights)
    metrics = _averages(masses, total, weights, iou="soft_iou", dice="soft_dice")
    return metrics, {"soft_iou": total.iou(), "soft_dice": total.dice()}


def _calibration(statistics: ImageStatistics, weights: Tensor) -> dict[str, Tensor]:
    found: dict[str, Tensor] = {}
    for name in ("brier", "nll"):
        sums, pixels = getattr(statistics, name), statistics.pixels
        if sums is not None and pixels is not None:
            found[name] = (weights @ sums.double()) / (weights @ pixels.double())
    if (bins := statistics.bins) is not None:
        total = _pool(bins, weights)
        found |= {"ece_d": total.error(), "mce_d": total.largest_error()}
        # Where a probability was NaN the error is, too, and has to show.
        found["ece_i"] = weighted_mean(bins.error(), weights, known=bins.count.sum(1) > 0)
    if (fine := statistics.fine_bins) is not None:
        total = _pool(fine, weights)
        total = replace(total, count=total.count.long())  # ranks are whole numbers
        found["ace_d"] = equal_mass(total, (fine.count.shape[1] - TAIL) // PARTS).error()
    if statistics.boundary_bins is not None:
        found["bece_d"] = _pool(statistics.boundary_bins, weights).error()
    return found


def _class_errors(statistics: ImageStatistics, weights: Tensor) -> dict[str, Tensor]:
    """Figures of each class (R, C) beside the overlap, whose mean is a figure, too."""
    found = {}
    if statistics.boundary is not None:
        found["boundary_iou"] = _pool(statistics.boundary, weights).iou()
    if statistics.class_bins is not None:
        found["cece"] = classwise_error(_pool(statistics.class_bins, weights))
    return found
