"""Confidence intervals: the bootstrap over images.

The images of a data set are a sample of those that could have been taken. Drawing N of the N images
with replacement, R times, and computing a figure of each draw shows how much it would vary.

Shapes: N images, C classes, R resamples.

References:
    Efron, Tibshirani, An Introduction to the Bootstrap, Chapman & Hall 1993, chapters 6 and 13.
"""

import math
from collections.abc import Iterator
from dataclasses import dataclass

import torch
from torch import Tensor

from softiou import _checks
from softiou.metrics.figures import Figures, weighted_figures
from softiou.metrics.image_statistics import ImageStatistics

RESAMPLES = 10_000
LEVEL = 95.0

# Numbers of the largest matrix of a chunk; about what a cache holds.
_CHUNK = 2**19

Interval = tuple[float, float]


def resample(num_images: int, num_resamples: int = RESAMPLES, *, seed: int) -> Tensor:
    """Draw N of N images with replacement, R times.

    Args:
        num_images: N, at least 1.
        num_resamples: R, at least 1.
        seed: The same seed gives the same draws on every machine.

    Returns:
        How often each image was drawn, float64 (R, N) of whole numbers; rows sum to N. The image of
        each draw is the next number of the Mersenne Twister MT19937 modulo N.

    Raises:
        ValueError: A number is below 1.

    Example:
        >>> resample(3, 2, seed=0)
        tensor([[1., 0., 2.],
                [2., 1., 0.]], dtype=torch.float64)
    """
    return torch.cat(list(resample_in_chunks(num_images, num_resamples, seed=seed, width=1)))


def resample_in_chunks(
    num_images: int, num_resamples: int, *, seed: int, width: int
) -> Iterator[Tensor]:
    """Draw as `resample` does, some resamples at a time.

    Args:
        num_images: N, at least 1.
        num_resamples: R, at least 1.
        seed: As for `resample`.
        width: Numbers that the caller computes of a resample; more of them, smaller chunks.

    Yields:
        Rows of what `resample` returns, in order.
    """
    _checks.in_range("num_images", num_images, 1)
    _checks.in_range("num_resamples", num_resamples, 1)
    generator = torch.Generator().manual_seed(seed)
    rows = max(1, _CHUNK // max(num_images, width))
    one = torch.ones(1, 1, dtype=torch.float64)
    for start in range(0, num_resamples, rows):
        shape = (min(rows, num_resamples - start), num_images)
        chosen = torch.randint(num_images, shape, generator=generator)
        counts = torch.zeros(shape, dtype=torch.float64)
        yield counts.scatter_add_(1, chosen, one.expand(shape))


def bootstrap_figures(
    statistics: ImageStatistics, *, resamples: int = RESAMPLES, seed: int = 0
) -> Figures:
    """Compute every figure of each resample of the images.

    Args:
        statistics: Of N images, on any device.
        resamples: R, at least 1.
        seed: Of the draws. Two models that are evaluated on the same images, in the same order and
            with the same seed, are drawn alike: the differences of their figures are paired.

    Returns:
        Figures (R,), and (R, C) of the classes.

    Note:
        The resamples are drawn and used in chunks: memory is that of the result, and of a few
        matrices of half a million numbers. A class that no image of a resample holds is left out of
        the means of that resample, as it would be in a data set without it.
    """
    statistics = statistics.apply(lambda x: x.cpu())
    chunks = [
        weighted_figures(statistics, weights)
        for weights in resample_in_chunks(
            statistics.num_images, resamples, seed=seed, width=statistics.width
        )
    ]
    return Figures(
        {n: torch.cat([chunk.metrics[n] for chunk in chunks]) for n in chunks[0].metrics},
        {n: torch.cat([chunk.per_class[n] for chunk in chunks]) for n in chunks[0].per_class},
    )


def percentile_interval(samples: Tensor, *, level: float = LEVEL) -> Tensor:
    """Compute the percentile interval of the resamples.

        low, high = quantiles (1 - L) / 2 and (1 + L) / 2 of the defined samples, L = level / 100

    Args:
        samples: A figure of each resample, floating (R,) or (R, C); NaN is left out.
        level: Per cent, above 0 and below 100.

    Returns:
        float64 (2,) or (C, 2); NaN where no sample is defined.

    Raises:
        ValueError: `level` lies outside.

    References:
        Efron, Tibshirani 1993, section 13.3. Quantiles between two samples are interpolated.
    """
    if not 0 < level < 100:
        raise ValueError(f"Expected `level` to be between 0 and 100 per cent, but got {level}.")
    tail = (1 - level / 100) / 2
    tails = torch.tensor([tail, 1 - tail], dtype=torch.float64)
    # Column by column: torch limits the numbers that it takes quantiles of.
    columns = samples.double().reshape(len(samples), -1).unbind(1)
    return torch.stack([c.nanquantile(tails) for c in columns]).reshape(*samples.shape[1:], 2)


@dataclass(frozen=True)
class Intervals:
    """Confidence intervals of figures.

    Attributes:
        metrics: (low, high) by name; figures that are undefined are left out.
        per_class: By name, (low, high) of each class, None where it is undefined.
    """

    metrics: dict[str, Interval]
    per_class: dict[str, list[Interval | None]]


def intervals(
    statistics: ImageStatistics,
    *,
    resamples: int = RESAMPLES,
    seed: int = 0,
    level: float = LEVEL,
) -> Intervals:
    """Compute a confidence interval of every figure, by the percentile bootstrap over images.

    Args:
        statistics: Of N images; the parts that are there decide which figures are.
        resamples: R, at least 1.
        seed: Of the draws.
        level: Per cent, above 0 and below 100.

    Returns:
        Intervals in the units of `Figures`; empty for fewer than two images, of which nothing can
        be said.
    """
    if statistics.num_images < 2:
        return Intervals({}, {})
    drawn = bootstrap_figures(statistics, resamples=resamples, seed=seed)
    of_metrics = {n: _pair(percentile_interval(v, level=level)) for n, v in drawn.metrics.items()}
    return Intervals(
        {name: pair for name, pair in of_metrics.items() if pair is not None},
        {
            name: [_pair(row) for row in percentile_interval(values, level=level)]
            for name, values in drawn.per_class.items()
        },
    )


def _pair(interval: Tensor) -> Interval | None:
    low, high = interval.tolist()
    return None if math.isnan(low) else (low, high)
