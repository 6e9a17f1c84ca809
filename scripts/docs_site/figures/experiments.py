"""Figures of the results of the experiments, from the files in benchmarks/results/."""

from typing import Any

from matplotlib.axes import Axes
from matplotlib.figure import Figure

from benchmarks.results_files import is_decided, read_contrasts, read_results
from scripts.docs_site.figures.style import BLUE, GREEN, GREY, ORANGE, panels, style

LOSSES = {"ce": ("cross-entropy", ORANGE), "jml": ("0.25 CE + 0.75 JML", BLUE)}
METRICS = {"miou_d": "test mIoUᴰ", "ece_d": "test ECE"}
# Trainings that differ in loss, length, and the interval between validations.
TRAININGS = {
    "camvid_budget": {
        "ce_100": "ce",
        "ce_200": "ce",
        "ce_1200": "ce",
        "jml_100": "jml",
        "jml_200": "jml",
    },
    "camvid_losses": {"ce_100": "ce", "ce_25": "jml"},
    "camvid": {"ce": "ce", "jml": "jml", "teacher": "jml"},
}


def budget() -> Figure:
    """Draw IoU and calibration of both losses by the steps of the whole training; seed 0 joined."""
    figure, axes = panels(2, height=2.8)
    points: dict[tuple[str, int], dict[int, dict[str, float]]] = {}
    for experiment, losses in TRAININGS.items():
        for run in read_results(experiment):
            if run["method"] in losses:
                key = losses[run["method"]], run["steps"]
                points.setdefault(key, {})[run["seed"]] = run["metrics"]
    with style():
        for axis, (metric, title) in zip(axes, METRICS.items(), strict=True):
            for loss, (name, colour) in LOSSES.items():
                steps = sorted(steps for kind, steps in points if kind == loss)
                values = [points[loss, step][0][metric] for step in steps]
                axis.plot(steps, values, "o-", color=colour, label=name)
                for step in steps:
                    seeds = [of_seed[metric] for of_seed in points[loss, step].values()]
                    axis.plot([step] * len(seeds), seeds, "_", color=colour, markersize=9)
            ticks = sorted({steps for _, steps in points})
            axis.set_xscale("log", base=2)
            axis.set_xticks(ticks, [str(tick) for tick in ticks])
            axis.set(title=f"{title}, %", xlabel="steps of the training")
        axes[0].legend(loc="lower right")
    return figure


# The main comparisons of the project: experiment, method, baseline, and the label in the figure.
CLAIMS = (
    ("camvid", "jml", "ce", "JML against CE"),
    ("camvid", "jml_bls", "jml", "JML: boundary smoothing against none"),
    ("camvid", "student_jml", "student_ce", "student: JML against CE"),
    ("camvid", "kd_jml", "kd_ce", "distilled student: JML against CE"),
    ("camvid", "kd_jml", "kd_cwd", "distilled student: JML against channel-wise"),
    ("camvid", "kd_jml", "student_jml", "student, JML: soft labels against none"),
    ("camvid_1_16", "semi_soft_jml", "semi_hard_ce", "23 masks: soft, JML against hard, CE"),
    ("camvid_1_16", "semi_soft_jml", "sup_jml", "23 masks, JML: unlabelled against none"),
    ("camvid_1_8", "semi_soft_jml", "semi_hard_ce", "46 masks: soft, JML against hard, CE"),
    ("camvid_1_8", "semi_soft_jml", "sup_jml", "46 masks, JML: unlabelled against none"),
    ("lidc", "votes_jml", "votes_product", "votes: JML against product form"),
    ("lidc", "votes_jml", "votes_ce", "votes: JML against CE"),
    ("digits", "soft_ce_jml", "soft_ce_product", "shares: JML against product form"),
    ("digits", "soft_ce_jml", "soft_ce", "shares: JML against CE"),
    ("digits", "soft_jml", "hard_jml", "JML alone: shares against hard labels"),
)
# The metric that is compared first: the overlap that the labels of the data set allow.
OVERLAP_OF = {"lidc": "nodule/soft_dice", "digits": "soft_iou_d"}


def differences() -> Figure:
    """Draw differences with their intervals, in overlap and in calibration error."""
    found = [(claim, _contrast(*claim[:3])) for claim in CLAIMS]
    known = [(claim, contrast) for claim, contrast in found if contrast is not None]
    figure, axes = panels(2, height=0.8 + 0.24 * len(known), sharey=True)
    with style():
        for row, (claim, contrast) in enumerate(known):
            _interval(axes[0], row, contrast, OVERLAP_OF.get(claim[0], "miou_d"), good=1)
            _interval(axes[1], row, contrast, "ece_d", good=-1)
        for axis, title in zip(axes, ("overlap, points", "ECE, points"), strict=True):
            axis.axvline(0, color=GREY, linewidth=1)
            axis.set_title(title)
        axes[0].set_yticks(range(len(known)), [claim[3] for claim, _ in known])
        axes[0].set_ylim(len(known) - 0.5, -0.5)
    return figure


def _contrast(experiment: str, method: str, baseline: str) -> dict[str, Any] | None:
    pairs = {(one["method"], one["baseline"]): one for one in read_contrasts(experiment)}
    return pairs.get((method, baseline))


def _interval(axis: Axes, row: int, contrast: dict[str, Any], metric: str, *, good: int) -> None:
    """Draw one difference: green if significantly better, orange if worse, otherwise grey."""
    difference = contrast["metrics"][metric]
    colour = GREY
    if is_decided(contrast, metric):
        colour = GREEN if good * difference["interval"][0] > 0 else ORANGE
    axis.plot(difference["interval"], (row, row), color=colour)
    axis.plot(difference["value"], row, "o", color=colour, markersize=6)
