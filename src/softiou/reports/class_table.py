"""The table of classes: every score of each class, and the means below."""

from softiou.metrics.registry import CLASS_METRICS
from softiou.reports.evaluated import ClassScore, Evaluation
from softiou.reports.formatting import View
from softiou.reports.metric_display import interval_text


def class_table(evaluation: Evaluation) -> View:
    """Return the rows, the columns that were measured, and the means."""
    mean = evaluation.metrics
    pixels = sum(score.target_pixels for score in evaluation.classes)
    columns = [  # the IoU has a column of its own, with a bar
        column
        for column in CLASS_METRICS
        if column.key != "iou"
        and any(getattr(score, column.key, None) is not None for score in evaluation.classes)
    ]

    def row(score: ClassScore) -> View:
        return {
            "score": score,
            "interval": interval_text(score.interval),
            "values": [getattr(score, column.key, None) for column in columns],
            "share": 100 * score.target_pixels / max(1, pixels),
        }

    return {
        "rows": list(map(row, evaluation.classes)),
        "columns": columns,
        "level": f"{evaluation.level:g}" if any(s.interval for s in evaluation.classes) else "",
        "absent": sum(score.iou is None for score in evaluation.classes),
        "mean_iou": mean.get("miou_d"),
        "means": [mean.get(column.mean) for column in columns],
    }
