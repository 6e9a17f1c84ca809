"""The confusion matrix: where the pixels of each class went.

Sizes: C classes.
"""

from softiou.reports.evaluated import Evaluation
from softiou.reports.formatting import View

TABLE_CLASSES = 30  # with more the cells would be too small for figures
LARGEST = 8


def confusion_view(evaluation: Evaluation) -> View | None:
    """Counts, shares of the row, and the largest mistakes; None where there is no matrix."""
    matrix = evaluation.confusion
    if matrix is None or not any(map(any, matrix)):
        return None
    return {
        "table": _rows(evaluation, matrix) if len(matrix) <= TABLE_CLASSES else None,
        "classes": evaluation.classes,
        "largest": _largest(evaluation, matrix),
        "data": {
            "names": [score.name for score in evaluation.classes],
            "totals": [sum(row) for row in matrix],
            "cells": [
                [target, preds, count]
                for target, row in enumerate(matrix)
                for preds, count in enumerate(row)
                if count
            ],
        },
    }


def _rows(evaluation: Evaluation, matrix: tuple[tuple[int, ...], ...]) -> list[View]:
    return [
        {
            "score": score,
            "total": sum(row),
            "cells": [
                {"share": 100 * count / max(1, sum(row)), "right": target == preds}
                for preds, count in enumerate(row)
            ],
        }
        for target, (score, row) in enumerate(zip(evaluation.classes, matrix, strict=True))
    ]


def _largest(evaluation: Evaluation, matrix: tuple[tuple[int, ...], ...]) -> list[View]:
    """Mistakes that cost most pixels."""
    total = max(1, sum(map(sum, matrix)))
    wrong = [
        (count, target, preds)
        for target, row in enumerate(matrix)
        for preds, count in enumerate(row)
        if count and target != preds
    ]
    wrong.sort(key=lambda item: (-item[0], item[1:]))
    return [
        {
            "target": evaluation.classes[target],
            "preds": evaluation.classes[preds],
            "share_of_class": 100 * count / sum(matrix[target]),
            "share_of_all": 100 * count / total,
        }
        for count, target, preds in wrong[:LARGEST]
    ]
