"""The figures of a report: what each is called, what it means, and how it is written."""

from collections.abc import Mapping
from dataclasses import dataclass

from softiou.reports.evaluated import Interval
from softiou.reports.formatting import View, percent

RANGE = "\N{THIN SPACE}\N{EN DASH}\N{THIN SPACE}"


@dataclass(frozen=True)
class Figure:
    """A metric of evaluation.json. `unit` is "%" or, for a figure that is no share, another."""

    key: str
    name: str
    letter: str
    note: str
    unit: str = "%"
    lower_is_better: bool = False


HEADLINE = (
    Figure(
        "miou_d",
        "mIoU",
        "D",
        "Over the data set: all pixels together, one IoU per class, then the mean of the classes. "
        "Large objects and large images count most.",
    ),
    Figure(
        "miou_i",
        "mIoU",
        "I",
        "Per image: the mean over the classes of each image, then the mean of the images. "
        "Every image counts the same.",
    ),
    Figure(
        "miou_c",
        "mIoU",
        "C",
        "Per class of image: for each class the mean over its images, then the mean of the "
        "classes. Small objects and rare classes count too.",
    ),
    Figure(
        "ece_d",
        "ECE",
        "D",
        "Expected calibration error: how far confidence and accuracy lie apart. Lower is better.",
        lower_is_better=True,
    ),
)
OVERLAP = (
    Figure("accuracy", "Accuracy", "", "Share of the labelled pixels whose class is right."),
    Figure("macc", "Mean accuracy", "", "Accuracy of the pixels of each class, then the mean."),
    Figure("biou_d", "Boundary IoU", "D", "IoU of the bands along the outlines, mean of classes."),
    Figure("miou_i_q10", "mIoU, worst 10 %", "I", "Mean of the tenth of the images with least."),
    Figure("miou_c_q10", "mIoU, worst 10 %", "C", "For each class its worst tenth of the images."),
    Figure("miou_i_q5", "mIoU, worst 5 %", "I", "Mean of the twentieth with least."),
    Figure("miou_c_q5", "mIoU, worst 5 %", "C", "For each class its worst twentieth."),
    Figure(
        "mdice_d",
        "mDice",
        "D",
        "Dice, also called F1: twice the overlap over the sum of both areas.",
    ),
    Figure("mdice_i", "mDice", "I", "The same per image."),
    Figure("mdice_c", "mDice", "C", "The same per class of image."),
)
# Shown where the truth is soft or of several annotators.
SOFT = (
    Figure(
        "soft_iou_d",
        "Soft IoU",
        "D",
        "Overlap of the probabilities with the soft labels, 1 only where they are equal.",
    ),
    Figure("soft_iou_i", "Soft IoU", "I", "The same per image."),
    Figure("soft_iou_c", "Soft IoU", "C", "The same per class of image."),
    Figure("soft_dice_d", "Soft Dice", "D", "Twice the overlap over the sum of both masses."),
    Figure("soft_dice_i", "Soft Dice", "I", "The same per image."),
    Figure("soft_dice_c", "Soft Dice", "C", "The same per class of image."),
    Figure(
        "ged",
        "Energy",
        "",
        "Squared generalised energy distance between the masks of the model and those of the "
        "annotators: 0 when both disagree alike, at most 200. Lower is better.",
        unit="",
        lower_is_better=True,
    ),
)
CALIBRATION = tuple(
    Figure(key, name, letter, note, unit, lower_is_better=True)
    for key, name, letter, note, unit in (
        ("ece_d", "ECE", "D", "Mean gap between confidence and accuracy, over all pixels.", "%"),
        ("ece_i", "ECE", "I", "The same per image, then the mean of the images.", "%"),
        (
            "cece_d",
            "Class-wise ECE",
            "D",
            "Probability of each class against how often it is there, mean of the classes.",
            "%",
        ),
        ("ace_d", "Adaptive ECE", "D", "As ECE, in bins that hold equally many pixels.", "%"),
        ("mce_d", "Maximum error", "D", "The widest gap of any bin.", "%"),
        ("bece_d", "Boundary ECE", "D", "ECE of the pixels in the band along the outlines.", "%"),
        (
            "brier",
            "Brier score",
            "",
            "Squared distance of probabilities from the truth, 0 to 200.",
            "",
        ),
        ("nll", "NLL", "", "Negative log-likelihood of the truth, in nats.", "nats"),
    )
)

# The comparison of models in a run's own report: a few columns.
COLUMNS = (*HEADLINE[:3], OVERLAP[0], OVERLAP[7], HEADLINE[3])
SOFT_COLUMNS = (SOFT[0], SOFT[3], SOFT[6])


def written(value: float | None, figure: Figure) -> str:
    """Digits as suits the unit; nats need more."""
    return percent(value, 3 if figure.unit == "nats" else 1)


def interval_text(interval: Interval | None, digits: int = 1) -> str:
    """Low to high, "" where there is none."""
    if interval is None:
        return ""
    return f"{interval[0]:.{digits}f}{RANGE}{interval[1]:.{digits}f}"


def figure_view(
    figure: Figure,
    metrics: Mapping[str, float | None],
    intervals: Mapping[str, Interval],
    after: Mapping[str, float | None] | None = None,
) -> View:
    """One figure in words; `after` are the metrics after a temperature."""
    interval = intervals.get(figure.key)
    value, later = metrics.get(figure.key), (after or {}).get(figure.key)
    return {
        "figure": figure,
        "value": value,
        "text": written(value, figure),
        "interval": interval_text(interval, 3 if figure.unit == "nats" else 1),
        "after": None if later is None else written(later, figure),
    }


def known(figures: tuple[Figure, ...], metrics: Mapping[str, float | None]) -> list[Figure]:
    """Those of the figures that an evaluation has measured."""
    return [figure for figure in figures if figure.key in metrics]
