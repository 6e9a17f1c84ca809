"""The table of classes: every score of each, and the mean below."""

from softiou.reports.evaluated import ClassScore, Evaluation
from softiou.reports.figures import interval_text
from softiou.reports.formatting import View

# Columns of the table of classes that an evaluation may lack: field, name, metric of its mean.
CLASS_COLUMNS = (
    ("soft_iou", "Soft IoU", "soft_iou_d"),
    ("soft_dice", "Soft Dice", "soft_dice_d"),
    ("accuracy", "Accuracy", "macc"),
    ("boundary_iou", "Boundary IoU", "biou_d"),
    ("cece", "ECE", "cece_d"),
)


def class_table(evaluation: Evaluation) -> View:
    """Rows, the columns that were measured, and what the means are."""
    mean = evaluation.metrics
    pixels = sum(score.target_pixels for score in evaluation.classes)
    columns = [
        column
        for column in CLASS_COLUMNS
        if any(getattr(score, column[0]) is not None for score in evaluation.classes)
    ]

    def row(score: ClassScore) -> View:
        return {
            "score": score,
            "interval": interval_text(score.interval),
            "extra": [getattr(score, field) for field, _, _ in columns],
            "share": 100 * score.target_pixels / max(1, pixels),
        }

    return {
        "rows": list(map(row, evaluation.classes)),
        "columns": [(field, name) for field, name, _ in columns],
        "level": f"{evaluation.level:g}" if any(s.interval for s in evaluation.classes) else "",
        "absent": sum(score.iou is None for score in evaluation.classes),
        "mean": {
            "iou": mean.get("miou_d"),
            "iou_c": mean.get("miou_c"),
            "dice": mean.get("mdice_d"),
            "extra": [mean.get(metric) for _, _, metric in columns],
        },
    }
