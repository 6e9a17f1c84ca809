"""The tables of the page: classes, confusions, suspect labels; and the scores as CSV.

Sizes: C classes.
"""

import csv
from base64 import b64encode
from collections.abc import Iterable, Sequence
from io import StringIO
from urllib.parse import quote

from softiou.evaluation.schema import Evaluation, ImageScores, Suspect
from softiou.metrics.registry import CLASS_METRICS, IMAGE_METRICS
from softiou.reports.formatting import View

TABLE_CLASSES = 30  # with more classes, the cells would be too small for numbers
LARGEST = 8
LARGEST_SUSPECTS = 24

Matrix = tuple[tuple[int, ...], ...]  # (C, C)


def class_table(evaluation: Evaluation) -> View:
    """Return the rows, columns and means of the table of classes."""
    mean, scores = evaluation.metrics, evaluation.per_class
    columns = [  # the IoU is shown separately, with a bar
        column
        for column in CLASS_METRICS
        if column.key != "iou" and any(one.score(column.key) is not None for one in scores)
    ]
    return {
        "rows": list(zip(scores, evaluation.palette, strict=True)),
        "columns": columns,
        "pixels": max(1, sum(one.target_pixels for one in scores)),
        "level": f"{evaluation.level:g}" if any(one.interval for one in scores) else "",
        "absent": evaluation.absent_classes,
        "counted": sum(one.target_pixels > 0 for one in scores),
        "mean_iou": mean.get("miou_d"),
        "means": [mean.get(column.mean) for column in columns],
    }


def images_csv(evaluation: Evaluation) -> str:
    """Return a CSV file as a data: URI, a row per image: scores in per cent, empty if undefined."""
    keys = [metric.key for metric in IMAGE_METRICS]
    rows = ([one.stem, *map(one.score, keys)] for one in evaluation.images)
    return _uri(["image", *keys], rows)


def classes_csv(evaluation: Evaluation) -> str:
    """Return a CSV file as a data: URI, a row per class: scores, interval of the IoU, size."""
    keys = [metric.key for metric in CLASS_METRICS]
    rows = (
        [c.name, *map(c.score, keys), *(c.interval or ("", "")), c.target_pixels, c.images]
        for c in evaluation.per_class
    )
    return _uri(["class", *keys, "iou_low", "iou_high", "pixels", "images"], rows)


def _uri(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    text = StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(head)
    writer.writerows(rows)
    content = b64encode(text.getvalue().encode(errors="backslashreplace")).decode()
    return f"data:text/csv;charset=utf-8;base64,{content}"


def confusion_view(evaluation: Evaluation) -> View | None:
    """Return the confusion matrix and the most frequent confusions; None without a matrix."""
    matrix = evaluation.confusion
    if matrix is None or not any(map(any, matrix)):
        return None
    classes = list(zip(evaluation.classes, evaluation.palette, strict=True))
    return {
        "table": matrix if len(matrix) <= TABLE_CLASSES else None,
        "classes": classes,
        "largest": _largest(matrix),
        "data": {
            "names": evaluation.classes,
            "totals": [sum(row) for row in matrix],
            "cells": _cells(matrix),
        },
    }


def _cells(matrix: Matrix) -> list[tuple[int, int, int]]:
    """Yield target class, predicted class and number of pixels of the cells above 0."""
    return [
        (target, preds, count)
        for target, row in enumerate(matrix)
        for preds, count in enumerate(row)
        if count
    ]


def _largest(matrix: Matrix) -> list[tuple[int, int, float, float]]:
    """Return the most frequent confusions, in per cent of the class and of all pixels."""
    total = max(1, sum(map(sum, matrix)))
    wrong = [cell for cell in _cells(matrix) if cell[0] != cell[1]]
    return [
        (target, preds, 100 * count / sum(matrix[target]), 100 * count / total)
        for target, preds, count in sorted(wrong, key=lambda cell: -cell[2])[:LARGEST]
    ]


def ranked_suspects(images: Sequence[ImageScores]) -> list[tuple[ImageScores, Suspect]]:
    """Return the suspect regions of all images, sorted by the number of confident pixels."""
    found = [(image, suspect) for image in images for suspect in image.suspects]
    return sorted(found, key=lambda pair: -pair[1].weight)


def suspect_view(evaluation: Evaluation) -> View | None:
    """Return the first regions as rows of a table; None if there are none."""
    ranked = ranked_suspects(evaluation.images)
    if not ranked:
        return None
    return {
        "rows": [
            (image, one, f"#image={quote(image.stem, safe='')}&box={','.join(map(str, one.box))}")
            for image, one in ranked[:LARGEST_SUSPECTS]
        ],
        "classes": list(zip(evaluation.classes, evaluation.palette, strict=True)),
        "count": len(ranked),
    }
