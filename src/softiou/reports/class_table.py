"""The table of classes: every score of each class, and the means below."""

from softiou.evaluation.schema import ClassScores, Colour, Evaluation
from softiou.metrics.registry import CLASS_METRICS
from softiou.reports.formatting import View
from softiou.reports.metric_display import interval_text


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
