"""The learning curves of the page."""

from dataclasses import replace

from markupsafe import Markup

from softiou.metrics.registry import Group, metrics_of
from softiou.reports.charts import line_chart, line_look, thin
from softiou.reports.formatting import View
from softiou.reports.history import History, Series
from softiou.reports.pseudo_labels import KEPT

# Prefixes of metrics in metrics.jsonl, and what is appended to their labels.
MODELS = {
    "val/": "",
    "val/teacher_": " of the teacher",
    "val/pseudo_": " of the pseudo-labels kept",
}
BEST_BY = "val/miou_d"
NO_LOSS = ("train/kept",)  # not losses, although their names begin with train/

Lines = dict[str, Series]


def learning_curves(history: History) -> list[View]:
    """Return the charts of the recorded quantities, without empty ones."""
    lines = {line.name: line for line in history.series}
    best = best_validation(history)
    step = best[0] if best else None
    note = f"Dotted line: best mIoU D, {best[1]:.1f} % at step {best[0]:,}." if best else ""
    kept_note = (
        "Share of the pixels of unlabelled images that count; with a confidence threshold of 0 all "
        "of them do, and this is the mean confidence."
    )
    charts = (
        ("Training loss", _losses(lines), None, "The loss and its parts."),
        ("Validation mIoU, %", _validated(lines, "overlap"), step, note),
        ("Validation against soft labels", _validated(lines, "soft"), step, ""),
        ("Validation ECE, %", _validated(lines, "calibration"), step, "Lower is better."),
        ("Learning rate", _named(lines, {"learning_rate": "learning rate"}), None, ""),
        ("Pseudo-labels kept, %", _named(lines, {KEPT: "kept"}), None, kept_note),
    )
    return [
        {
            "title": title,
            "svg": Markup(line_chart(shown, name=title, marked_step=marked_step)),
            "alt": f"{title}, over the steps. " + " ".join(map(_first_to_last, shown)),
            "lines": [(line.name, *thin(line)) for line in shown],
            "legend": [(line.name, *line_look(index)) for index, line in enumerate(shown)],
            "note": note,
        }
        for title, shown, marked_step, note in charts
        if shown
    ]


def best_validation(history: History) -> tuple[int, float] | None:
    """Return step and value of the highest validation mIoU D; None without validations."""
    for line in history.series:
        if line.name == BEST_BY:
            value = max(line.values)
            return line.steps[line.values.index(value)], value
    return None


def _losses(lines: Lines) -> list[Series]:
    """Return the curves of the loss and of its parts, the loss first."""
    names = [name for name in lines if name.startswith("train/") and name not in NO_LOSS]
    names.sort(key=lambda name: (name != "train/loss", name))
    return _named(lines, {name: name.removeprefix("train/").replace("_", " ") for name in names})


def _validated(lines: Lines, group: Group) -> list[Series]:
    """Return the headline metrics of a group, for the model and then for the teacher.

    Metrics of the kept pseudo-labels are left out if all are kept, as they equal the teacher's.
    """
    kept = lines.get("val/pseudo_kept")
    some_left_out = kept is not None and min(kept.values) < 100
    names = {
        prefix + info.key: info.heading + words
        for prefix, words in MODELS.items()
        for info in metrics_of(group, shown="headline")
        if some_left_out or prefix != "val/pseudo_"
    }
    return _named(lines, names)


def _named(lines: Lines, names: dict[str, str]) -> list[Series]:
    return [replace(lines[key], name=name) for key, name in names.items() if key in lines]


def _first_to_last(line: Series) -> str:
    return f"{line.name}: from {line.values[0]:.3g} to {line.values[-1]:.3g}."
