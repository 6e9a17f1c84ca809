"""Figures of what the experiments came to, from the files in benchmarks/results/."""

from statistics import mean

from matplotlib.figure import Figure

from benchmarks.results_files import read_results
from scripts.docs_site.figures.style import BLUE, ORANGE, panels, style

LOSSES = {"ce": ("cross-entropy", ORANGE), "jml": ("0.25 CE + 0.75 JML", BLUE)}
# Methods that train as those of the budget do, and are there anyway.
ALIASES = {"ce": "ce", "jml": "jml", "teacher": "jml"}


def budget() -> Figure:
    """Draw IoU and calibration of both losses by the steps of the whole training."""
    figure, axes = panels(2, height=2.8)
    points: dict[tuple[str, int], list[dict[str, float]]] = {}
    for run in read_results("camvid_budget"):
        points.setdefault((run["method"].split("_")[0], run["steps"]), []).append(run["metrics"])
    for run in read_results("camvid"):
        if run["method"] in ALIASES:
            key = ALIASES[run["method"]], run["steps"]
            points.setdefault(key, []).append(run["metrics"])
    with style():
        for axis, metric, title in zip(
            axes, ("miou_d", "ece_d"), ("test mIoUᴰ, %", "test ECE, %"), strict=True
        ):
            for loss, (name, colour) in LOSSES.items():
                steps = sorted(steps for kind, steps in points if kind == loss)
                values = [mean(m[metric] for m in points[loss, step]) for step in steps]
                axis.plot(steps, values, "o-", color=colour, label=name)
                for step in steps:
                    seeds = [m[metric] for m in points[loss, step]]
                    axis.plot([step] * len(seeds), seeds, "_", color=colour, markersize=9)
            ticks = sorted({steps for _, steps in points})
            axis.set_xscale("log", base=2)
            axis.set_xticks(ticks, [str(tick) for tick in ticks])
            axis.set(title=title, xlabel="steps of the training", ylim=(0, None))
        axes[0].set_ylim(None, None)
        axes[0].legend(loc="lower right")
    return figure
