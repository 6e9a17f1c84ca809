"""The scores of a page as CSV, inside its links."""

import csv
from base64 import b64encode
from collections.abc import Iterable, Sequence
from io import StringIO

from softiou.evaluation.schema import Evaluation
from softiou.metrics.registry import CLASS_METRICS, IMAGE_METRICS


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
