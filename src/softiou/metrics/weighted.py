"""All metrics as functions of sums of images with weights, for many sets of weights at once.

An image of weight w counts as w copies of it. The torchmetrics classes use equal weights of 1; the
bootstrap uses the number of times that an image is drawn in a resample.

Shapes: N images, C classes, B confidence bins, R sets of weights, Q worst-case percentages.
"""

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Literal, Self, TypeAlias, TypeVar

import torch
from torch import Tensor

from softiou import _checks
from softiou.metrics.bins import PARTS, TAIL, CalibrationBins, equal_mass
from softiou.metrics.calibration_sums import classwise_error
from softiou.metrics.counts import OverlapCounts
from softiou.metrics.image_sums import ImageSums, OverlapSums

PER = ("dataset", "image", "class", "none")
AVERAGE = ("macro", "micro", "weighted", "none")
ABSENT = ("exclude", "zero")
WORST_PERCENT = (10, 5)
AVERAGED_PERCENT = tuple(range(10, 101, 10))  # of `worst="averaged"`

# The percentage q of images with the lowest scores; None for all images.
Worst: TypeAlias = float | Sequence[float] | Literal["averaged"] | None

S = TypeVar("S", bound=ImageSums)
O = TypeVar("O", bound=OverlapSums)  # noqa: E741


@dataclass(frozen=True)
class MetricValues:
    """Metrics for R sets of weights, in float64; NaN where undefined.

    Attributes:
        metrics: Values (R,) by the keys of `softiou.metrics.METRICS`, before scaling: fractions in
            [0, 1], "brier" in [0, 2], "nll" in nats.
        per_class: Values (R, C) by the keys of `per_class` in evaluation.json: "iou", "iou_c" (mean
            over images with the class), "dice", "accuracy" (recall), "soft_iou", "soft_dice",
            "boundary_iou" and "cece".
    """

    metrics: Mapping[str, Tensor]
    per_class: Mapping[str, Tensor]

    def __or__(self, other: Self) -> Self:
        metrics = {**self.metrics, **other.metrics}
        return replace(self, metrics=metrics, per_class={**self.per_class, **other.per_class})

    def of_row(self, row: int = 0) -> dict[str, Tensor]:
        """Return the metrics for one set of weights as scalars."""
        return {name: values[row] for name, values in self.metrics.items()}


def equal_weights(sums: ImageSums) -> Tensor:
    """Return weights of 1 for every image (1, N), on the device of the sums."""
    first = next(iter(sums.tensors().values()))
    return torch.ones(1, len(first), dtype=torch.float64, device=first.device)


def pool(sums: S, weights: Tensor) -> S:
    """Compute the weighted sums over the images: (N, ...) -> (R, ...) in float64.

    Counts and weights are integers, so the sums are exact below 2^53.
    """

    def pooled(tensor: Tensor) -> Tensor:
        return (weights @ tensor.double().flatten(1)).view(-1, *tensor.shape[1:])

    return sums.apply(pooled)


def weighted_mean(values: Tensor, weights: Tensor, *, valid: Tensor | None = None) -> Tensor:
    """Compute weighted means of values (N,) or (N, C) over the images: float64 (R,) or (R, C).

    `valid`, bool of the same shape, selects the values; a NaN among them makes the means NaN. None
    selects all values except NaN.
    """
    valid = values.isfinite() if valid is None else valid
    return (weights @ values.double().where(valid, 0.0)) / (weights @ valid.double())


def worst_means(values: Tensor, weights: Tensor, *, percent: Sequence[float]) -> list[Tensor]:
    """Average the lowest values (N,), where an image of weight w counts as w images.

    For each q of `percent`, in (0, 100], the result is the mean of the lowest ceil(q M / 100) of M
    values, float64 (R,); NaN values are left out. The weights (R, N) are integers.
    """
    order = values.argsort()[: int(values.isfinite().sum())]  # NaN comes last
    drawn = weights @ values.isfinite().double()
    # 1e-9 because q M / 100 may be slightly above an integer in floating point.
    wanted = [(q * drawn / 100 - 1e-9).ceil() for q in percent]
    most = torch.stack(wanted).amax(0)
    # Only the first images in this order are needed; take more until the copies are enough.
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


def worst_group_sizes(counts: OverlapCounts) -> dict[str, int]:
    """Return the number of images over which each worst-case metric averages.

    It is ceil(q n / 100), where n is the number of images with a score; for miou_c_q10 and
    miou_c_q5, the number of images with the rarest class.
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


def mean_score(
    sums: O,
    score: Callable[[O], Tensor],
    *,
    per: str,
    worst: Worst = None,
    average: str = "macro",
    absent: str = "exclude",
) -> Tensor:
    """Average a score over images and classes, as described in `MeanIoU`.

    Args:
        sums: Sums of all images (N, C): `OverlapCounts` or `OverlapMasses`.
        score: Maps sums (N, C) to values (N, C), NaN where undefined.
        per: "dataset", "image", "class" or "none".
        worst: Average only this percentage of images with the lowest scores, in (0, 100], or a list
            of percentages; "averaged" is the mean over 10, 20, ..., 100.
        average: Average over the classes: "macro", "micro", "weighted" or "none".
        absent: Treatment of classes that are not in the target: "exclude" or "zero".

    Returns:
        A float64 scalar, (C,) for "none", (Q,) for a list of `worst`, (Q, C) for both; NaN where
        undefined.

    Raises:
        ValueError: A setting is unknown, `worst` is out of range or not possible with `per`, or
            average="micro" is used with per="class" or "none".
    """
    check_average(per, worst, average, absent)
    if average == "micro":
        sums = sums.apply(lambda x: x.sum(1, keepdim=True))
    if per in ("dataset", "none"):
        sums = sums.merge_images()
    scores = sums.scored(score(sums), absent=absent)
    sizes = sums.target_size() if average == "weighted" else torch.ones_like(scores)
    by_class = "none" in (per, average)
    if per != "class" and not by_class:
        scores = _mean_of_classes(scores, sizes).unsqueeze(1)
    if worst is None:
        means = scores.nanmean(0)
    elif worst == "averaged":
        means = worst_mean(scores, AVERAGED_PERCENT).mean(0)
    else:
        means = worst_mean(scores, worst)
    if by_class:
        return means
    return _mean_of_classes(means, sizes.sum(0)) if per == "class" else means.squeeze(-1)


def _mean_of_classes(scores: Tensor, sizes: Tensor) -> Tensor:
    """Average scores (..., C) over the classes, weighted by their sizes; NaN is left out."""
    sizes = sizes.where(scores.isfinite(), 0)
    return (scores.nan_to_num(0.0) * sizes).sum(-1) / sizes.sum(-1)


def worst_mean(scores: Tensor, worst: float | Sequence[float]) -> Tensor:
    """Average the lowest scores (N, ...) over the images; NaN is left out.

    `worst` is a percentage q in (0, 100] or a list of them. Of n defined scores, the lowest
    ceil(q n / 100) are averaged. The result is (...), or (Q, ...) for a list; NaN if n is 0.
    """
    percent = worst if isinstance(worst, Sequence) else (worst,)
    columns = scores.double().reshape(len(scores), math.prod(scores.shape[1:]))
    weights = torch.ones(1, len(scores), dtype=torch.float64, device=scores.device)
    found = [torch.cat(worst_means(c, weights, percent=percent)) for c in columns.unbind(1)]
    means = torch.stack(found, -1).reshape(len(percent), *scores.shape[1:]).to(scores.dtype)
    return means if isinstance(worst, Sequence) else means[0]


def check_average(per: str, worst: Worst, average: str = "macro", absent: str = "exclude") -> None:
    """Raise a ValueError for unknown settings, or settings that exclude each other."""
    _checks.one_of("per", per, PER)
    _checks.one_of("average", average, AVERAGE)
    _checks.one_of("absent", absent, ABSENT)
    if per in ("class", "none") and average == "micro":
        raise ValueError(
            f"Expected `per` to be 'dataset' or 'image' with average='micro', but got {per!r}. "
            "'micro' sums over the classes, so it has no values per class."
        )
    if worst is None:
        return
    if per not in ("image", "class"):
        raise ValueError(
            f"Expected `per` to be 'image' or 'class' with `worst`, but got {per!r}. Only these "
            "have a score for every image."
        )
    if worst == "averaged":
        return
    levels = worst if isinstance(worst, Sequence) else [worst]
    if not levels or not all(0 < float(q) <= 100 for q in levels):
        raise ValueError(
            f"Expected `worst` to be percentages in (0, 100] or 'averaged', but got {worst}."
        )


def overlap_metrics(counts: OverlapCounts, weights: Tensor) -> MetricValues:
    """Compute mIoU, mDice, worst-case mIoU, accuracy and mean accuracy; weights float64 (R, N).

    A class that is not in the target (of the data set or the image) is left out of the means and
    NaN in `per_class`, whether it is predicted or not.
    """
    total = pool(counts, weights)
    metrics, per_class = _averages(counts, total, weights, iou="miou", dice="mdice")
    recall = total.recall()
    metrics |= {"accuracy": total.accuracies(), "macc": recall.nanmean(1)}
    kept = {name: per_class[name] for name in ("iou", "iou_c", "dice")}
    return MetricValues(metrics | _worst_cases(counts, weights), kept | {"accuracy": recall})


def soft_metrics(masses: OverlapSums, weights: Tensor) -> MetricValues:
    """Compute soft IoU and soft Dice from masses of N images; see `SoftIoU`."""
    total = pool(masses, weights)
    metrics, per_class = _averages(masses, total, weights, iou="soft_iou", dice="soft_dice")
    return MetricValues(metrics, {f"soft_{name}": per_class[name] for name in ("iou", "dice")})


def boundary_metrics(counts: OverlapCounts, weights: Tensor) -> MetricValues:
    """Compute the boundary IoU from the counts of `boundary_counts`."""
    total = pool(counts, weights)
    iou = total.scored(total.iou())
    return MetricValues({"biou_d": iou.nanmean(1)}, {"boundary_iou": iou})


def classwise_metrics(bins: CalibrationBins, weights: Tensor) -> MetricValues:
    """Compute the class-wise calibration error from bins of every class (N, C, B)."""
    total = pool(bins, weights)
    error, occurs = classwise_error(total), total.correct.sum(-1) > 0
    # Not nanmean, so that NaN probabilities give a NaN metric.
    mean = error.where(occurs, 0.0).sum(1) / occurs.sum(1)
    return MetricValues({"cece_d": mean}, {"cece": error})


def confidence_metrics(
    weights: Tensor,
    *,
    bins: CalibrationBins | None = None,
    fine_bins: CalibrationBins | None = None,
    boundary_bins: CalibrationBins | None = None,
    brier: Tensor | None = None,
    nll: Tensor | None = None,
    pixels: Tensor | None = None,
) -> MetricValues:
    """Compute the top-label calibration metrics for which sums are given; weights (R, N).

    `bins` of equal width (N, B) give ece_d, ece_i and mce_d; `fine_bins` (N, F) give ace_d;
    `boundary_bins` (N, B), of pixels near a boundary, give bece_d; the sums `brier` and `nll` (N,),
    divided by the number of valid `pixels` (N,), give brier and nll.
    """
    found: dict[str, Tensor] = {}
    if bins is not None:
        total = pool(bins, weights)
        found |= {"ece_d": total.error(), "mce_d": total.largest_error()}
        found["ece_i"] = weighted_mean(bins.error(), weights, valid=bins.count.sum(1) > 0)
    if fine_bins is not None:
        num_bins = (fine_bins.count.shape[1] - TAIL) // PARTS
        found["ace_d"] = equal_mass(pool(fine_bins, weights), num_bins).error()
    if boundary_bins is not None:
        found["bece_d"] = pool(boundary_bins, weights).error()
    for name, sums in (("brier", brier), ("nll", nll)):
        if sums is not None and pixels is not None:
            found[name] = (weights @ sums.double()) / (weights @ pixels.double())
    return MetricValues(found, {})


def _averages(
    sums: OverlapSums, total: OverlapSums, weights: Tensor, *, iou: str, dice: str
) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Average over data set, images and classes, as `mean_score` for equal weights."""
    metrics: dict[str, Tensor] = {}
    per_class: dict[str, Tensor] = {}
    scores = (("iou", iou, sums.iou(), total.iou()), ("dice", dice, sums.dice(), total.dice()))
    for key, name, of_images, of_total in scores:
        by_image, of_total = sums.scored(of_images), total.scored(of_total)  # (N, C), (R, C)
        of_classes = weighted_mean(by_image, weights)
        metrics |= {
            f"{name}_d": of_total.nanmean(1),
            f"{name}_i": weighted_mean(by_image.nanmean(1), weights),
            f"{name}_c": of_classes.nanmean(1),
        }
        per_class |= {key: of_total, f"{key}_c": of_classes}
    return metrics, per_class


def _worst_cases(counts: OverlapCounts, weights: Tensor) -> dict[str, Tensor]:
    iou = counts.scored(counts.iou())
    of_images = worst_means(iou.nanmean(1), weights, percent=WORST_PERCENT)
    of_classes = [worst_means(column, weights, percent=WORST_PERCENT) for column in iou.unbind(1)]
    found: dict[str, Tensor] = {}
    for level, q in enumerate(WORST_PERCENT):
        found[f"miou_i_q{q}"] = of_images[level]
        columns = [means[level] for means in of_classes]
        found[f"miou_c_q{q}"] = torch.stack(columns, 1).nanmean(1)
    return found
