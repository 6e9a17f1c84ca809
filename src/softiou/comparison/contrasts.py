"""The comparison: every figure of every run on the same resamples of the images.

Shapes: R resamples, S seeds of a group, F figures: the metrics, then the IoU of each class.
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
from softiou.comparison.grouping import groups_of
from softiou.comparison.pairing import check_same_images, pool_seeds
from softiou.comparison.reading import EvaluatedRun, read_run
from softiou.comparison.results import Comparison, Contrast, Difference, Estimate, Group
from softiou.errors import DataError
from softiou.metrics import MetricValues
from softiou.metrics.registry import metric_info
from softiou.metrics.weighted import equal_weights
from softiou.resampling import (
    LEVEL,
    RESAMPLES,
    ImageStatistics,
    bootstrap_metrics,
    percentile_interval,
    resample,
    weighted_metrics,
)

T = TypeVar("T")


def compare(
    runs: Sequence[Path],
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
    together: str | int | None = None,
) -> Comparison:
    """Compare evaluated runs on the same images with the first of them, by a paired bootstrap.

    A resample draws the images once, for all runs: what makes an image hard for every model cancels
    in the differences. Runs that differ in their seed alone, and were evaluated in the same way,
    are one group, whose figures are means over its seeds; then a resample draws the S seeds of each
    group with replacement, too, beside the images that all of them share:

        f_r = 1/S sum_s v_rs f(run s, images of r)      v_rs: how often r drew seed s

    Args:
        runs: Run directories or files evaluation.json, at least two; the first is the baseline.
        resamples: R, at least 1.
        seed: Of the draws, in [0, 2^63). Neither the order of the runs nor which others there are
            matters.
        level: Of the intervals, per cent, above 0 and below 100.
        together: Images that resemble each other and are drawn together, in the order of their
            names: a regular expression or a number of neighbours, see `groups_of`. None draws each
            for itself, which makes the intervals of such images too narrow.

    Returns:
        Every figure that all runs have. Those of which the evaluations keep nothing of each image
        have values and differences but no intervals, as have all where there is one image only.

    Raises:
        DataError: A run has no evaluation or cannot be read, runs are of different data, there are
            fewer than two, or `together` does not fit the names of the images.
        ValueError: `resamples`, `seed` or `level` is out of range.

    Note:
        With a single seed an interval speaks of other images for these very models, not of another
        training. Drawing from S seeds underestimates their variance by the factor (S - 1) / S.

        Calibration errors are sums of absolute values: those of resamples, which hold fewer
        different images, are on average larger than that of the images themselves, the more so the
        smaller it is. So the interval of a single group's error lies high, and may lie above its
        value. In the difference of two similar errors this cancels; of a small and a large one it
        makes the difference look smaller than it is.

    References:
        Efron, Tibshirani, An Introduction to the Bootstrap, 1993, chapters 8 and 13.
        Owen, The pigeonhole bootstrap, Annals of Applied Statistics 1(2), 2007, arXiv 0712.1111:
        drawing both of two crossed factors, here images and seeds.
    """
    if len(runs) < 2:
        raise DataError("A comparison needs at least two runs: softiou compare RUN RUN")
    _checks.in_range("seed", seed, 0, 2**63 - 1)
    read = [read_run(path) for path in runs]
    first = read[0]
    for run in read[1:]:
        check_same_images(first, run)
    names = [name for name in first.metrics if all(name in run.metrics for run in read)]
    groups = None if together is None else groups_of(sorted(first.images), together)
    samples = [
        _sample(group, names, resamples=resamples, seed=seed, groups=groups)
        for group in pool_seeds(read)
    ]
    return Comparison(
        data=first.data,
        split=first.split,
        labels=first.labels,
        classes=first.classes,
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
    """The figures of a group in the units of `Estimate`; NaN where they are not known.

    Attributes:
        runs: Of the group.
        values: Of each seed (S, F).
        drawn: Of each resample (R, F).
    """

    runs: Sequence[EvaluatedRun]
    values: Tensor
    drawn: Tensor

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
    drawn_apart = group[0].statistics.num_images if groups is None else int(groups.amax()) + 1
    if drawn_apart < 2:
        return _Sample(group, values, torch.full_like(values[:1], torch.nan))
    drawn = resampled_means(
        [run.statistics for run in group],
        lambda figures: _columns(figures, names),
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
    """Draw images and seeds of one configuration with replacement, and average over the seeds.

    The images that a resample draws depend on `seed` alone: those of several configurations are
    paired, and may be subtracted. So are the seeds of configurations that are given the same
    `times`: what weights and order of the data do to both of them cancels.

    Args:
        seeds: What each of the S trainings got of the same images.
        columns: Puts the figures of interest side by side (R, F); NaN where they are undefined.
        resamples: R.
        seed: Of the draws.
        groups: Of images that are drawn together, as in `bootstrap_metrics`.
        times: How often each resample draws each training (R, S), of `resample`; None: drawn apart
            from those of other configurations.

    Returns:
        Means (R, F) over the drawn seeds that have the figure.
    """
    if times is None:
        times = resample(len(seeds), resamples, seed=_own_seed(seeds, seed))
    total = known = torch.zeros(resamples, 1, dtype=torch.float64)
    for statistics, drawn_times in zip(seeds, times[:, :, None].unbind(1), strict=True):
        found = bootstrap_metrics(statistics, resamples=resamples, seed=seed, groups=groups)
        drawn = columns(found)
        total = total + drawn_times * drawn.nan_to_num(0.0)
        known = known + drawn_times * drawn.isfinite()
    return total / known


def _values(run: EvaluatedRun, names: Sequence[str]) -> Tensor:
    """Return the metrics of the images as they are (F,), from the file where sums are missing."""
    found = weighted_metrics(run.statistics, equal_weights(run.statistics))
    computed = _columns(found, names)[0]
    told = [run.metrics[name] for name in names] + [None] * len(run.classes)
    told_or_nan = [math.nan if value is None else value for value in told]
    return torch.where(computed.isnan(), torch.tensor(told_or_nan, dtype=torch.float64), computed)


def _columns(figures: MetricValues, names: Sequence[str]) -> Tensor:
    """Put figures side by side (R, F), per cent where a score is meant; NaN for unknown ones."""
    iou = 100 * figures.per_class["iou"]
    unknown = iou.new_full((len(iou),), torch.nan)
    metrics = [metric_info(name).scale * figures.metrics.get(name, unknown) for name in names]
    return torch.cat([torch.stack(metrics, 1), iou], 1) if metrics else iou


def _own_seed(seeds: Sequence[ImageStatistics], seed: int) -> int:
    """Derive the seed that draws a group's seeds from what its models predict.

    So it depends neither on the place of the group nor on the others.
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
            Estimate(_number(value), _number(sd), _pair(interval))
            for value, sd, interval in zip(sample.means(), spread, intervals, strict=True)
        ],
        names,
    )
    return Group(
        name=runs[0].name if len(runs) == 1 else f"{runs[0].name} ({len(runs)} seeds)",
        runs=tuple(run.name for run in runs),
        seeds=tuple(run.seed for run in runs),
        checkpoint=runs[0].checkpoint,
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
                interval=_pair(intervals[i]),
                probability=_share_above_zero(-drawn[:, i] if lower else drawn[:, i]),
                better="lower" if lower else "higher",
            )
        )
    metrics, iou = _split(differences, names)
    return Contrast(baseline=0, group=index, metrics=metrics, iou=iou)


def _share_above_zero(drawn: Tensor) -> float | None:
    """Return the share of the defined values above 0, those at 0 by half."""
    known = drawn[drawn.isfinite()]
    return _number((known.sign().mean() + 1) / 2)


def _split(figures: Sequence[T], names: Sequence[str]) -> tuple[Mapping[str, T], tuple[T, ...]]:
    """Tell the metrics, by name, from the IoU of the classes behind them."""
    metrics = dict(zip(names, figures[: len(names)], strict=True))
    return metrics, tuple(figures[len(names) :])


def _number(value: Tensor) -> float | None:
    return None if math.isnan(value) else float(value)


def _pair(interval: Tensor) -> tuple[float, float] | None:
    low, high = interval.tolist()
    return None if math.isnan(low) else (low, high)
