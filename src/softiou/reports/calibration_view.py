"""The section on calibration: reliability diagrams, each with a sentence."""

from collections.abc import Sequence
from itertools import pairwise

from markupsafe import Markup

from softiou.evaluation.schema import Calibrated, Evaluation, Reliability
from softiou.reports.charts import reliability_chart
from softiou.reports.formatting import View, percent


def calibration_view(evaluation: Evaluation) -> View | None:
    """Return one reliability diagram, or two: before and after temperature scaling."""
    if sum(evaluation.reliability.count) == 0:
        return None
    after = evaluation.calibrated
    title = "Before" if after else ""
    sides = [_diagram(title, evaluation.metrics.get("ece_d"), evaluation.reliability)]
    if after:
        after_title = f"After temperature ({after.kind.replace('_', ' ')})"
        sides.append(_diagram(after_title, after.metrics.get("ece_d"), after.reliability))
    return {
        "sides": sides,
        "verdict": _improvement(evaluation, after) if after else sides[0]["verdict"],
    }


def _diagram(title: str, ece: float | None, reliability: Reliability) -> View:
    verdict = _verdict(reliability)
    return {
        "title": title,
        "svg": Markup(reliability_chart(reliability, ece=ece, name=f"reliability {title}")),
        "alt": f"Reliability diagram, ECE {percent(ece)} %. {verdict}",
        "verdict": verdict,
        "bins": _bins(reliability),
    }


def _bins(reliability: Reliability) -> list[tuple[int, float, float, str]]:
    """Return, for each bin with pixels: index, limits in per cent, and its values as text."""
    total = max(1, sum(reliability.count))
    edges = [100 * edge for edge in reliability.edges]
    columns = (reliability.count, reliability.confidence, reliability.accuracy)
    bins = zip(pairwise(edges), *columns, strict=True)
    return [
        (
            index,
            low,
            high,
            f"Confidence {low:.0f} to {high:.0f} %: accuracy {percent(100 * accuracy)} %, mean "
            f"confidence {percent(100 * confidence)} %, {percent(100 * count / total)} % of the "
            "pixels",
        )
        for index, ((low, high), count, confidence, accuracy) in enumerate(bins)
        if count and confidence is not None and accuracy is not None
    ]


def _improvement(evaluation: Evaluation, after: Calibrated) -> str:
    before, now = evaluation.metrics.get("ece_d"), after.metrics.get("ece_d")
    fitted = f", fitted on the split “{after.split}”" if after.split else ""
    itself = after.split == evaluation.split and after.data == evaluation.data
    warning = " That is this very split: expect less of others." if itself else ""
    return (
        f"ECE {percent(before)} % as trained, {percent(now)} % after temperature{fitted}.{warning}"
    )


def _verdict(reliability: Reliability) -> str:
    """Return a sentence that compares mean confidence and accuracy."""
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
