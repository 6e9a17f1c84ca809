"""Fine-grained IoU, hard and soft, calibration and disagreement as slow loops over the pixels."""

import math
from typing import Any

import numpy as np
from numpy.typing import NDArray


def labels_of(target: NDArray[Any]) -> NDArray[Any]:
    """Soft (N, C, P) -> most probable class (N, P); hard targets stay."""
    return target.argmax(1) if np.issubdtype(target.dtype, np.floating) else target


def counts_pixel(
    target: NDArray[Any],
    n: int,
    pixel: int,
    num_classes: int,
    ignore_index: int | None,
    valid: NDArray[np.bool_] | None,
) -> bool:
    if valid is not None and not valid[n, pixel]:
        return False
    if np.issubdtype(target.dtype, np.floating):
        return ignore_index is None or bool(np.any(target[n, :, pixel] != ignore_index))
    return 0 <= int(target[n, pixel]) < num_classes and int(target[n, pixel]) != ignore_index


def confusion(
    preds: NDArray[Any],
    target: NDArray[Any],
    *,
    num_classes: int,
    ignore_index: int | None = None,
    valid: NDArray[np.bool_] | None = None,
) -> NDArray[np.int64]:
    """Pixels of each image, target class and predicted class (N, C, C); space flattened."""
    labels = labels_of(target)
    matrix = np.zeros((len(preds), num_classes, num_classes), dtype=np.int64)
    for n, pixel in np.ndindex(*labels.shape):
        if counts_pixel(target, n, pixel, num_classes, ignore_index, valid):
            matrix[n, int(labels[n, pixel]), int(preds[n, pixel])] += 1
    return matrix


def class_score(matrix: NDArray[np.int64], c: int, *, dice: bool) -> float:
    """IoU or Dice score of one class of a (C, C) confusion matrix; NaN where it is undefined."""
    tp = int(matrix[c, c])
    fp, fn = int(matrix[:, c].sum()) - tp, int(matrix[c].sum()) - tp
    errors = (fp + fn) / 2 if dice else fp + fn
    return tp / (tp + errors) if tp + errors > 0 else math.nan


def mean(values: list[float]) -> float:
    kept = [value for value in values if not math.isnan(value)]
    return sum(kept) / len(kept) if kept else math.nan


def scores(matrix: NDArray[np.int64]) -> dict[str, float]:
    """All scores of a data set from its confusion matrices (N, C, C)."""
    N, C = matrix.shape[:2]
    whole = matrix.sum(0)
    result = {"accuracy": float(np.trace(whole) / whole.sum()) if whole.sum() else math.nan}
    for name, dice in (("miou", False), ("mdice", True)):
        table = [
            [
                class_score(matrix[n], c, dice=dice) if matrix[n, c].sum() > 0 else math.nan
                for c in range(C)
            ]
            for n in range(N)
        ]
        present = [c for c in range(C) if whole[c].sum() > 0]
        result[f"{name}_d"] = mean([class_score(whole, c, dice=dice) for c in present])
        result[f"{name}_i"] = mean([mean(row) for row in table])
        result[f"{name}_c"] = mean([mean([row[c] for row in table]) for c in range(C)])
    return result


def averaged(
    matrix: NDArray[np.int64],
    *,
    per: str,
    average: str,
    absent: str,
    classes: list[int],
    ignored: int | None,
) -> float | list[float]:
    """IoU of confusion matrices (N, C, C) as `MeanIoU` averages it, over some of the classes."""
    if per == "dataset":
        matrix = matrix.sum(0, keepdims=True)
    table, sizes, joined = [], [], []
    for counts in matrix:
        row, size, right, union = [], [], 0, 0
        for c in classes:
            score, present = class_score(counts, c, dice=False), int(counts[c].sum())
            if (present == 0 and absent == "exclude") or c == ignored:
                score = math.nan
            row.append(score)
            size.append(present)
            if c != ignored:
                right += int(counts[c, c])
                union += int(counts[c].sum() + counts[:, c].sum() - counts[c, c])
        table.append(row)
        sizes.append(size)
        labelled = sum(size) > 0 or absent == "zero"
        joined.append(right / union if union and labelled else math.nan)
    if average == "micro":
        return mean(joined)
    columns = [mean([row[i] for row in table]) for i in range(len(classes))]
    if average == "none":
        return columns
    weighted = average == "weighted"
    if per == "class":
        return weighted_mean(
            columns, [sum(column) for column in zip(*sizes, strict=True)], weighted
        )
    rows = [weighted_mean(row, size, weighted) for row, size in zip(table, sizes, strict=True)]
    return mean(rows)


def weighted_mean(values: list[float], weights: list[int], weighted: bool) -> float:
    """Mean of the values that are defined, by their weights or alike."""
    pairs = [(x, w if weighted else 1) for x, w in zip(values, weights, strict=True)]
    pairs = [(x, w) for x, w in pairs if not math.isnan(x)]
    total = sum(w for _, w in pairs)
    return sum(x * w for x, w in pairs) / total if total else math.nan


def masses(
    probs: NDArray[Any],
    target: NDArray[Any],
    *,
    ignore_index: int | None = None,
    valid: NDArray[np.bool_] | None = None,
) -> NDArray[np.float64]:
    """P, Y and D of each image and class (3, N, C); probs (N, C, P), target (N, P) or (N, C, P)."""
    N, C, pixels = probs.shape
    soft = np.issubdtype(target.dtype, np.floating)
    sums = np.zeros((3, N, C))
    for n, c, pixel in np.ndindex(N, C, pixels):
        if counts_pixel(target, n, pixel, C, ignore_index, valid):
            p = float(probs[n, c, pixel])
            y = float(target[n, c, pixel]) if soft else float(int(target[n, pixel]) == c)
            sums[:, n, c] += p, y, abs(p - y)
    return sums


def soft_score(sums: NDArray[np.float64], *, dice: bool) -> float:
    """Soft IoU or soft Dice of P, Y and D; NaN where it is undefined."""
    P, Y, D = (float(x) for x in sums)
    if Y == 0:
        return math.nan
    return 1 - D / (P + Y) if dice else 1 - 2 * D / (P + Y + D)


def soft_scores(sums: NDArray[np.float64]) -> dict[str, float]:
    """All soft scores of a data set from its masses (3, N, C)."""
    N, C = sums.shape[1:]
    whole, result = sums.sum(1), {}
    for name, dice in (("soft_iou", False), ("soft_dice", True)):
        table = [
            [
                soft_score(sums[:, n, c], dice=dice) if sums[1, n, c] > 0 else math.nan
                for c in range(C)
            ]
            for n in range(N)
        ]
        result[f"{name}_d"] = mean([soft_score(whole[:, c], dice=dice) for c in range(C)])
        result[f"{name}_i"] = mean([mean(row) for row in table])
        result[f"{name}_c"] = mean([mean([row[c] for row in table]) for c in range(C)])
    return result


def distance(
    one: NDArray[Any], other: NDArray[Any], where: NDArray[np.bool_], classes: list[int]
) -> float:
    """1 - mean IoU of two masks (P,) over the classes in either; NaN when no pixel is compared."""
    pixels = [pixel for pixel in range(len(one)) if where[pixel]]
    if not pixels:
        return math.nan
    scores_of_classes = []
    for c in classes:
        first = {pixel for pixel in pixels if one[pixel] == c}
        second = {pixel for pixel in pixels if other[pixel] == c}
        if first | second:
            scores_of_classes.append(len(first & second) / len(first | second))
    return 1 - mean(scores_of_classes) if scores_of_classes else 0.0


def energy_distance(
    samples: NDArray[Any],
    masks: NDArray[Any],
    *,
    num_classes: int,
    classes: list[int] | None = None,
    ignore_index: int | None = None,
    valid: NDArray[np.bool_] | None = None,
) -> list[float]:
    """Generalized energy distance of each image; samples (N, S, P), masks (N, R, P)."""
    result = []
    chosen = list(range(num_classes)) if classes is None else classes
    for n in range(len(masks)):
        judged = (masks[n] >= 0) & (masks[n] < num_classes)
        if ignore_index is not None:
            judged &= masks[n] != ignore_index
        if valid is not None:
            judged &= valid[n]
        anyone = judged.any(0)
        between = [
            distance(sample, mask, where, chosen)
            for sample in samples[n]
            for mask, where in zip(masks[n], judged, strict=True)
        ]
        of_samples = [distance(a, b, anyone, chosen) for a in samples[n] for b in samples[n]]
        of_masks = [
            distance(a, b, where & there, chosen)
            for a, where in zip(masks[n], judged, strict=True)
            for b, there in zip(masks[n], judged, strict=True)
        ]
        result.append(2 * mean(between) - mean(of_samples) - mean(of_masks))
    return result


def sample_levels(probs: NDArray[np.float64], count: int) -> NDArray[np.int64]:
    """`count` masks (N, count, P) by the inverse CDF of probs (N, C, P)."""
    N, C, pixels = probs.shape
    masks = np.full((N, count, pixels), C - 1)
    for n, i, pixel in np.ndindex(N, count, pixels):
        below = 0.0
        for c in range(C - 1):
            below += float(probs[n, c, pixel])
            if below > (i + 0.5) / count:
                masks[n, i, pixel] = c
                break
    return masks


def calibration_error(
    probs: NDArray[Any],
    target: NDArray[Any],
    *,
    num_bins: int = 15,
    ignore_index: int | None = None,
    valid: NDArray[np.bool_] | None = None,
) -> float:
    """Top-label expected calibration error; probs (N, C, P), target (N, P) or (N, C, P)."""
    num_classes = probs.shape[1]
    members: list[list[tuple[float, float]]] = [[] for _ in range(num_bins)]
    for n, pixel in np.ndindex(probs.shape[0], probs.shape[2]):
        if not counts_pixel(target, n, pixel, num_classes, ignore_index, valid):
            continue
        pred = int(probs[n, :, pixel].argmax())
        confidence = float(probs[n, pred, pixel])
        if np.issubdtype(target.dtype, np.floating):
            right = float(target[n, pred, pixel])
        else:
            right = float(int(target[n, pixel]) == pred)
        members[min(int(confidence * num_bins), num_bins - 1)].append((confidence, right))
    total = sum(len(bin_) for bin_ in members)
    if not total:
        return math.nan
    error = 0.0
    for bin_ in members:
        if bin_:
            confidence = sum(c for c, _ in bin_) / len(bin_)
            accuracy = sum(r for _, r in bin_) / len(bin_)
            error += len(bin_) / total * abs(accuracy - confidence)
    return error
