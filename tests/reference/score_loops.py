"""Worst-case IoU, accuracy of classes, calibration and boundaries as slow loops over the pixels."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray

from reference.metric_loops import class_score, counts_pixel, mean


def worst_mean(values: list[float], q: float) -> float:
    """Mean of the lowest q per cent, of one value at least; NaN is no value."""
    kept = sorted(value for value in values if not math.isnan(value))
    return mean(kept[: max(1, math.ceil(round(q * len(kept) / 100, 9)))])


def further_scores(matrix: NDArray[np.int64]) -> dict[str, float]:
    """Mean accuracy of classes and worst-case IoU from confusion matrices (N, C, C)."""
    N, C = matrix.shape[:2]
    whole = matrix.sum(0)
    recalls = [whole[c, c] / whole[c].sum() if whole[c].sum() else math.nan for c in range(C)]
    result = {"macc": mean([float(x) for x in recalls])}
    table = [
        [
            class_score(matrix[n], c, dice=False) if matrix[n, c].sum() > 0 else math.nan
            for c in range(C)
        ]
        for n in range(N)
    ]
    for q in (10, 5):
        result[f"miou_i_q{q}"] = worst_mean([mean(row) for row in table], q)
        result[f"miou_c_q{q}"] = mean([worst_mean([row[c] for row in table], q) for c in range(C)])
    return result


Question = tuple[float, float]  # probability and truth


def questions(
    probs: NDArray[Any],
    target: NDArray[Any],
    *,
    ignore_index: int | None = None,
    valid: NDArray[np.bool_] | None = None,
) -> list[list[tuple[list[float], list[float]]]]:
    """For each image the pixels that count: probabilities and truth of all classes.

    probs (N, C, P), target (N, P) or (N, C, P).
    """
    N, C, P = probs.shape
    found: list[list[tuple[list[float], list[float]]]] = []
    for n in range(N):
        found.append([])
        for pixel in range(P):
            if counts_pixel(target, n, pixel, C, ignore_index, valid):
                if np.issubdtype(target.dtype, np.floating):
                    y = [float(x) for x in target[n, :, pixel]]
                else:
                    y = [float(int(target[n, pixel]) == c) for c in range(C)]
                found[-1].append(([float(x) for x in probs[n, :, pixel]], y))
    return found


def in_bins(pairs: list[Question], num_bins: int) -> list[list[Question]]:
    """Bins [b / B, (b + 1) / B) of the probability, 1 in the last."""
    bins: list[list[Question]] = [[] for _ in range(num_bins)]
    for p, y in pairs:
        bins[min(int(p * num_bins), num_bins - 1)].append((p, y))
    return bins


def gap(members: list[Question]) -> float:
    """|frequency - probability| of a bin."""
    return abs(sum(y for _, y in members) - sum(p for p, _ in members)) / len(members)


def expected_error(bins: list[list[Question]]) -> float:
    total = sum(len(members) for members in bins)
    if not total:
        return math.nan
    return sum(len(members) / total * gap(members) for members in bins if members)


def maximum_error(bins: list[list[Question]]) -> float:
    return max((gap(members) for members in bins if members), default=math.nan)


def calibration_scores(
    probs: NDArray[Any], target: NDArray[Any], *, num_bins: int, **settings: Any
) -> dict[str, float]:
    """Every figure of calibration but that of adaptive bins."""
    C = probs.shape[1]
    images = questions(probs, target, **settings)
    pixels = [pixel for image in images for pixel in image]

    def top(some: list[tuple[list[float], list[float]]]) -> list[list[Question]]:
        best = [p.index(max(p)) for p, _ in some]
        pairs = [(p[c], y[c]) for c, (p, y) in zip(best, some, strict=True)]
        return in_bins(pairs, num_bins)

    classes = [
        expected_error(in_bins([(p[c], y[c]) for p, y in pixels], num_bins))
        for c in range(C)
        if sum(y[c] for _, y in pixels) > 0
    ]
    distances = [sum((a - b) ** 2 for a, b in zip(p, y, strict=True)) for p, y in pixels]
    losses = [
        -sum(b * math.log(max(a, 2.0**-126)) for a, b in zip(p, y, strict=True) if b)
        for p, y in pixels
    ]
    return {
        "ece_d": expected_error(top(pixels)),
        "ece_i": mean([expected_error(top(image)) for image in images]),
        "cece_d": mean(classes),
        "mce_d": maximum_error(top(pixels)),
        "brier": mean(distances),
        "nll": mean(losses),
    }


def rim(mask: NDArray[np.bool_], d: int) -> NDArray[np.bool_]:
    """Pixels of a mask (H, W) within d of its contour: it less its erosion, d times by 3 x 3.

    The image is padded with what is not the mask, as in the authors' code.
    """
    H, W = mask.shape
    eroded = np.pad(mask, 1)
    for _ in range(d):
        smaller = np.zeros_like(eroded)
        for i, j in np.ndindex(H, W):
            smaller[i + 1, j + 1] = eroded[i : i + 3, j : j + 3].all()
        eroded = smaller
    return mask & ~eroded[1:-1, 1:-1]


def boundary_iou(
    preds: NDArray[Any], target: NDArray[Any], *, num_classes: int, d: int
) -> list[list[float]]:
    """Boundary IoU of each image and class; preds and target (N, H, W) of classes alone."""
    table = []
    for one, other in zip(preds, target, strict=True):
        row = []
        for c in range(num_classes):
            predicted, present = rim(one == c, d), rim(other == c, d)
            union = int((predicted | present).sum())
            row.append(int((predicted & present).sum()) / union if union else math.nan)
        table.append(row)
    return table
