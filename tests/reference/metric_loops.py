"""Fine-grained IoU and calibration as slow NumPy loops, one pixel at a time."""

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
        result[f"{name}_d"] = mean([class_score(whole, c, dice=dice) for c in range(C)])
        result[f"{name}_i"] = mean([mean(row) for row in table])
        result[f"{name}_c"] = mean([mean([row[c] for row in table]) for c in range(C)])
    return result


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
