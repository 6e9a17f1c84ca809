"""Slow and plain: figures of a list of images, one after the other, in NumPy float64.

Counts are (3, N, C): true positives, predicted, present; bins (3, N, B): count, confidence,
correct; class bins (3, N, C, B).
"""

import math
import warnings
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]


def mean(values: Any) -> float:
    """Mean of what is not NaN."""
    known = [float(value) for value in np.ravel(values) if not math.isnan(value)]
    return sum(known) / len(known) if known else math.nan


def iou(counts: Array) -> Array:
    """IoU of counts (3, ...), NaN for an empty union."""
    right, predicted, present = counts
    with np.errstate(invalid="ignore"), warnings.catch_warnings():
        return np.asarray(right / (predicted + present - right))


def of_target(counts: Array) -> Array:
    """IoU of counts (3, ...) of the classes that the target has; NaN for the others."""
    return np.where(counts[2] > 0, iou(counts), math.nan)


def error(bins: Array) -> float:
    """Expected calibration error of bins (3, B)."""
    count, confidence, correct = bins
    if not count.sum():
        return math.nan
    return float(np.abs(correct - confidence).sum() / count.sum())


def overlap_figures(counts: Array) -> dict[str, float]:
    """miou, mdice, macc, accuracy and the worst cases."""
    N, C = counts.shape[1:]
    total = counts.sum(1)
    with np.errstate(invalid="ignore"):
        recall = total[0] / total[2]
        dice = 2 * counts[0] / (counts[1] + counts[2])
        total_dice = 2 * total[0] / (total[1] + total[2])
    held = counts[2] > 0
    scores = of_target(counts)
    dices = np.where(held, dice, math.nan)
    found = {
        "miou_d": mean(of_target(total)),
        "miou_i": mean([mean(scores[n]) for n in range(N)]),
        "miou_c": mean([mean(scores[:, c]) for c in range(C)]),
        "mdice_d": mean(np.where(total[2] > 0, total_dice, math.nan)),
        "mdice_i": mean([mean(dices[n]) for n in range(N)]),
        "mdice_c": mean([mean(dices[:, c]) for c in range(C)]),
        "macc": mean(recall),
        "accuracy": float(total[0].sum() / total[2].sum()) if total[2].sum() else math.nan,
    }
    for q in (10, 5):
        found[f"miou_i_q{q}"] = worst([mean(scores[n]) for n in range(N)], q)
        found[f"miou_c_q{q}"] = mean([worst(scores[:, c], q) for c in range(C)])
    return found


def worst(values: Any, q: int) -> float:
    """Mean of the lowest q % of the known values, rounded up."""
    known = sorted(float(value) for value in values if not math.isnan(value))
    return mean(known[: -(-q * len(known) // 100)])


def bin_figures(bins: Array) -> dict[str, float]:
    """ece_d, mce_d, ece_i of bins (3, N, B)."""
    total = bins.sum(1)
    gaps = [abs(y - p) / n for n, p, y in total.T if n]
    return {
        "ece_d": error(total),
        "mce_d": max(gaps, default=math.nan),
        "ece_i": mean([error(bins[:, n]) for n in range(bins.shape[1])]),
    }


def class_bin_error(bins: Array) -> float:
    """cece_d of bins (3, N, C, B): the mean over the classes that the target holds."""
    total = bins.sum(1)
    return mean([error(total[:, c]) for c in range(total.shape[1]) if total[2, c].sum()])
