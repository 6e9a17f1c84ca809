"""Overlap losses as slow NumPy loops in float64, written from the paper and not from the code.

Everything works on one pixel at a time: tp = min(p, y) in form 1, p y in the others.
Shapes: N images, C classes, *S space, P flattened pixels.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

Array = NDArray[np.float64]
LEAST_MASS = 1e-25


@dataclass(frozen=True)
class Dense:
    """Prediction, target and weight of every entry, each (N, C, P)."""

    p: Array
    y: Array
    w: Array
    logits: Array
    activation: str

    def joined(self) -> "Dense":
        """All images as one: (N, C, P) -> (1, C, N P)."""
        arrays = (self.p, self.y, self.w, self.logits)
        p, y, w, logits = (np.concatenate(list(a), axis=1)[None] for a in arrays)
        return Dense(p, y, w, logits, self.activation)


def activate(logits: Array, activation: str) -> Array:
    """(N, C, P) -> (N, C, P)."""
    p = np.zeros_like(logits)
    for n, pixel in np.ndindex(logits.shape[0], logits.shape[2]):
        z = [float(value) for value in logits[n, :, pixel]]
        if activation == "softmax":
            exponentials = [math.exp(value - max(z)) for value in z]
            p[n, :, pixel] = [e / sum(exponentials) for e in exponentials]
        elif activation == "sigmoid":
            p[n, :, pixel] = [float(np.exp(-np.logaddexp(0, -value))) for value in z]
        else:
            p[n, :, pixel] = z
    return p


def prepare(
    logits: NDArray[Any],
    target: NDArray[Any],
    *,
    activation: str,
    ignore_index: int | None = None,
    valid: NDArray[np.bool_] | None = None,
    weights: NDArray[Any] | None = None,
) -> Dense:
    """Write out a prediction, any plain target and all that makes a pixel count less."""
    N, C = logits.shape[:2]
    z = np.asarray(logits, dtype=np.float64).reshape(N, C, -1)
    P = z.shape[2]
    hard = target.shape == (N, *logits.shape[2:])
    soft = np.issubdtype(target.dtype, np.floating)
    flat = target.reshape(N, -1, P)
    y, w = np.zeros((N, C, P)), np.ones((N, C, P))
    for n, c, pixel in np.ndindex(N, C, P):
        if hard:
            label = int(flat[n, 0, pixel])
            y[n, c, pixel] = label == (1 if C == 1 else c)
            counts = 0 <= label < max(C, 2) and label != ignore_index
        else:
            y[n, c, pixel] = flat[n, c, pixel]
            exclusive = activation != "sigmoid" and C > 1
            entries = flat[n, :, pixel] if exclusive else flat[n, c : c + 1, pixel]
            counts = ignore_index is None or any(float(e) != ignore_index for e in entries)
            counts = counts and (soft or int(flat[n, c, pixel]) in (0, 1))
        if valid is not None:
            counts = counts and bool(valid.reshape(N, P)[n, pixel])
        weight = 1.0 if weights is None else float(weights.reshape(N, P)[n, pixel])
        w[n, c, pixel] = weight if counts else 0.0
    y, z = np.where(w > 0, y, 0.0), np.where(w > 0, z, 0.0)
    return Dense(p=activate(z, activation), y=y, w=w, logits=z, activation=activation)


def statistics(data: Dense) -> dict[str, Array]:
    """P, Y, D, M, p_max, y_max, each (N, C)."""
    N, C, P = data.p.shape
    sums = {name: np.zeros((N, C)) for name in ("P", "Y", "D", "M", "p_max", "y_max")}
    for n, c, pixel in np.ndindex(N, C, P):
        p, y, w = (float(a[n, c, pixel]) for a in (data.p, data.y, data.w))
        sums["P"][n, c] += w * p
        sums["Y"][n, c] += w * y
        sums["D"][n, c] += w * abs(p - y)
        sums["M"][n, c] += w * p * y
        if w > 0:
            sums["p_max"][n, c] = max(float(sums["p_max"][n, c]), p)
            sums["y_max"][n, c] = max(float(sums["y_max"][n, c]), y)
    return sums


def cross_entropy(data: Dense) -> tuple[Array, Array]:
    """Sum over the pixels, and the weight to divide it by, each (N,)."""
    N, C, P = data.p.shape
    total, weight = np.zeros(N), np.zeros(N)
    for n, pixel in np.ndindex(N, P):
        z, y, w = (a[n, :, pixel] for a in (data.logits, data.y, data.w))
        if data.activation == "softmax":
            log_sum = float(np.logaddexp.reduce(z))
            weight[n] += w[0]
            for c in range(C):
                total[n] += w[0] * y[c] * (log_sum - z[c])
        else:
            for c in range(C):
                weight[n] += w[c]
                positive, negative = np.logaddexp(0, -z[c]), np.logaddexp(0, z[c])
                total[n] += w[c] * (y[c] * positive + (1 - y[c]) * negative)
    return total, weight


def class_entropies(
    data: Dense, *, label_smoothing: float = 0.0, focal_gamma: float = 0.0
) -> tuple[Array, Array]:
    """Of each class (N, C): what it costs where it is, and under a sigmoid where it is not."""
    N, C, P = data.p.shape
    on, off = np.zeros((N, C)), np.zeros((N, C))
    for n, c, pixel in np.ndindex(N, C, P):
        z, p, y, w = (a[n, :, pixel] for a in (data.logits, data.p, data.y, data.w))
        softmax = data.activation == "softmax"
        target = (1 - label_smoothing) * y[c] + label_smoothing / (C if softmax else 2)
        factor = w[c] * abs(target - p[c]) ** focal_gamma if w[c] > 0 else 0.0
        if softmax:
            on[n, c] += factor * target * (np.logaddexp.reduce(z) - z[c])
        else:
            on[n, c] += factor * target * np.logaddexp(0, -z[c])
            off[n, c] += factor * (1 - target) * np.logaddexp(0, z[c])
    return on, off


def mean_cross_entropy(
    data: Dense,
    *,
    class_weights: Sequence[float] | None = None,
    pos_weight: Sequence[float] | None = None,
    reduction: str = "mean",
    **options: float,
) -> float:
    on, off = class_entropies(data, **options)
    _, weight = cross_entropy(data)
    of_classes = np.array([1.0] * data.p.shape[1] if class_weights is None else class_weights)
    of_there = np.array([1.0] * data.p.shape[1] if pos_weight is None else pos_weight)
    total = float(((on * of_there + off) * of_classes).sum())
    if reduction != "mean":
        return total
    mass = float(weight.sum())
    if class_weights is not None and data.activation == "softmax":
        mass = float((statistics(data)["Y"] * of_classes).sum())
    return total / mass if mass > 0 else 0.0


def tversky(
    data: Dense, n: int, c: int, *, alpha: float, beta: float, smooth: float, form: int | str
) -> float:
    """The score of one image and class; 1 where prediction and target are both empty."""
    tp = fp = fn = 0.0
    for p, y, w in zip(data.p[n, c], data.y[n, c], data.w[n, c], strict=True):
        if form == "product":
            tp, fp, fn = tp + w * p * y, fp + w * p * (1 - y), fn + w * (1 - p) * y
        else:
            tp += w * (min(p, y) if form == 1 else p * y)
            fp += w * max(p - y, 0.0)
            fn += w * max(y - p, 0.0)
    mass = tp + alpha * fp + beta * fn
    if smooth == 0 and mass <= LEAST_MASS:
        return 1.0
    return float((tp + smooth) / (mass + smooth))


def is_active(
    data: Dense, n: int, c: int, classes: str | Sequence[int], threshold: float = 0.01
) -> bool:
    p, y = (
        [float(v) for v, w in zip(a[n, c], data.w[n, c], strict=True) if w > 0]
        for a in (data.p, data.y)
    )
    if not np.any(data.w[n] > 0):
        return False
    if not isinstance(classes, str):
        return c in classes
    mass = sum(w * v for v, w in zip(data.y[n, c], data.w[n, c], strict=True))
    return {
        "all": True,
        "present": bool(mass > LEAST_MASS),
        "prob": max(p, default=0.0) > threshold,
        "label": max(y, default=0.0) > threshold,
        "both": max(p + y, default=0.0) > threshold,
    }[classes]


def weighted_mean(values: Sequence[float], weights: Sequence[float]) -> float | None:
    """None when nothing has weight."""
    if sum(weights) == 0:
        return None
    return sum(v * w for v, w in zip(values, weights, strict=True)) / sum(weights)


def overlap_loss(
    data: Dense,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    gamma: float = 1.0,
    log: bool = False,
    form: int | str = 1,
    smooth: float = 1.0,
    per: str | Mapping[str, float] = "batch",
    classes: str | Sequence[int] = "present",
    threshold: float = 0.01,
    class_weights: Sequence[float] | None = None,
    reduction: str = "mean",
) -> float:
    """The overlap part of the loss: a number."""
    if not isinstance(per, str):
        shares = sum(per.values())
        settings: dict[str, Any] = {
            "alpha": alpha,
            "beta": beta,
            "gamma": gamma,
            "log": log,
            "form": form,
            "smooth": smooth,
            "classes": classes,
            "threshold": threshold,
            "class_weights": class_weights,
        }
        return sum(w / shares * overlap_loss(data, per=k, **settings) for k, w in per.items())
    if per == "batch":
        data = data.joined()
    N, C = data.p.shape[:2]

    def distance(n: int, c: int) -> float:
        if not active[n][c]:
            return 0.0
        if log and smooth == 0:
            score = tversky(data, n, c, alpha=alpha, beta=beta, smooth=LEAST_MASS, form=form)
        else:
            score = tversky(data, n, c, alpha=alpha, beta=beta, smooth=smooth, form=form)
        return float((-math.log(score) if log else 1 - score) ** gamma)

    active = [[is_active(data, n, c, classes, threshold) for c in range(C)] for n in range(N)]
    weight_of_class = [1.0] * C if class_weights is None else list(class_weights)
    if reduction != "mean":
        return sum(distance(n, c) * weight_of_class[c] for n in range(N) for c in range(C))
    if per == "class":
        by_class = [
            weighted_mean(
                [distance(n, c) for n in range(N)], [float(active[n][c]) for n in range(N)]
            )
            for c in range(C)
        ]
        kept = [(v, w) for v, w in zip(by_class, weight_of_class, strict=True) if v is not None]
        return weighted_mean([v for v, _ in kept], [w for _, w in kept]) or 0.0
    by_image = [
        weighted_mean(
            [distance(n, c) for c in range(C)],
            [weight_of_class[c] * active[n][c] for c in range(C)],
        )
        for n in range(N)
    ]
    images = [value for value in by_image if value is not None]
    return weighted_mean(images, [1.0] * len(images)) or 0.0
