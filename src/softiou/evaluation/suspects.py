"""Find regions whose labels may be wrong: the model confidently predicts another class.

Shapes: (H, W) the image.
"""

from typing import Any

import numpy as np
from numpy.typing import NDArray
from scipy import ndimage
from torch import Tensor

SURE = 0.9
NARROW_PX = 5  # thinner regions are small differences at boundaries
MOST = 5


def suspect_regions(
    target: Tensor, preds: Tensor, confidence: Tensor, num_classes: int
) -> list[dict[str, Any]]:
    """Return up to five regions where a confident model contradicts the labels.

    A region is a connected set of labelled pixels with another predicted class and a confidence of
    at least 0.9, without parts narrower than 5 pixels. Regions are ranked by the sum of the
    confidence over their pixels. The entries are those of `softiou.evaluation.schema.Suspect`.
    """
    labels, predicted, sure = target.numpy(), preds.numpy(), confidence.float().numpy()
    labelled = (labels >= 0) & (labels < num_classes)
    wrong = labelled & (labels != predicted) & (sure >= SURE)
    if not wrong.any():
        return []
    opened = ndimage.binary_opening(wrong, np.ones((NARROW_PX, NARROW_PX)))
    regions, _ = ndimage.label(opened, np.ones((3, 3)))
    sums = np.bincount(regions.ravel(), sure.ravel())[1:]
    boxes = ndimage.find_objects(regions)
    return [
        _region(regions[boxes[n]] == n + 1, boxes[n], labels, predicted, float(sums[n]))
        for n in np.argsort(-sums, kind="stable")[:MOST]
    ]


def _region(
    inside: NDArray[np.bool_],
    box: tuple[slice, slice],
    labels: NDArray[np.integer],
    predicted: NDArray[np.integer],
    confidence: float,
) -> dict[str, Any]:
    """Describe a region by its most frequent pair of label and prediction."""
    pairs = np.stack([labels[box][inside], predicted[box][inside]], axis=1)
    found, counts = np.unique(pairs, axis=0, return_counts=True)
    target, preds = found[counts.argmax()].tolist()
    rows, columns = box
    return {
        "target": target,
        "preds": preds,
        "pixels": len(pairs),
        "confidence": round(100 * confidence / len(pairs), 2),
        "box": [rows.start, columns.start, rows.stop, columns.stop],
    }
