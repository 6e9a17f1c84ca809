"""How the metrics of an evaluation are displayed on a page."""

from collections.abc import Iterable, Mapping

from softiou.evaluation.schema import Interval
from softiou.metrics.registry import MetricInfo
from softiou.reports.formatting import View

RANGE = "\N{THIN SPACE}\N{EN DASH}\N{THIN SPACE}"


def interval_text(interval: Interval | None, digits: int = 1) -> str:
    """Return "low - high", or "" where there is no interval."""
    if interval is None:
        return ""
    return f"{interval[0]:.{digits}f}{RANGE}{interval[1]:.{digits}f}"


def metric_views(
    metrics: Iterable[MetricInfo],
    values: Mapping[str, float | None],
    intervals: Mapping[str, Interval],
    after: Mapping[str, float | None] | None = None,
) -> list[View]:
    """Return each metric as text; `after` holds the values after temperature scaling."""
    views = []
    for metric in metrics:
        value, later = values.get(metric.key), (after or {}).get(metric.key)
        views.append(
            {
                "metric": metric,
                "value": value,
                "text": metric.text(value),
                "interval": interval_text(intervals.get(metric.key), metric.digits),
                "after": None if later is None else metric.text(later),
            }
        )
    return views
