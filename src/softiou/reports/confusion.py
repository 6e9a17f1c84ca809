"""The confusion matrix: where the pixels of each class went.

Sizes: C classes.
"""

from softiou.evaluation.schema import Evaluation
from softiou.reports.formatting import View

TABLE_CLASSES = 30  # with more the cells would be too small for numbers
LARGEST = 8


def confusion_view(evaluation: Evaluation) -> View | None:
    """Counts, shares of the row, and the largest mistakes; None where there is no matrix."""
    matrix = evaluation.confusion
    if matrix is None or not any(map(any, matrix)):
        return None
    return {
        "table": _rows(evaluation, matrix) if len(matrix) <= TABLE_CLASSES else None,
        "classes": _classes(evaluation),
        "largest": _largest(evaluation, matrix),
        "data": {
            "names": evaluation.classes,
            "totals": [sum(row) for row in matrix],
            "cells": [
                [target, preds, count]
                for target, row in enumerate(matrix)
                for preds, count in enumerate(row)
                if count
            ],
        },
    }


def _classes(evaluation: Evaluation) -> list[View]:
    pairs = zip(evaluation.classes, evaluation.palette, strict=True)
    return [
        {"index": index, "name": name, "colour": colour}
        for index, (name, colour) in enumerate(pairs)
    ]


def _rows(evaluation: Evaluation, matrix: tuple[tuple[int, ...], ...]) -> list[View]:
    return [
        {
            **one,
            "total": sum(row),
            "cells": [
                {"share": 100 * count / max(1, sum(row)), "right": target == preds}
                for preds, count in enumerate(row)
            ],
        }
        for target, (one, row) in enumerate(zip(_classes(evaluation), matrix, strict=True))
    ]


def _largest(evaluation: Evaluation, matrix: tuple[tuple[int, ...], ...]) -> list[View]:
    """The mistakes with the most pixels."""
    total, classes = max(1, sum(map(sum, matrix))), _classes(evaluation)
    wrong = [
        (count, target, preds)
        for target, row in enumerate(matrix)
        for preds, count in enumerate(row)
        if count and target != preds
    ]
    wrong.sort(key=lambda item: (-item[0], item[1:]))
    return [
        {
            "target": classes[target],
            "preds": classes[preds],
            "share_of_class": 100 * count / sum(matrix[target]),
            "share_of_all": 100 * count / total,
        }
        for count, target, preds in wrong[:LARGEST]
    ]
