"""Write the comparison of runs as one HTML page: differences, classes, images side by side."""

from collections.abc import Mapping, Sequence
from pathlib import Path, PurePath
from typing import TYPE_CHECKING, Literal

from softiou._files import write_atomically
from softiou.evaluation.schema import Colour, Evaluation, evaluation_file, read_evaluation
from softiou.metrics.registry import metric_info, metrics_of
from softiou.reports.formatting import View, counted, signed_interval
from softiou.reports.gallery import has_gallery
from softiou.reports.gallery_view import paired_gallery_view
from softiou.reports.templating import fill

if TYPE_CHECKING:
    from softiou.comparison import Comparison, Contrast, Difference

MAX_SIDES = 4  # runs in the gallery; with more, the pictures would be too small to compare


def write_comparison_report(comparison: "Comparison", runs: Sequence[Path], out: Path) -> Path:
    """Write a page that compares runs (directories or files evaluation.json); return its path."""
    write_atomically(
        render_comparison(comparison, runs, out.parent).encode(errors="backslashreplace"), out
    )
    return out


def render_comparison(
    comparison: "Comparison", runs: Sequence[Path], page_dir: Path | None = None
) -> str:
    """Return the page as HTML, see `write_comparison_report`; `page_dir` allows large pictures."""
    names = _short([group.name for group in comparison.groups])
    first = _opened(comparison, runs)
    sides = [(name, *one) for name, one in zip(_sides(comparison, names), first, strict=True)]
    contrasts = [
        _contrast(comparison, one, names, first[0][0].palette) for one in comparison.contrasts
    ]
    shown = all(has_gallery(directory) for _, _, directory in sides)
    values = {
        "title": f"{names[1]} against {names[0]}" if len(names) == 2 else " · ".join(names),
        "kicker": "softiou comparison",
        "summary": _summary(comparison),
        "contrasts": contrasts,
        "names": names,
        "notes": comparison.notes(names),
        "gallery": paired_gallery_view(sides, page_dir) if shown and len(sides) > 1 else None,
        "gallery_note": _gallery_note(comparison),
        "comparison": comparison,
        "iou": metric_info("iou"),
        "mark": mark,
        "level": f"{comparison.level:g}",
    }
    return fill("comparison.html.j2", values)


def _opened(comparison: "Comparison", runs: Sequence[Path]) -> list[tuple[Evaluation, Path]]:
    """Return evaluation and directory of each run in the gallery."""
    given = {str(path): path for path in runs}
    opened = []
    for run in _shown_runs(comparison):
        if run not in given:
            raise ValueError(
                f"Expected `runs` to hold all that were compared, but {run!r} is not among "
                f"{', '.join(map(repr, given))}. Pass the same paths as to `compare`."
            )
        file = evaluation_file(given[run])
        opened.append((read_evaluation(file), file.parent))
    return opened


def _shown_runs(comparison: "Comparison") -> list[str]:
    """Return the first run of each group; all runs if there is only one group."""
    groups = comparison.groups
    shown = groups[0].runs if len(groups) == 1 else [group.runs[0] for group in groups]
    return list(shown[:MAX_SIDES])


def _sides(comparison: "Comparison", names: Sequence[str]) -> list[str]:
    """Return the names of the runs in the gallery."""
    if len(comparison.groups) == 1:
        return _short(_shown_runs(comparison))
    return list(names[:MAX_SIDES])


def _gallery_note(comparison: "Comparison") -> str:
    """Return a sentence on what the gallery leaves out."""
    groups = comparison.groups
    there, what = (len(groups[0].runs), "runs") if len(groups) == 1 else (len(groups), "groups")
    if there <= MAX_SIDES:
        return ""
    return (
        f"The pictures are those of the first {MAX_SIDES} of {there} {what}: more would be too "
        "small to compare."
    )


def _short(names: Sequence[str]) -> list[str]:
    """Return the last parts of paths if they are unique, otherwise the paths."""
    last = [PurePath(name).name or name for name in names]
    return last if len(set(last)) == len(last) else list(names)


def _summary(comparison: "Comparison") -> str:
    return (
        f"{counted(comparison.num_images, 'image')} of the split “{comparison.split}” of "
        f"{comparison.data}, {counted(len(comparison.classes), 'class', 'classes')}."
    )


def _contrast(
    comparison: "Comparison", contrast: "Contrast", names: Sequence[str], colours: Sequence[Colour]
) -> View:
    """Return the comparison of one group with the baseline: headline, metrics and classes.

    A row has a metric, or the name and colour of a class, both estimates, and their difference.
    """
    before, after = (comparison.groups[index] for index in (contrast.baseline, contrast.group))
    rows = {
        metric.key: (metric, before.metrics[metric.key], after.metrics[metric.key], difference)
        for metric in metrics_of(among=contrast.metrics)
        if (difference := contrast.metrics[metric.key])
    }
    classes = zip(comparison.classes, colours, before.iou, after.iou, contrast.iou, strict=True)
    return {
        "before": names[contrast.baseline],
        "after": names[contrast.group],
        "headline": [rows[metric.key] for metric in metrics_of(shown="headline", among=rows)],
        "rows": list(rows.values()),
        "classes": list(classes),
        "verdict": _verdict(contrast.metrics, names[contrast.baseline], names[contrast.group]),
    }


def mark(difference: "Difference") -> Literal["better", "worse", ""]:
    """Return whether the interval excludes zero, and on which side."""
    if difference.interval is None:
        return ""
    low, high = difference.interval
    if low <= 0 <= high:
        return ""
    return "better" if (low > 0) == (difference.better == "higher") else "worse"


def _verdict(metrics: Mapping[str, "Difference"], before: str, after: str) -> str:
    """Return a sentence on the difference in mIoU over the data set."""
    difference = metrics.get("miou_d")
    if difference is None or difference.value is None:
        return ""
    if round(difference.value, 2) == 0:
        return f"{after} and {before} have the same mIoU over the data set."
    more = "more" if difference.value > 0 else "less"
    points = f"{abs(difference.value):.1f} points {more} mIoU over the data set"
    text = f"{after} has {points} than {before}"
    if difference.interval is None:
        return f"{text}; there is no interval."
    text += f" ({signed_interval(difference.interval)})."
    return text if mark(difference) else f"{text} The interval includes zero."
