"""The engine: every metric as a function of sums over images, for many weightings at once.

An image of weight w counts as w copies of it. The torchmetrics classes give every image the weight
1; the bootstrap gives it the number of times that a resample draws it.

Shapes: N images, C classes, B bins of confidence, R weightings of the images, Q levels of the
worst.
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

# Per cent q of the images with the lowest scores; None for all of them.
Worst: TypeAlias = float | Sequence[float] | Literal["averaged"] | None

S = TypeVar("S", bound=ImageSums)
O = TypeVar("O", bound=OverlapSums)  # noqa: E741


@dataclass(frozen=True)
class MetricValues:
    """Metrics of R weightings of the images in float64; NaN where undefined.

    Attributes:
        metrics: By their keys in `softiou.metrics.METRICS`, (R,) each, before scaling: shares in
            [0, 1], "brier" in [0, 2], "nll" in nats.
        per_class: By the keys of evaluation.json's `per_class`, (R, C) each: "iou", "iou_c" (mean
            over the images of the class), "dice", "accuracy" (recall), "soft_iou", "soft_dice",
            "boundary_iou" and "cece".
    """

    metrics: Mapping[str, Tensor]
    per_class: Mapping[str, Tensor]

    def __or__(self, other: Self) -> Self:
        metrics = {**self.metrics, **other.metrics}
        return replace(self, metrics=metrics, per_class={**self.per_class, **other.per_class})

    def of_row(self, row: int = 0) -> dict[str, Tensor]:
        """Return the metrics of one weighting, a scalar each."""
        return {name: values[row] for name, values in self.metrics.items()}


def equal_weights(sums: ImageSums) -> Tensor:
    """Return the weights (1, N) that count every image once, on the device of the sums."""
    first = next(iter(sums.tensors().values()))
    return torch.ones(1, len(first), dtype=torch.float64, device=first.device)


def pool(sums: S, weights: Tensor) -> S:
    """Add the images up for each weighting: (N, ...) -> (R, ...) in float64.

    Counts and weights are whole numbers, so their sums are exact below 2^53.
    """

    def pooled(tensor: Tensor) -> Tensor:
        return (weights @ tensor.double().flatten(1)).view(-1, *tensor.shape[1:])

    return sums.apply(pooled)


def weighted_mean(values: Tensor, weights: Tensor, *, valid: Tensor | None = None) -> Tensor:
    """Average (N,) or (N, C) over the images where it is defined: float64 (R,) or (R, C), else NaN.

    `valid` says where, bool of the same shape; a NaN there makes every mean NaN. None for
    everywhere but at NaN.
    """
    valid = values.isfinite() if valid is None else valid
    return (weights @ values.double().where(valid, 0.0)) / (weights @ valid.double())


def worst_means(values: Tensor, weights: Tensor, *, percent: Sequence[float]) -> list[Tensor]:
    """Average the lowest values (N,), an image of weight w being w images; NaN is left out.

    For each q of `percent`, in (0, 100], the lowest ceil(q M / 100) of M images: float64 (R,), NaN
    where nothing is defined. The weights (R, N) are whole numbers.
    """
    order = values.argsort()[: int(values.isfinite().sum())]  # NaN comes last
    drawn = weights @ values.isfinite().double()
    # 0.7 * 1000 is a little more than 700 in floating point: no image more for that.
    wanted = [(q * drawn / 100 - 1e-9).ceil() for q in percent]
    most = torch.stack(wanted).amax(0)
    # Only the head of the order is read: about as many images as are wanted, or a few more.
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
    """Return how many images each of the worst-case metrics averages over, 0 without any.

    It is ceil(q n / 100), n being the images that have a score; for miou_c_q10 and miou_c_q5 those
    of the rarest class that occurs.
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
    """Average a score of image and class as `MeanIoU` explains.

    Args:
        sums: Of all images (N, C): `OverlapCounts` or `OverlapMasses`.
        score: From sums (N, C) to values (N, C), NaN where undefined.
        per: "dataset", "image", "class" or "none".
        worst: Per cent of the images, in (0, 100], or a list of such: the mean of the lowest alone;
            "averaged" is the mean over 10, 20, ..., 100.
        average: Of the classes: "macro", "micro", "weighted" or "none".
        absent: What a class without truth is: "exclude" or "zero".

    Returns:
        A float64 scalar, (C,) for "none", (Q,) for a list of `worst`, (Q, C) for both; NaN where
        undefined.

    Raises:
        ValueError: A setting is unknown, `worst` out of range or not for this `per`, or "micro"
            with the average per class.
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
    """Average scores (..., C), weighted by the sizes of the classes; NaN is left out."""
    sizes = sizes.where(scores.isfinite(), 0)
    return (scores.nan_to_num(0.0) * sizes).sum(-1) / sizes.sum(-1)


def worst_mean(scores: Tensor, worst: float | Sequence[float]) -> Tensor:
    """Average the lowest scores (N, ...) along the images; NaN is left out.

    Of n scores that are defined the lowest ceil(q n / 100) are averaged, with q in (0, 100] the
    per cent `worst`, or several of them: (...), or (Q, ...) for a list; NaN where no score is
    defined.
    """
    percent = worst if isinstance(worst, Sequence) else (worst,)
    columns = scores.double().reshape(len(scores), math.prod(scores.shape[1:]))
    weights = torch.ones(1, len(scores), dtype=torch.float64, device=scores.device)
    found = [torch.cat(worst_means(c, weights, percent=percent)) for c in columns.unbind(1)]
    means = torch.stack(found, -1).reshape(len(percent), *scores.shape[1:]).to(scores.dtype)
    return means if isinstance(worst, Sequence) else means[0]


def check_average(per: str, worst: Worst, average: str = "macro", absent: str = "exclude") -> None:
    """Raise unless these settings of an average make sense together."""
    _checks.one_of("per", per, PER)
    _checks.one_of("average", average, AVERAGE)
    _checks.one_of("absent", absent, ABSENT)
    if per in ("class", "none") and average == "micro":
        raise ValueError(
            f"Expected `per` to be 'dataset' or 'image' with average='micro', but got {per!r}. "
            "'micro' adds up the classes, and this one keeps them apart."
        )
    if worst is None:
        return
    if per not in ("image", "class"):
        raise ValueError(
            f"Expected `per` to be 'image' or 'class' with `worst`, but got {per!r}. Only these "
            "give every image a score of its own."
        )
    if worst == "averaged":
        return
    levels = worst if isinstance(worst, Sequence) else [worst]
    if not levels or not all(0 < float(q) <= 100 for q in levels):
        raise ValueError(
            f"Expected `worst` to be per cent in (0, 100] or 'averaged', but got {worst}."
        )


def overlap_metrics(counts: OverlapCounts, weights: Tensor) -> MetricValues:
    """Compute mIoU, mDice, their worst cases, accuracy and mean accuracy; weights float64 (R, N).

    A class without a pixel in the target, of the data set or of the image, is left out of its
    means and is NaN in `per_class`, predicted or not.
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
    # Not `nanmean`: where a probability was NaN the error is, too, and has to show.
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
    """Compute the metrics of top-label calibration that the given sums allow; weights (R, N).

    Bins of equal width (N, B) give ece_d, ece_i and mce_d; fine ones (N, F) ace_d; those of the
    pixels near a boundary (N, B) bece_d; the sums of `ImageStatistics` (N,) brier and nll, beside
    the valid pixels (N,).
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
    """Average over data set, image and class, as `mean_score` does for one weighting."""
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
