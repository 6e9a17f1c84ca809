"""Write the report of a run as one HTML file that needs no network and, but for sorting, no script.

Each function here prepares one section as plain values; `template.html.j2` lays them out.
"""

from collections.abc import Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from statistics import quantiles

from jinja2 import Environment, StrictUndefined
from markupsafe import Markup

from softiou._files import write_atomically
from softiou.reports.charts import reliability_chart
from softiou.reports.collect import Evaluation, Reliability, ReportData, collect
from softiou.reports.comparison import Comparison
from softiou.reports.curves import best_validation, learning_curves
from softiou.reports.examples import example_view
from softiou.reports.formatting import View, counted, duration, percent, rgb
from softiou.reports.history import History
from softiou.reports.pseudo_label_view import pseudo_label_view

# Key, name, letter, what it means.
FIGURES = (
    (
        "miou_d",
        "mIoU",
        "D",
        "Over the data set: all pixels together, one IoU per class, then the mean of the classes. "
        "Large objects and large images count most.",
    ),
    (
        "miou_i",
        "mIoU",
        "I",
        "Per image: the mean over the classes of each image, then the mean of the images. "
        "Every image counts the same.",
    ),
    (
        "miou_c",
        "mIoU",
        "C",
        "Per class of image: for each class the mean over its images, then the mean of the "
        "classes. Small objects and rare classes count too.",
    ),
    ("accuracy", "Accuracy", "", "Share of the labelled pixels whose class is right."),
    (
        "mdice_d",
        "mDice",
        "D",
        "Dice, also called F1: twice the overlap over the sum of both areas. Over the data set.",
    ),
    (
        "ece_d",
        "ECE",
        "D",
        "Expected calibration error: how far confidence and accuracy lie apart. Lower is better.",
    ),
)
# Shown where the truth is soft or of several annotators.
SOFT_FIGURES = (
    (
        "soft_iou_d",
        "Soft IoU",
        "D",
        "Overlap of the probabilities with the soft labels, 1 only where they are equal. Over the "
        "data set.",
    ),
    (
        "soft_dice_d",
        "Soft Dice",
        "D",
        "The same as Dice: twice the overlap over the sum of both masses. Over the data set.",
    ),
    (
        "ged",
        "Energy",
        "",
        "Squared generalised energy distance between the masks of the model and those of the "
        "annotators: 0 when both disagree alike, at most 200. Lower is better.",
    ),
)


def write_report(run_dir: Path) -> Path:
    """Write `report.html` into a run directory, whole or not at all.

    Args:
        run_dir: Directory of a run, see `collect`.

    Returns:
        Path of the page.

    Raises:
        DataError: No run lies there, or one of its files cannot be read.
    """
    page = render(collect(run_dir))
    path = run_dir / "report.html"
    write_atomically(page.encode(), path)
    return path


def render(data: ReportData) -> str:
    """The report as one self-contained page.

    Args:
        data: What `collect` has read.

    Returns:
        HTML; the same data give the same page.
    """
    environment = Environment(
        autoescape=True, undefined=StrictUndefined, trim_blocks=True, lstrip_blocks=True
    )
    environment.filters.update(percent=percent, rgb=rgb)
    source = files("softiou.reports").joinpath("template.html.j2").read_text(encoding="utf-8")
    evaluation = data.evaluation
    return environment.from_string(source).render(
        run=data.run,
        config=data.config,
        summary=_summary(data),
        curves=learning_curves(data.history),
        pseudo_labels=pseudo_label_view(data.pseudo_labels) if data.pseudo_labels else None,
        evaluation=evaluation,
        comparison=_comparison(data.comparison) if data.comparison else None,
        **(_evaluated(evaluation) if evaluation else _validated(data.history)),
    )


def _evaluated(evaluation: Evaluation) -> View:
    return {
        "figures": _figures(evaluation.metrics),
        "figures_of": f"Split “{evaluation.split}”, in per cent.",
        "table": _class_table(evaluation),
        "spread": _spread(evaluation),
        "examples": [
            {"title": title, "items": [example_view(one, evaluation) for one in examples]}
            for title, examples in (
                ("Best images", evaluation.best),
                ("Worst images", evaluation.worst),
            )
        ],
        "calibration": _calibration(evaluation),
    }


def _validated(history: History) -> View:
    """Headline figures of a run without evaluation: those of its best validation so far."""
    best = best_validation(history)
    if best is None:
        return {"figures": [], "figures_of": ""}
    step, _ = best
    at_best = {
        line.name.removeprefix("val/"): dict(zip(line.steps, line.values, strict=True)).get(step)
        for line in history.series
        if line.name.startswith("val/")
    }
    return {
        "figures": [figure for figure in _figures(at_best) if figure["value"] is not None],
        "figures_of": f"Best validation so far, at step {step:,}, in per cent.",
    }


def _figures(metrics: Mapping[str, float | None]) -> list[View]:
    known = [figure for figure in SOFT_FIGURES if figure[0] in metrics]
    return [
        {"name": name, "letter": letter, "note": note, "value": metrics.get(key)}
        for key, name, letter, note in (*FIGURES, *known)
    ]


def _comparison(comparison: Comparison) -> View:
    """Rows of the table: every headline figure, and what the model cost."""
    shown = set().union(*(row.metrics for row in comparison.rows))
    figures = [*FIGURES, *(figure for figure in SOFT_FIGURES if figure[0] in shown)]
    return {
        "columns": [(name, letter) for _, name, letter, _ in figures],
        "of": f"Split “{comparison.split}” of {comparison.data}, in per cent.",
        "rows": [
            {
                "name": row.name,
                "checkpoint": row.checkpoint,
                "values": [row.metrics.get(key) for key, *_ in figures],
                "steps": "–" if row.steps is None else f"{row.steps:,}",  # noqa: RUF001
                "time": "–" if row.seconds is None else duration(row.seconds),  # noqa: RUF001
            }
            for row in comparison.rows
        ],
        "notes": comparison.notes,
    }


def _summary(data: ReportData) -> str:
    training = _training(data.history)
    evaluation = data.evaluation
    if evaluation is None:
        return f"{training}. Not evaluated yet."
    return (
        f"{training}. Evaluated on {counted(evaluation.num_images, 'image')} of the split "
        f"“{evaluation.split}”, {counted(len(evaluation.classes), 'class', 'classes')}."
    )


def _training(history: History) -> str:
    if history.last_step == 0:
        return "No training recorded"
    text = f"Trained for {counted(history.last_step, 'step')}"
    return text if history.seconds is None else f"{text} in {duration(history.seconds)}"


def _class_table(evaluation: Evaluation) -> View:
    mean = evaluation.metrics
    pixels = sum(score.target_pixels for score in evaluation.classes)
    return {
        "rows": [
            {"score": score, "share": 100 * score.target_pixels / max(1, pixels)}
            for score in evaluation.classes
        ],
        "absent": sum(score.iou is None for score in evaluation.classes),
        "mean": {
            "iou": mean.get("miou_d"),
            "iou_c": mean.get("miou_c"),
            "dice": mean.get("mdice_d"),
        },
    }


def _spread(evaluation: Evaluation) -> str:
    """How the images differ, in one sentence."""
    scores = [image.miou for image in evaluation.images if image.miou is not None]
    if len(scores) < 2:
        return ""
    low, median, high = quantiles(scores, method="inclusive")
    return (
        f"Median mIoU of an image {median:.1f} %; the middle half of the images lies between "
        f"{low:.1f} and {high:.1f} %."
    )


def _calibration(evaluation: Evaluation) -> View | None:
    reliability = evaluation.reliability
    if sum(reliability.count) == 0:
        return None
    ece = evaluation.metrics.get("ece_d")
    verdict = _verdict(reliability)
    return {
        "svg": Markup(reliability_chart(reliability, ece=ece, name="reliability")),
        "alt": f"Reliability diagram, ECE {percent(ece)} %. {verdict}",
        "verdict": verdict,
    }


def _verdict(reliability: Reliability) -> str:
    """Mean confidence against accuracy, in words."""
    confidence, accuracy = (
        100 * _weighted_mean(column, reliability.count)
        for column in (reliability.confidence, reliability.accuracy)
    )
    gap = confidence - accuracy
    text = f"Mean confidence {confidence:.1f} %, accuracy {accuracy:.1f} %: on the whole "
    if abs(gap) < 0.5:
        return f"{text}confidence and accuracy agree."
    return f"{text}{'over' if gap > 0 else 'under'}-confident by {abs(gap):.1f} points."


def _weighted_mean(values: Sequence[float | None], count: Sequence[int]) -> float:
    pairs = list(zip(values, count, strict=True))
    return sum(value * n for value, n in pairs if value is not None) / max(1, sum(count))
