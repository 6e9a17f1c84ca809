"""The tables of the page: classes, confusions, suspect labels; and the scores as CSV.

Sizes: C classes.
"""

import csv
from base64 import b64encode
from collections.abc import Iterable, Sequence
from io import StringIO
from urllib.parse import quote

from softiou.evaluation.schema import ClassScores, Colour, Evaluation, ImageScores, Suspect
from softiou.metrics.registry import CLASS_METRICS, IMAGE_METRICS
from softiou.reports.formatting import View, interval_text

TABLE_CLASSES = 30  # with more the cells would be too small for numbers
LARGEST = 8
LARGEST_SUSPECTS = 24


def class_table(evaluation: Evaluation) -> View:
    """Return the rows, the columns that were measured, and the means."""
    mean = evaluation.metrics
    pixels = sum(score.target_pixels for score in evaluation.per_class)
    columns = [  # the IoU has a column of its own, with a bar
        column
        for column in CLASS_METRICS
        if column.key != "iou"
        and any(score.score(column.key) is not None for score in evaluation.per_class)
    ]

    def row(score: ClassScores, colour: Colour) -> View:
        return {
            "score": score,
            "name": score.name,
            "colour": colour,
            "interval": interval_text(score.interval),
            "values": [score.score(column.key) for column in columns],
            "share": 100 * score.target_pixels / max(1, pixels),
        }

    return {
        "rows": list(map(row, evaluation.per_class, evaluation.palette)),
        "columns": columns,
        "level": f"{evaluation.level:g}" if any(s.interval for s in evaluation.per_class) else "",
        "absent": evaluation.absent_classes,
        "counted": sum(score.target_pixels > 0 for score in evaluation.per_class),
        "mean_iou": mean.get("miou_d"),
        "means": [mean.get(column.mean) for column in columns],
    }


def images_csv(evaluation: Evaluation) -> str:
    """Return a data: URI of a row for each image: its scores in per cent, empty if undefined."""
    keys = [metric.key for metric in IMAGE_METRICS]
    rows = ([one.stem, *map(one.score, keys)] for one in evaluation.images)
    return _uri(["image", *keys], rows)


def classes_csv(evaluation: Evaluation) -> str:
    """Return a data: URI of a row for each class: scores in per cent, interval of the IoU, size."""
    keys = [metric.key for metric in CLASS_METRICS]
    rows = (
        [
            one.name,
            *map(one.score, keys),
            *(one.interval or ("", "")),
            one.target_pixels,
            one.images,
        ]
        for one in evaluation.per_class
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


def ranked_suspects(images: Sequence[ImageScores]) -> list[tuple[ImageScores, Suspect]]:
    """Return the regions of all images, those with the most confident pixels first."""
    found = [(image, suspect) for image in images for suspect in image.suspects]
    return sorted(found, key=lambda pair: -pair[1].weight)


def suspect_view(evaluation: Evaluation) -> View | None:
    """Return the first regions as rows; None where there are none."""
    ranked = ranked_suspects(evaluation.images)
    if not ranked:
        return None
    classes = _classes(evaluation)
    return {
        "rows": [
            {
                "stem": image.stem,
                "link": f"#image={quote(image.stem, safe='')}&box={','.join(map(str, one.box))}",
                "target": classes[one.target],
                "preds": classes[one.preds],
                "pixels": one.pixels,
                "confidence": one.confidence,
            }
            for image, one in ranked[:LARGEST_SUSPECTS]
        ],
        "count": len(ranked),
    }
