"""MODEL_CARD.md: what a model is, what it was measured to do, and its limits, for who gets it."""

from collections.abc import Mapping, Sequence

from softiou.evaluation.schema import ClassScores, Evaluation
from softiou.metrics.registry import metrics_of
from softiou.reports.formatting import metric_views
from softiou.reports.templating import fill_text

FILE = "MODEL_CARD.md"
WEAKEST = 3


def model_card(evaluation: Evaluation, values: Mapping[str, object]) -> str:
    """Return the card as Markdown; `values` are title, summary and facts of the page."""
    scored = [score for score in evaluation.per_class if score.iou is not None]
    scored.sort(key=lambda score: score.iou or 0)
    metrics = metrics_of(among=evaluation.metrics)
    return fill_text(
        "model_card.md.j2",
        {
            **values,
            "evaluation": evaluation,
            "level": f"{evaluation.level:g}",
            "metrics": metric_views(metrics, evaluation.metrics, evaluation.known_intervals),
            "weakest": _names(scored[:WEAKEST]) if len(scored) > WEAKEST else [],
            "absent": _names([score for score in evaluation.per_class if score.iou is None]),
        },
    )


def _names(scores: Sequence[ClassScores]) -> list[str]:
    return [score.name for score in scores]
