"""Scores and reductions: compute one number from overlap statistics (N, C).

    Tversky(alpha, beta) = (tp + s) / (tp + alpha fp + beta fn + s)

with the masses of true positives, false positives and false negatives. Jaccard is Tversky(1, 1),
Dice is Tversky(1/2, 1/2). The forms define these masses differently for soft values:

    form          tp         fp                 fn
    1             T          (D + P - Y) / 2    (D + Y - P) / 2
    2             M          (D + P - Y) / 2    (D + Y - P) / 2
    "product"     M          P - M              Y - M

For hard targets and predictions all forms are equal. For soft ones, only 1 and 2 are best at p = y.
"""

from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor

from softiou import _checks
from softiou.overlap.statistics import OverlapStatistics, at_least_zero

Form = Literal[1, 2, "product"]
FORMS: tuple[Form, ...] = (1, 2, "product")
PER = ("batch", "image", "class")
# Smaller masses are treated as 0: they are rounding errors of a softmax that differ between the
# implementations, and dividing by them would overflow.
LEAST_MASS = 1e-25
CLASS_RULES = ("present", "all", "prob", "label", "both")


def tversky_distance(
    statistics: OverlapStatistics,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    smooth: float = 0.0,
    form: Form = 1,
) -> Tensor:
    """Compute 1 - Tversky index, per image and class.

        errors / (tp + errors + s),    errors = alpha fp + beta fn

    Args:
        statistics: Overlap statistics (N, C).
        alpha: Weight of false positives, at least 0.
        beta: Weight of false negatives, at least 0.
        smooth: s, at least 0; avoids unstable values for absent classes, but changes the distance.
        form: Definition of the overlap of soft values: 1, 2 or "product", see the module.

    Returns:
        Distances (N, C) in [0, 1]; 0 if prediction and target are both empty. With smooth=0, that
        is a mass of at most `LEAST_MASS` = 1e-25 pixels.

    Note:
        It is computed as errors / (tp + errors + s) instead of 1 - score, so it is never negative,
        and accurate for small distances.

    Example:
        >>> from softiou.overlap import overlap_statistics
        >>> p, y = torch.tensor([[[0.5, 0.5]]]), torch.tensor([[[0.5, 1.0]]])
        >>> tversky_distance(overlap_statistics(p, y, activation="none"))  # 1 - 1.0 / 1.5
        tensor([[0.3333]])
    """
    tp, errors = overlap_and_errors(statistics, alpha=alpha, beta=beta, form=form)
    total = tp + errors
    if smooth >= LEAST_MASS:
        return errors / (total + smooth)
    return errors / torch.where(total > LEAST_MASS, total, torch.inf)


def tversky_log_distance(
    statistics: OverlapStatistics,
    *,
    alpha: float = 1.0,
    beta: float = 1.0,
    smooth: float = 0.0,
    form: Form = 1,
) -> Tensor:
    """Compute -log(Tversky index), per image and class: log(tp + errors + s) - log(tp + s).

    Arguments as in `tversky_distance`; the result is (N, C), at least 0. With smooth=0, s is
    `LEAST_MASS` = 1e-25 pixels, so that a score of 0 has a finite value, and scores above 0 have a
    gradient.
    """
    tp, errors = overlap_and_errors(statistics, alpha=alpha, beta=beta, form=form)
    tp = tp + max(smooth, LEAST_MASS)
    # The first expression is accurate for small distances, the second cannot overflow.
    near = errors < tp
    small = torch.log1p(errors / torch.where(near, tp, torch.inf))
    return torch.where(near, small, (tp + errors).log() - tp.log())


def overlap_and_errors(
    statistics: OverlapStatistics, *, alpha: float, beta: float, form: Form
) -> tuple[Tensor, Tensor]:
    """Return the overlap tp and the errors alpha fp + beta fn, each (N, C) and at least 0."""
    _checks.one_of("form", form, FORMS)
    P, Y, D, M = statistics.P, statistics.Y, statistics.D, statistics.M
    if form == "product":
        return M, at_least_zero(alpha * (P - M) + beta * (Y - M))
    tp = statistics.overlap if form == 1 else M
    # For alpha = beta the errors are a multiple of D; this avoids the cancellation in P - Y.
    errors = D if alpha + beta == 2 else (alpha + beta) / 2 * D
    if alpha != beta:
        errors = at_least_zero(errors + (alpha - beta) / 2 * (P - Y))
    return tp, errors


def active_classes(
    statistics: OverlapStatistics, classes: str | Sequence[int], *, threshold: float = 0.01
) -> Tensor:
    """Return which classes enter the mean, for each image.

    Args:
        statistics: Overlap statistics (N, C).
        classes: "all"; "present", the classes with target mass (more than `LEAST_MASS` = 1e-25
            pixels); "prob", "label" or "both", the classes whose largest prediction, target, or
            either of them exceeds `threshold`; or the indices of the classes to keep, negative ones
            from the end. In the authors' older code, "present" for soft labels means the most
            probable class of some pixel.
        threshold: Threshold of "prob", "label" and "both", in [0, 1].

    Returns:
        Bool (N, C). Images without valid pixels have no active class.
    """
    P, Y = statistics.P, statistics.Y
    if classes == "present":
        return Y > LEAST_MASS
    valid = (statistics.weight > 0).unsqueeze(1)  # (N, 1)
    if not isinstance(classes, str):
        kept = P.new_zeros(P.shape[1], dtype=torch.bool)
        kept[class_indices(classes, kept.shape[0])] = True
        return kept & valid
    _checks.one_of("classes", classes, CLASS_RULES)
    if classes == "all":
        return valid.expand_as(P)
    p_max, y_max = statistics.p_max, statistics.y_max
    if p_max is None or y_max is None:
        raise ValueError(
            f"classes={classes!r} needs the largest predictions and targets; compute the "
            "statistics with `maxima=True`."
        )
    largest = {"prob": p_max, "label": y_max, "both": torch.maximum(p_max, y_max)}[classes]
    return (largest > threshold) & valid


def needs_maxima(classes: str | Sequence[int]) -> bool:
    """Return whether a rule of `active_classes` uses the largest predictions and targets."""
    return isinstance(classes, str) and classes in ("prob", "label", "both")


def mean_over(
    values: Tensor,
    active: Tensor,
    *,
    per: Literal["image", "class"] = "image",
    class_weights: Tensor | None = None,
) -> Tensor:
    """Average values (N, C) over the active classes and the images: a scalar.

    Args:
        values: One value for each image and class (N, C).
        active: Bool (N, C), the values that enter the mean.
        per: "image" averages over the classes of each image, then over images with active classes;
            "class" averages over the images for each class, then over classes active in any image.
        class_weights: Weights of the classes in their mean (C,), at least 0.

    Returns:
        The mean; if nothing is active, a 0 that is still attached to the graph.
    """
    # A weighted sum with constant weights, so that only the last step is in the autograd graph.
    dtype = values.dtype
    if class_weights is not None:
        class_weights = class_weights.to(dtype)
    if per == "class":
        occurs = active.any(0)  # (N, C) -> (C,)
        occurs = occurs if class_weights is None else occurs * class_weights
        return (values * (_shares(active, 0, dtype) * _shares(occurs, 0, dtype))).sum()
    weights = _shares(active if class_weights is None else active * class_weights, 1, dtype)
    if weights.shape[0] != 1:
        weights = weights / (weights.sum(1) > 0).sum().clamp(min=1)
    return (values * weights).sum()


def mean_by_class(values: Tensor, active: Tensor) -> Tensor:
    """Average values (N, C) over the images in which each class is active: (C,), NaN if none."""
    mean = (values * _shares(active, 0, values.dtype)).sum(0)
    return torch.where(active.any(0), mean, torch.nan)


def _shares(weights: Tensor, dim: int, dtype: torch.dtype) -> Tensor:
    """Normalise weights to a sum of 1; if all are 0, they stay 0."""
    total = weights.sum(dim, keepdim=True, dtype=dtype)
    return weights / total.clamp(min=torch.finfo(dtype).tiny)


def parse_per(per: str | Mapping[str, float]) -> dict[str, float]:
    """Return `per` as weights of the reductions: "batch" -> {"batch": 1.0}."""
    if not isinstance(per, Mapping):
        _checks.one_of("per", per, PER)
        return {per: 1.0}
    parts = dict(per)
    for name, weight in parts.items():
        _checks.one_of("per", name, PER)
        _checks.in_range(f"per[{name!r}]", weight, 0.0)
    if not sum(parts.values()) > 0:
        raise ValueError(f"Expected the weights of `per` to have a positive sum, but got {parts}.")
    return parts


def class_indices(classes: Sequence[int], num_classes: int) -> list[int]:
    """Check class indices, and convert negative ones, which count from the end."""
    if not classes or any(not -num_classes <= c < num_classes for c in classes):
        raise ValueError(
            f"Expected `classes` to be indices in [{-num_classes}, {num_classes - 1}], at least "
            f"one, but got {list(classes)}."
        )
    return [c % num_classes for c in classes]
