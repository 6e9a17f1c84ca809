"""Charts as inline SVG: text in the page's colour and font, no background, no shared state.

Only `matplotlib.figure.Figure` is used, never pyplot, so no backend is chosen and no figure is
left open; the settings of matplotlib are changed only inside `_style`.
"""

import math
import re
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from io import StringIO
from typing import Any

import numpy as np
from matplotlib import rc_context, style
from matplotlib.figure import Figure
from matplotlib.ticker import FuncFormatter, MaxNLocator

from softiou.evaluation.schema import Reliability
from softiou.reports.history import Series

# Mid-tones with enough contrast on white and near-black, distinguishable for any colour vision.
COLORS = ("#3f83f0", "#e0782a", "#a04682", "#82a073", "#c8283c", "#be82af")
DASHES = ("solid", "dashed", "dotted")
INK = "#010203"  # placeholder for the text colour of the page, replaced in the SVG
MAX_POINTS = 240
FEW_POINTS = 24
LINE_INCHES = (3.7, 2.4)
RELIABILITY_INCHES = (4.3, 4.6)


def line_chart(lines: Sequence[Series], *, name: str, marked_step: int | None = None) -> str:
    """Return curves over the training steps as `<svg>`, the first one on top, with a marked step.

    The page writes the legend with `line_look`, because HTML can break a long line of names. `name`
    must be unique among the charts of a page, because their ids contain it.
    """
    with _style(name):
        figure = Figure(figsize=LINE_INCHES, layout="constrained")
        axes = figure.add_subplot()
        for index, line in enumerate(lines):
            steps, values = thin(line)
            color, dashes = line_look(index)
            axes.plot(
                steps,
                values,
                color=color,
                linestyle=dashes,
                marker="o" if len(steps) <= FEW_POINTS else "",
                zorder=3 - index / len(lines),
            )
        if marked_step is not None:
            axes.axvline(marked_step, color=INK, alpha=0.55, linewidth=1, linestyle=(0, (1, 2)))
        axes.set_xlabel("step")
        axes.xaxis.set_major_locator(MaxNLocator(5, integer=True))
        axes.xaxis.set_major_formatter(FuncFormatter(lambda step, _: f"{step:,.0f}"))
        return _to_svg(figure, name, axes)


def line_look(index: int) -> tuple[str, str]:
    """Return colour and dashes of the line at `index`, in terms of CSS and matplotlib."""
    return COLORS[index % len(COLORS)], DASHES[index // len(COLORS) % len(DASHES)]


def reliability_chart(reliability: Reliability, *, ece: float | None, name: str) -> str:
    """Return a reliability diagram as `<svg>`, with the gaps and the share of pixels per bin.

    The ECE in the title is in per cent, None if undefined; `name` as in `line_chart`.
    """
    with _style(name):
        figure = Figure(figsize=RELIABILITY_INCHES, layout="constrained")
        diagram, shares = figure.subplots(2, 1, sharex=True, height_ratios=(4, 1))
        _draw_bins(diagram, reliability)
        diagram.set_title(
            "ECE undefined" if ece is None else f"ECE {ece:.1f} %", loc="left", pad=24
        )
        diagram.set_ylabel("accuracy, %")
        diagram.set_ylim(0, 100)
        # Above the axes, because no corner is empty in every diagram.
        diagram.legend(
            loc="lower left", bbox_to_anchor=(-0.02, 0.985), ncols=3, columnspacing=1, fontsize=8.5
        )
        center, width, _, _ = _bins(reliability)
        pixels = 100 * np.asarray(reliability.count) / max(1, sum(reliability.count))
        shares.bar(center, pixels, width, color=INK, alpha=0.45)
        shares.set_ylabel("pixels, %")
        shares.set_xlabel("confidence, %")
        shares.set_xlim(0, 100)
        shares.yaxis.set_major_locator(MaxNLocator(2))
        return _to_svg(figure, name, diagram)


def _draw_bins(axes: Any, reliability: Reliability) -> None:
    center, width, confidence, accuracy = _bins(reliability)
    filled = np.isfinite(confidence) & np.isfinite(accuracy)
    center, width, confidence, accuracy = (
        column[filled] for column in (center, width, confidence, accuracy)
    )
    axes.bar(center, accuracy, width, color=COLORS[0], alpha=0.8, label="accuracy")
    axes.bar(
        center,
        np.abs(confidence - accuracy),
        width,
        bottom=np.minimum(confidence, accuracy),
        facecolor="none",
        edgecolor=COLORS[1],
        hatch="////",
        linewidth=1,
        label="gap to the confidence",
    )
    axes.plot((0, 100), (0, 100), color=INK, linewidth=1, linestyle="--", label="calibrated")


def _bins(reliability: Reliability) -> tuple[Any, Any, Any, Any]:
    """Return centre, width, confidence and accuracy of each bin in per cent; NaN if empty."""
    edges = 100 * np.asarray(reliability.edges)
    confidence, accuracy = (
        100 * np.array([math.nan if value is None else value for value in column], dtype=float)
        for column in (reliability.confidence, reliability.accuracy)
    )
    return (edges[:-1] + edges[1:]) / 2, 0.9 * np.diff(edges), confidence, accuracy


def thin(line: Series) -> tuple[list[float], list[float]]:
    """Average a curve to at most `MAX_POINTS` points, so that the page stays small."""
    parts = min(MAX_POINTS, len(line.steps))
    steps, values = (
        [float(part.mean()) for part in np.array_split(np.asarray(column), parts)]
        for column in (line.steps, line.values)
    )
    return steps, values


@contextmanager
def _style(name: str) -> Iterator[None]:
    """Set the style, independently of the matplotlibrc of the user."""
    settings = {
        "axes.edgecolor": INK,
        "axes.grid": True,
        "axes.grid.axis": "y",
        "axes.labelcolor": INK,
        "axes.spines.right": False,
        "axes.spines.top": False,
        "axes.titlesize": 11,
        "axes.titleweight": "bold",
        "axes.axisbelow": True,
        "font.sans-serif": ["DejaVu Sans"],
        "font.size": 9,
        "grid.alpha": 0.15,
        "grid.color": INK,
        "hatch.linewidth": 0.9,
        "legend.fontsize": 9,
        "legend.frameon": False,
        "legend.handlelength": 1.4,
        "lines.linewidth": 1.8,
        "lines.markersize": 3,
        "svg.fonttype": "none",  # text stays text: the page's font, selectable, small
        "svg.hashsalt": name,
        "text.color": INK,
        "text.parse_math": False,
        "xtick.color": INK,
        "ytick.color": INK,
    }
    with style.context("default"), rc_context(settings):
        yield


def _to_svg(figure: Figure, name: str, axes: Any) -> str:
    """Return the `<svg>` element of a figure, for a page with other figures.

    Removed are the XML header, metadata and namespaces, which HTML does not need, a style sheet
    that would affect the whole page, and unused ids ("figure_1"), which are equal in all charts;
    other ids are hashes salted with the name of the chart. `data-plot` contains the position of the
    axes for the script of the page: left, top, width and height in [0, 1], and the limits of x.
    """
    buffer = StringIO()
    figure.savefig(buffer, format="svg", transparent=True, metadata={"Date": None})
    svg = buffer.getvalue()
    svg = svg[svg.index("<svg") :].replace(INK, "currentColor").replace("xlink:href", "href")
    svg = re.sub(r"<metadata>.*?</metadata>|<style.*?</style>", "", svg, flags=re.DOTALL)
    place, limits = axes.get_position(), axes.get_xlim()
    numbers = (place.x0, 1 - place.y1, place.width, place.height, *limits)
    plot = " ".join(f"{number:.6g}" for number in numbers)
    svg = re.sub(r"^<svg[^>]*(viewBox=\"[^\"]*\")[^>]*>", rf'<svg \1 data-plot="{plot}">', svg)
    referenced = set(re.findall(r"#([\w.-]+)", svg))
    svg = re.sub(r' id="([^"]*)"', lambda id_: id_[0] if id_[1] in referenced else "", svg)
    return re.sub(r">\s+<", "><", svg).strip()
