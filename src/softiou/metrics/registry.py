"""The registry of all metrics of an evaluation: name, unit, direction and display.

evaluation.json, confidence intervals, the tables of the command line, the report, the comparison
and the documentation use these tables. This module imports neither torch nor other parts of
`softiou.metrics`.
"""

from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from typing import Any, Literal, TypeAlias

Group: TypeAlias = Literal["overlap", "soft", "calibration"]
Place: TypeAlias = Literal["headline", "console", "models"]
IntervalKind: TypeAlias = Literal["percentile", "mirrored", "mirrored squares"]

_DASH = "\N{EN DASH}"


@dataclass(frozen=True)
class MetricInfo:
    """A metric of the entry `metrics` of evaluation.json.

    Attributes:
        key: Name in evaluation.json.
        label: Name in tables, without the letter of the average.
        description: One sentence for the report and the documentation.
        group: Table of the report that contains it.
        average: "D" over the data set, "I" over images, "C" over classes; "" if there is only one
            way to average.
        unit: "%", "nats", or "" for a number without unit.
        scale: Factor from the computed to the reported value; 100 converts a fraction to per cent.
        higher_is_better: False for errors and distances.
        digits: Number of decimals; tables of differences have one more.
        interval: How the bootstrap interval is computed, see `softiou.resampling.intervals`.
        shown: Other places where it is displayed: the large numbers of a report ("headline"), the
            table after an evaluation ("console"), and the table of several models in a report
            ("models").
    """

    key: str
    label: str
    description: str
    group: Group
    average: str = ""
    unit: str = "%"
    scale: float = 100.0
    higher_is_better: bool = True
    digits: int = 1
    interval: IntervalKind = "percentile"
    shown: tuple[Place, ...] = ()

    @property
    def heading(self) -> str:
        """Return the label with its average and unit, as the header of a column."""
        label = f"{self.label} {self.average}".strip()
        return f"{label} ({self.unit})" if self.unit not in ("", "%") else label

    def text(self, value: float | None) -> str:
        """Format a reported value; an undefined value (None) becomes a dash."""
        return _DASH if value is None else f"{value:.{self.digits}f}"


@dataclass(frozen=True)
class ClassMetricInfo:
    """A score of each class in the entry `per_class` of evaluation.json, in per cent."""

    key: str  # name in evaluation.json
    label: str  # name in tables
    mean: str  # key of the metric that is the mean over the classes
    average: str = ""  # as in `MetricInfo`


@dataclass(frozen=True)
class ImageMetricInfo:
    """A score of each image in the entry `images` of evaluation.json, in per cent."""

    key: str  # name in evaluation.json
    label: str  # name in the gallery
    higher_is_better: bool | None = True  # None if neither is better


_SUMMARY: tuple[Place, ...] = ("console", "models")
_HEADLINE: tuple[Place, ...] = ("headline", *_SUMMARY)


def _metric(group: Group, key: str, label: str, average: str, text: str, **more: Any) -> MetricInfo:
    return MetricInfo(key, label, text, group, average, **more)


_overlap, _soft = partial(_metric, "overlap"), partial(_metric, "soft")
_error = partial(_metric, "calibration", higher_is_better=False, interval="mirrored squares")


def _worst(percent: int, average: str, text: str) -> MetricInfo:
    key, label = f"miou_{average.lower()}_q{percent}", f"Worst {percent} % mIoU"
    return _overlap(key, label, average, text, interval="mirrored")


# In the order of the tables.
_METRICS = (
    _overlap(
        "miou_d",
        "mIoU",
        "D",
        "Over the data set: all pixels together, one IoU per class, then the mean of the classes. "
        "Large objects and large images count most.",
        shown=_HEADLINE,
    ),
    _overlap(
        "miou_i",
        "mIoU",
        "I",
        "Per image: the mean over the classes of each image, then the mean of the images. Every "
        "image counts the same.",
        shown=_HEADLINE,
    ),
    _overlap(
        "miou_c",
        "mIoU",
        "C",
        "Per class: the mean IoU of the images that hold the class, then the mean of the classes. "
        "Small objects and rare classes count as much as others.",
        shown=_HEADLINE,
    ),
    _overlap("accuracy", "Accuracy", "", "Share of pixels whose class is right.", shown=_SUMMARY),
    _overlap("macc", "Mean accuracy", "", "Recall of each class, then the mean."),
    _overlap("biou_d", "Boundary IoU", "D", "IoU of the bands along contours, mean of classes."),
    _worst(10, "I", "Mean of the worst 10 % of the images."),
    _worst(10, "C", "For each class its worst 10 % of the images."),
    _worst(5, "I", "Mean of the worst 5 % of the images."),
    _worst(5, "C", "For each class its worst 5 % of the images."),
    _overlap("mdice_d", "mDice", "D", "Twice the overlap over both areas (F1).", shown=_SUMMARY),
    _overlap("mdice_i", "mDice", "I", "The same per image."),
    _overlap("mdice_c", "mDice", "C", "The same per class."),
    _soft(
        "soft_iou_d",
        "Soft IoU",
        "D",
        "Overlap of probabilities and soft labels, 1 only where they are equal.",
        shown=("models",),
    ),
    _soft("soft_iou_i", "Soft IoU", "I", "The same per image."),
    _soft("soft_iou_c", "Soft IoU", "C", "The same per class."),
    _soft("soft_dice_d", "Soft Dice", "D", "Twice the overlap over both masses.", shown=_SUMMARY),
    _soft("soft_dice_i", "Soft Dice", "I", "The same per image."),
    _soft("soft_dice_c", "Soft Dice", "C", "The same per class."),
    _soft(
        "ged",
        "Energy",
        "",
        "Squared generalized energy distance, 0 to 200, between the masks of the model and those "
        "of the annotators: 0 where they vary in the same way. Lower is better.",
        unit="",
        higher_is_better=False,
        shown=_SUMMARY,
    ),
    _error(
        "ece_d",
        "ECE",
        "D",
        "Expected calibration error: mean gap between confidence and accuracy over all pixels. "
        "Lower is better.",
        shown=_HEADLINE,
    ),
    _error("ece_i", "ECE", "I", "ECE of each image, then the mean.", interval="percentile"),
    _error("cece_d", "Class-wise ECE", "D", "Probability of each class against its frequency."),
    _error("ace_d", "Adaptive ECE", "D", "ECE with bins of equally many pixels."),
    _error("mce_d", "Maximum error", "D", "The widest gap of any bin."),
    _error("bece_d", "Boundary ECE", "D", "ECE of the pixels near a boundary of the labels."),
    _error(
        "brier",
        "Brier score",
        "",
        "Squared distance between probabilities and truth, 0 to 200.",
        unit="",
        interval="percentile",
    ),
    _error(
        "nll",
        "NLL",
        "",
        "Mean negative log-likelihood of the truth, in nats.",
        unit="nats",
        scale=1.0,
        digits=3,
        interval="percentile",
    ),
)
METRICS: dict[str, MetricInfo] = {info.key: info for info in _METRICS}

CLASS_METRICS: tuple[ClassMetricInfo, ...] = (
    ClassMetricInfo("iou", "IoU", "miou_d"),
    ClassMetricInfo("iou_c", "IoU", "miou_c", "C"),
    ClassMetricInfo("dice", "Dice", "mdice_d"),
    ClassMetricInfo("soft_iou", "Soft IoU", "soft_iou_d"),
    ClassMetricInfo("soft_dice", "Soft Dice", "soft_dice_d"),
    ClassMetricInfo("accuracy", "Accuracy", "macc"),
    ClassMetricInfo("boundary_iou", "Boundary IoU", "biou_d"),
    ClassMetricInfo("cece", "ECE", "cece_d"),
)

IMAGE_METRICS: tuple[ImageMetricInfo, ...] = (
    ImageMetricInfo("miou", "mIoU"),
    ImageMetricInfo("accuracy", "Accuracy"),
    ImageMetricInfo("boundary_iou", "Boundary IoU"),
    ImageMetricInfo("ece", "ECE", higher_is_better=False),
    ImageMetricInfo("confidence", "Confidence", higher_is_better=None),
)


def metric_info(key: str) -> MetricInfo:
    """Return the entry of a metric, or of the mean of a class metric, by its key.

    An unknown key, for instance from a newer version of softiou, is treated as a percentage for
    which higher is better, with the key as label.
    """
    of_classes = {info.key: info.mean for info in CLASS_METRICS}
    found = METRICS.get(key) or METRICS.get(of_classes.get(key, ""))
    return found or MetricInfo(key, key, "", "overlap")


def higher_is_better(name: str) -> bool:
    """Return the direction of a metric by its name in metrics.jsonl, such as "val/miou_d".

    Raises:
        ValueError: The metric does not exist.
    """
    key = name.rpartition("/")[2]
    if key not in METRICS:
        raise ValueError(
            f"Expected the name of a metric, such as 'val/miou_d', but got {name!r}. The metrics "
            f"are {', '.join(METRICS)}."
        )
    return METRICS[key].higher_is_better


def metrics_of(
    group: Group | None = None, *, shown: Place | None = None, among: Iterable[str] | None = None
) -> list[MetricInfo]:
    """Return the metrics of a group, shown in a place, or with some keys, in registry order."""
    keys = METRICS if among is None else set(among)
    return [
        info
        for info in METRICS.values()
        if info.key in keys
        and (group is None or info.group == group)
        and (shown is None or shown in info.shown)
    ]
