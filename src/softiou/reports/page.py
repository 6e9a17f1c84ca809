"""Write the report of a run as one HTML file that needs no network.

Each function prepares one section as plain values for the template `templates/report.html.j2`.
"""

from pathlib import Path
from statistics import quantiles

from softiou._files import write_atomically
from softiou.evaluation.schema import Evaluation, ImageScores
from softiou.metrics.registry import metrics_of
from softiou.reports import tables
from softiou.reports.calibration_view import calibration_view
from softiou.reports.collect import ReportData, collect
from softiou.reports.curves import best_validation, learning_curves
from softiou.reports.examples import example_view, pseudo_label_view, read_example
from softiou.reports.formatting import View, counted, duration
from softiou.reports.gallery import has_gallery
from softiou.reports.gallery_view import gallery_view
from softiou.reports.history import History
from softiou.reports.templating import fill, fill_text

MODEL_CARD = "MODEL_CARD.md"
WEAKEST = 3  # number of classes with the lowest IoU that the model card names


def write_report(run_dir: Path) -> Path:
    """Write `report.html` and, if evaluated, `MODEL_CARD.md` into a run directory; return the page.

    Both files are written atomically.

    Raises:
        DataError: The directory is not a run, or one of its files cannot be read.
    """
    data = collect(run_dir)
    path = run_dir / "report.html"
    write_atomically(render(data).encode(errors="backslashreplace"), path)
    if data.evaluation:
        about = {"title": data.run, "summary": _summary(data), "facts": data.facts}
        card = _model_card(data.evaluation, about)
        write_atomically(card.encode(errors="backslashreplace"), run_dir / MODEL_CARD)
    return path


def _model_card(evaluation: Evaluation, about: View) -> str:
    """Return the model card as Markdown: the model, its metrics and its limits."""
    absent = [score.name for score in evaluation.per_class if score.iou is None]
    scored = [score for score in evaluation.per_class if score.iou is not None]
    scored.sort(key=lambda score: score.iou or 0)
    weakest = [score.name for score in scored[:WEAKEST]] if len(scored) > WEAKEST else []
    metrics = metrics_of(among=evaluation.metrics)
    values = {"evaluation": evaluation, "level": f"{evaluation.level:g}", "metrics": metrics}
    return fill_text("model_card.md.j2", about | values | {"weakest": weakest, "absent": absent})


def render(data: ReportData) -> str:
    """Return the report as a self-contained HTML page, which depends only on the data.

    Pictures are read from the run directory; a damaged one raises a DataError.
    """
    evaluation = data.evaluation
    sections = _evaluated(evaluation, data.directory) if evaluation else _validated(data.history)
    values = {
        "title": data.run,
        "kicker": "softiou report",
        "summary": _summary(data),
        "config": data.config,
        "facts": data.facts,
        "curves": learning_curves(data.history),
        "pseudo_labels": pseudo_label_view(data.pseudo_labels) if data.pseudo_labels else None,
        "evaluation": evaluation,
        "comparison": data.model_table,
        "gallery": None,
        "confusion": None,
        "suspects": None,
        **sections,
    }
    return fill("report.html.j2", values | {"links": _links(values)})


def _links(values: View) -> list[tuple[str, str]]:
    """Return the id and the name of each section of the page."""
    evaluated = values["evaluation"]
    sections = (
        ("figures", "Results", values["results"]),
        ("comparison", "Comparison", values["comparison"]),
        ("images", "Images", evaluated),
        ("suspects", "Suspect labels", values["suspects"]),
        ("classes", "Classes", evaluated),
        ("confusions", "Confusions", values["confusion"]),
        ("calibration", "Calibration", evaluated),
        ("curves", "Learning curves", values["curves"]),
        ("pseudo-labels", "Pseudo-labels", values["pseudo_labels"]),
        ("configuration", "Configuration", values["config"]),
    )
    return [(id_, name) for id_, name, there in sections if there]


def _evaluated(evaluation: Evaluation, run_dir: Path) -> View:
    shown = has_gallery(run_dir)
    return {
        "results": _results(evaluation),
        "table": tables.class_table(evaluation),
        "csv": {"images": tables.images_csv(evaluation), "classes": tables.classes_csv(evaluation)},
        "spread": _spread(evaluation),
        "gallery": gallery_view(evaluation, run_dir) if shown else None,
        "examples": [] if shown else _examples(evaluation, run_dir),
        "confusion": tables.confusion_view(evaluation),
        "suspects": tables.suspect_view(evaluation),
        "calibration": calibration_view(evaluation),
    }


def _examples(evaluation: Evaluation, run_dir: Path) -> list[View]:
    """Return the best and worst images, which are shown if there is no gallery."""
    scores = {score.stem: score for score in evaluation.images}

    def shown(stem: str) -> View:
        score = scores.get(stem) or ImageScores(stem=stem, miou=None, accuracy=None)
        return example_view(read_example(run_dir / "examples", score), evaluation)

    chosen = evaluation.examples
    return [
        {"title": title, "items": list(map(shown, stems))}
        for title, stems in (("Best images", chosen.best), ("Worst images", chosen.worst))
    ]


def _results(evaluation: Evaluation) -> View:
    """Return the headline metrics, and the other metrics in two or three tables."""
    metrics, intervals = evaluation.metrics, evaluation.known_intervals
    headline = metrics_of(shown="headline")
    overlap = [info for info in metrics_of("overlap", among=metrics) if info not in headline]
    groups = (
        ("Overlap", overlap),
        ("Against soft labels", metrics_of("soft", among=metrics)),
        ("Calibration, lower is better", metrics_of("calibration", among=metrics)),
    )
    inference = evaluation.inference.summary()
    inference = f" with {inference}" if inference else ""
    inference += " in fp32" if evaluation.inference.precision == "fp32" else ""
    level = f" with {evaluation.level:g} % intervals" if intervals else ""
    return {
        "of": f"{evaluation.checkpoint} on the split “{evaluation.split}”{inference}, "
        f"in per cent{level}. {evaluation.caveat}".strip(),
        "metrics": metrics,
        "intervals": intervals,
        "after": evaluation.calibrated.metrics if evaluation.calibrated else {},
        "headline": headline,
        "groups": [(title, members) for title, members in groups if members],
    }


def _validated(history: History) -> View:
    """Return the headline metrics of the best validation, for a run without evaluation."""
    best = best_validation(history)
    if best is None:
        return {"results": None}
    step, _ = best
    metrics = {
        line.name.removeprefix("val/"): dict(zip(line.steps, line.values, strict=True)).get(step)
        for line in history.series
        if line.name.startswith("val/")
    }
    known = [key for key, value in metrics.items() if value is not None]
    results: View = {"metrics": metrics, "intervals": {}, "after": {}, "groups": []}
    results["of"] = f"Best validation so far, at step {step:,}, in per cent."
    return {"results": results | {"headline": metrics_of(shown="headline", among=known)}}


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


def _spread(evaluation: Evaluation) -> str:
    """Return a sentence on the distribution of the mIoU over the images."""
    scores = [image.miou for image in evaluation.images if image.miou is not None]
    if len(scores) < 2:
        return ""
    low, median, high = quantiles(scores, method="inclusive")
    return (
        f"Median mIoU of an image {median:.1f} %; the middle half of the images lies between "
        f"{low:.1f} and {high:.1f} %."
    )
