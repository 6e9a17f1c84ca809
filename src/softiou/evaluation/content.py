"""Compute the content of evaluation.json from the sums of each image.

Shapes: N images, C classes, B bins.
"""

import json
import math
from collections.abc import Mapping, Sequence
from typing import Any

import torch
from torch import Tensor

from softiou.data import DatasetDescription
from softiou.metrics import CalibrationBins, OverlapCounts
from softiou.metrics.registry import CLASS_METRICS, metric_info
from softiou.metrics.weighted import equal_weights
from softiou.resampling import (
    LEVEL,
    RESAMPLES,
    ImageStatistics,
    Intervals,
    intervals,
    weighted_metrics,
)

_SEED = 0
# decimals of the sums of an image, which are over many pixels
_DIGITS = 6


def metric_entries(statistics: ImageStatistics, description: DatasetDescription) -> dict[str, Any]:
    """Return the entries for metrics, intervals, classes and the number of scored classes."""
    found = weighted_metrics(statistics, equal_weights(statistics))
    limits = intervals(statistics, resamples=RESAMPLES, seed=_SEED, level=LEVEL)
    return {
        "metrics": {name: _scaled(name, float(x)) for name, x in found.metrics.items()},
        "intervals": {
            name: [_scaled(name, x) for x in pair] for name, pair in limits.metrics.items()
        },
        "bootstrap": {"resamples": RESAMPLES, "seed": _SEED, "level": LEVEL},
        "scored_classes": int(statistics.counts.occurs().any(0).sum()),
        "per_class": _per_class(statistics, description, found.per_class, limits),
    }


def calibrated_metrics(statistics: ImageStatistics, *, same_masks: bool) -> dict[str, float | None]:
    """Return the calibration metrics; if the masks change, the overlap metrics as well."""
    found = weighted_metrics(statistics, equal_weights(statistics)).metrics
    groups = ("calibration",) if same_masks else ("overlap", "calibration")
    return {
        name: _scaled(name, float(value))
        for name, value in found.items()
        if metric_info(name).group in groups
    }


def _per_class(
    statistics: ImageStatistics,
    description: DatasetDescription,
    values: Mapping[str, Tensor],
    limits: Intervals,
) -> list[dict[str, Any]]:
    """Return the metrics of each class."""
    counts = statistics.counts
    keys = [metric.key for metric in CLASS_METRICS if metric.key in values]
    rows = []
    for c, name in enumerate(description.classes):
        interval = limits.per_class["iou"][c] if limits.per_class else None
        rows.append(
            {
                "name": name,
                **{key: per_cent(values[key][0, c]) for key in keys},
                "interval": None if interval is None else [per_cent(x) for x in interval],
                "target_pixels": int(counts.present[:, c].sum()),
                "predicted_pixels": int(counts.predicted[:, c].sum()),
                "images": int(counts.occurs()[:, c].sum()),
            }
        )
    return rows


def per_image(
    statistics: ImageStatistics, identities: Sequence[Mapping[str, Any]]
) -> list[dict[str, Any]]:
    """Return the identity, metrics and sums of each image."""
    counts, boundary = statistics.counts, statistics.boundary
    bins, near = statistics.bins, statistics.boundary_bins
    if boundary is None or bins is None or near is None:
        raise RuntimeError("statistics of an evaluation")
    columns = {
        "miou": counts.scored(counts.iou()).nanmean(1),
        "accuracy": counts.accuracies(),
        "boundary_iou": boundary.scored(boundary.iou()).nanmean(1),
        "ece": bins.error(),
        "confidence": bins.confidence.sum(1) / bins.count.sum(1),
    }
    sums = {name: getattr(statistics, name).tolist() for name in ("brier", "nll", "pixels")}
    return [
        {
            **image,
            **{name: per_cent(column[n]) for name, column in columns.items()},
            "counts": _sparse(counts, n),
            "boundary_counts": _sparse(boundary, n),
            "bins": _of_image(bins, n),
            "boundary_bins": _of_image(near, n),
            **{name: _rounded(column[n]) for name, column in sums.items()},
        }
        for n, image in enumerate(identities)
    ]


def reliability(diagram: Mapping[str, Tensor]) -> dict[str, list[float | None]]:
    """Return a reliability diagram as plain numbers."""
    return {name: [_number(x) for x in values.tolist()] for name, values in diagram.items()}


def to_json(content: Mapping[str, Any]) -> str:
    """Convert the content to JSON with one line per entry, class and image."""
    entries = [f" {json.dumps(key)}: {_lines(value)}" for key, value in content.items()]
    return "{\n" + ",\n".join(entries) + "\n}\n"


def per_cent(share: Tensor | float) -> float | None:
    """Return a share in per cent, or None if it is NaN."""
    return _number(100 * float(share))


def _lines(value: Any) -> str:
    if isinstance(value, list) and value and isinstance(value[0], dict | list):
        rows = [f"  {json.dumps(row, allow_nan=False)}" for row in value]
        return "[\n" + ",\n".join(rows) + "\n ]"
    return json.dumps(value, allow_nan=False)


def _scaled(name: str, value: float) -> float | None:
    return _number(metric_info(name).scale * value)


def _number(value: float) -> float | None:
    return None if math.isnan(value) else value


def _rounded(value: float) -> float | None:
    number = _number(value)
    return None if number is None else round(number, _DIGITS)


def _sparse(counts: OverlapCounts, n: int) -> dict[str, list[int]]:
    table = torch.stack([counts.true_positives[n], counts.predicted[n], counts.present[n]], 1)
    classes = table.any(1).nonzero().flatten().tolist()
    return {str(c): table[c].tolist() for c in classes}


def _of_image(bins: CalibrationBins, n: int) -> dict[str, list[float | None]]:
    return {
        name: [_rounded(x) for x in tensor[n].tolist()] for name, tensor in bins.tensors().items()
    }
