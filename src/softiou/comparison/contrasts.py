"""Compare runs by computing all metrics on the same resamples of the images.

Shapes: R resamples, S seeds of a group, F columns: the metrics, then the IoU of each class.
"""

import hashlib
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TypeVar

import torch
from torch import Tensor

from softiou import _checks
from softiou.comparison.pairing import check_same_images, groups_of, pool_seeds
from softiou.comparison.reading import EvaluatedRun, numbers, read_run
from softiou.comparison.results import Comparison, Contrast, Difference, Estimate, Group
from softiou.errors import DataError
from softiou.metrics import MetricValues
from softiou.metrics.registry import metric_info
from softiou.metrics.weighted import equal_weights, worst_group_sizes
from softiou.resampling import (
    LEVEL,
    RESAMPLES,
    WORST_IMAGES,
    ImageStatistics,
    bootstrap_metrics,
    percentile_interval,
    resample,
    weighted_metrics,
)
from softiou.resampling.bootstrap import limits_of

T = TypeVar("T")


def compare(
    runs: Sequence[Path],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
    together: str | int | None = None,
) -> Comparison:
    """Compare evaluated runs on the same images with the first run, by a paired bootstrap.

    All runs share the resamples of the images, so that the difficulty of an image cancels in the
    differences. Runs that differ only in their seed, and were evaluated in the same way, form a
    group, whose metrics are means over its seeds. A resample then also draws the S seeds of each
    group with replacement:

        f_r = 1/S sum_s v_rs f(run s, images of r)      v_rs: how often r drew seed s

    Args:
        runs: Run directories or files evaluation.json, at least two; the first is the baseline.
        resamples: R, at least 1.
        seed: Seed of the bootstrap, in [0, 2^63). The result for a run does not depend on the
            order or the number of the runs.
        level: Confidence level of the intervals, per cent, above 0 and below 100.
        together: How to group correlated images; whole groups are resampled. A regular expression
            for their names, or a number of consecutive images, see `groups_of`. None resamples
            single images, which makes the intervals of correlated images too narrow.

    Returns:
        All metrics that all runs have. Metrics without sums per image have values and differences,
        but no intervals; with a single image, no metric has an interval.

    Raises:
        DataError: A run has no evaluation or cannot be read, the data of the runs differ, there
            are fewer than two runs, or `together` does not match the names of the images.
        ValueError: `resamples`, `seed` or `level` is out of range.

    Note:
        With a single seed, an interval describes other images with the same weights, not another
        training. Drawing from S seeds underestimates their variance by the factor (S - 1) / S.
        Calibration errors are sums of absolute values. Resamples have fewer different images, so
        their errors are larger on average than that of all images, most of all for small errors.
        The interval of a calibration error is therefore biased upwards and may be above the value.
        In the difference of two similar errors the bias cancels; the difference of a small and a
        large error is underestimated.

    References:
        Efron, Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and 13.
        Owen, The pigeonhole bootstrap, Annals of Applied Statistics 1(2), 2007, arXiv 0712.1111:
        resampling two crossed factors, here images and seeds.
    """
    if len(runs) < 2:
        raise DataError("A comparison needs at least two runs: softiou compare RUN RUN")
    _checks.in_range("seed", seed, 0, 2**63 - 1)
    read = [read_run(path) for path in runs]
    first = read[0]
    for run in read[1:]:
        check_same_images(first, run)
    evaluation = first.evaluation
    sizes = worst_group_sizes(first.statistics.counts)
    names = [
        name
        for name in evaluation.metrics
        if all(name in run.evaluation.metrics for run in read)
        and sizes.get(name, WORST_IMAGES) >= WORST_IMAGES  # too few images for a reliable mean
    ]
    groups = None if together is None else groups_of(sorted(first.images), together)
    samples = [
        _sample(group, names, resamples=resamples, seed=seed, groups=groups)
        for group in pool_seeds(read)
    ]
    return Comparison(
        data=evaluation.data,
        split=evaluation.split,
        labels=evaluation.labels,
        classes=evaluation.classes,
        num_images=len(first.images),
        resamples=resamples,
        seed=seed,
        level=level,
        together=together,
        groups=tuple(_group(sample, names, level) for sample in samples),
        contrasts=tuple(
            _contrast(samples[0], sample, names, level=level, index=index)
            for index, sample in enumerate(samples[1:], 1)
        ),
    )


@dataclass(frozen=True, eq=False)
class _Sample:
    """The metrics of a group in the units of `Estimate`; NaN if undefined."""

    runs: Sequence[EvaluatedRun]  # runs of the group
    values: Tensor  # of each seed (S, F)
    drawn: Tensor  # of each resample (R, F)

    def means(self) -> Tensor:
        """Return the means over the seeds (F,)."""
        return self.values.nanmean(0)


def _sample(
    group: Sequence[EvaluatedRun],
    names: Sequence[str],
    *,
    resamples: int,
    seed: int,
    groups: Tensor | None,
) -> _Sample:
    values = torch.stack([_values(run, names) for run in group])
    num_groups = group[0].statistics.num_images if groups is None else int(groups.amax()) + 1
    if num_groups < 2:
        return _Sample(group, values, torch.full_like(values[:1], torch.nan))
    drawn = resampled_means(
        [run.statistics for run in group],
        lambda values: _columns(values, names),
        resamples=resamples,
        seed=seed,
        groups=groups,
    )
    return _Sample(group, values, drawn)


def resampled_means(
    seeds: Sequence[ImageStatistics],
    columns: Callable[[MetricValues], Tensor],
    *,
    resamples: int,
    seed: int,
    groups: Tensor | None = None,
    times: Tensor | None = None,
) -> Tensor:
    """Resample the images and seeds of a configuration, and average over the seeds.

    The images of a resample depend only on `seed`, so the results of several configurations are
    paired and can be subtracted. With the same `times`, their training seeds are paired as well,
    and the effects of initial weights and data order cancel.

    Args:
        seeds: Sums of the same images for each of the S trainings.
        columns: Returns the values of interest (R, F); NaN if undefined.
        resamples: R, the number of resamples.
        seed: Seed of the bootstrap.
        groups: Group of each image, as in `bootstrap_metrics`.
        times: How often each resample draws each training (R, S), of `resample`; None draws them
            independently for each configuration.

    Returns:
        Means (R, F) over the drawn seeds with a defined value.
    """
    if times is None:
        times = resample(len(seeds), resamples, seed=_own_seed(seeds, seed))
    total = defined = torch.zeros(resamples, 1, dtype=torch.float64)
    for statistics, drawn_times in zip(seeds, times[:, :, None].unbind(1), strict=True):
        found = bootstrap_metrics(statistics, resamples=resamples, seed=seed, groups=groups)
        drawn = columns(found)
        total = total + drawn_times * drawn.nan_to_num(0.0)
        defined = defined + drawn_times * drawn.isfinite()
    return total / defined


def _values(run: EvaluatedRun, names: Sequence[str]) -> Tensor:
    """Return the metrics of all images (F,); from evaluation.json if sums are missing."""
    found = weighted_metrics(run.statistics, equal_weights(run.statistics))
    computed = _columns(found, names)[0]
    recorded = torch.full_like(computed, torch.nan)
    recorded[: len(names)] = numbers([run.evaluation.metrics[name] for name in names])
    return torch.where(computed.isnan(), recorded, computed)


def _columns(values: MetricValues, names: Sequence[str]) -> Tensor:
    """Return metrics and IoU of the classes (R, F) in reported units; NaN if unknown."""
    iou = 100 * values.per_class["iou"]
    unknown = iou.new_full((len(iou),), torch.nan)
    metrics = [metric_info(name).scale * values.metrics.get(name, unknown) for name in names]
    return torch.cat([torch.stack(metrics, 1), iou], 1) if metrics else iou


def _own_seed(seeds: Sequence[ImageStatistics], seed: int) -> int:
    """Derive the random seed for resampling the runs of a group from their predictions.

    So the result does not depend on the other groups or their order.
    """
    digest = hashlib.sha256(str(seed).encode())
    for statistics in seeds:
        digest.update(statistics.counts.true_positives.numpy().tobytes())
    return int.from_bytes(digest.digest()[:4], "big")


def _group(sample: _Sample, names: Sequence[str], level: float) -> Group:
    runs = sample.runs
    spread = sample.values.std(0) if len(runs) > 1 else torch.full_like(sample.means(), torch.nan)
    intervals = percentile_interval(sample.drawn, level=level)
    metrics, iou = _split(
        [
            Estimate(_number(value), _number(sd), limits_of(interval))
            for value, sd, interval in zip(sample.means(), spread, intervals, strict=True)
        ],
        names,
    )
    return Group(
        name=runs[0].name if len(runs) == 1 else f"{runs[0].name} ({len(runs)} seeds)",
        runs=tuple(run.name for run in runs),
        seeds=tuple(run.seed for run in runs),
        checkpoint=runs[0].evaluation.checkpoint,
        metrics=metrics,
        iou=iou,
        inference=runs[0].inference,
    )


def _contrast(
    baseline: _Sample, other: _Sample, names: Sequence[str], *, level: float, index: int
) -> Contrast:
    drawn = other.drawn - baseline.drawn
    intervals = percentile_interval(drawn, level=level)
    differences = []
    for i, value in enumerate(other.means() - baseline.means()):
        lower = i < len(names) and not metric_info(names[i]).higher_is_better
        differences.append(
            Difference(
                value=_number(value),
                interval=limits_of(intervals[i]),
                probability=_share_above_zero(-drawn[:, i] if lower else drawn[:, i]),
                better="lower" if lower else "higher",
            )
        )
    metrics, iou = _split(differences, names)
    return Contrast(baseline=0, group=index, metrics=metrics, iou=iou)


def _share_above_zero(drawn: Tensor) -> float | None:
    """Return the share of defined values above 0; values equal to 0 count half."""
    defined = drawn[drawn.isfinite()]
    return _number((defined.sign().mean() + 1) / 2)


def _split(columns: Sequence[T], names: Sequence[str]) -> tuple[Mapping[str, T], tuple[T, ...]]:
    """Divide the columns into {metric: value} and the IoU of the classes."""
    metrics = dict(zip(names, columns[: len(names)], strict=True))
    return metrics, tuple(columns[len(names) :])


def _number(value: Tensor) -> float | None:
    return None if math.isnan(value) else float(value)
