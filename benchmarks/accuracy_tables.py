"""Tables of the results of the experiments in per cent: methods, and differences of methods.

The names of the methods and their order are declared in experiments.yaml.
"""

from collections.abc import Callable, Sequence
from math import isnan, nan
from statistics import mean, stdev
from typing import Any

from benchmarks import results_files
from benchmarks.grid import read_grid

COLUMNS = {
    "miou_d": "mIoU^D",
    "miou_i": "mIoU^I",
    "miou_c": "mIoU^C",
    "miou_i_q10": "worst 10 %",
    "accuracy": "accuracy",
    "ece_d": "ECE",
}
# A metric that a run does not have becomes a dash.
SEMI_COLUMNS = COLUMNS | {"teacher/miou_d": "teacher's mIoU^D", "teacher/ece_d": "teacher's ECE"}
# Label smoothing affects the boundaries.
SMOOTHING_COLUMNS = {
    "miou_d": "mIoU^D",
    "miou_i": "mIoU^I",
    "miou_c": "mIoU^C",
    "biou_d": "boundary IoU",
    "accuracy": "accuracy",
    "ece_d": "ECE",
}
# For several annotators; "class/score" is the score of one class.
ANNOTATOR_COLUMNS = {
    "nodule/soft_dice": "soft Dice",
    "nodule/dice": "Dice",
    "nodule/iou": "IoU",
    "miou_i_q10": "mIoU, worst 10 %",
    "ged": "energy",
    "ece_d": "ECE",
}
# For soft labels of area fractions.
SHARE_COLUMNS = {
    "soft_iou_d": "soft mIoU^D",
    "miou_d": "mIoU^D",
    "miou_i": "mIoU^I",
    "miou_i_q10": "worst 10 %",
    "ece_d": "ECE",
}
COLUMNS_OF = {
    "lidc": ANNOTATOR_COLUMNS,
    "digits": SHARE_COLUMNS,
    "digits_rates": SHARE_COLUMNS,
    "camvid_quarter": SHARE_COLUMNS | {"biou_d": "boundary IoU"},
    "camvid_half": SMOOTHING_COLUMNS,
    "camvid_1_8": SEMI_COLUMNS,
    "camvid_1_8_short": SEMI_COLUMNS,
    "camvid_1_16": SEMI_COLUMNS,
    "ccp": SEMI_COLUMNS,
}
# Default models and their baselines: is the ECE after the temperature at most that of the baseline?
DEFAULTS = {
    "camvid": (("jml", "ce"), ("student_jml", "student_ce")),
    "camvid_half": (("jml", "ce"),),
    "camvid_1_8": (("sup_jml", "sup_ce"), ("semi_soft_jml", "semi_hard_ce")),
    "ccp": (
        ("sup_jml", "sup_ce"),
        ("full_jml", "full_ce"),
        ("semi_soft_jml", "semi_hard_ce"),
        ("kd_jml", "kd_ce"),
    ),
    "lidc": (("votes_jml", "votes_ce"),),
}
# Before and after temperature scaling, fitted on the validation split.
CALIBRATION = {"ece_d": "ECE", "ece_i": "ECE per image", "bece_d": "ECE at boundaries"}
DASH = "–"  # noqa: RUF001

Run = dict[str, Any]


def table_of(experiment: str, methods: Sequence[str]) -> str:
    """Return a table of the overlap metrics and the ECE, one row per method."""
    columns = COLUMNS_OF.get(experiment, COLUMNS)
    lines = [
        f"| method | seeds | {' | '.join(columns.values())} | steps | minutes |",
        f"| --- | ---: |{' ---: |' * len(columns)} ---: | ---: |",
    ]
    for name, runs in _by_method(experiment, methods):
        cells = [_spread([_score(run, key) for run in runs], key) for key in columns]
        minutes = mean(run["seconds"] for run in runs) / 60
        cells += [str(runs[0]["steps"]), f"{minutes:.0f}"]
        lines.append(f"| {name} | {len(runs)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def calibration_table(experiment: str, methods: Sequence[str]) -> str:
    """Return a table of calibration metrics before and after temperature scaling."""
    shown = CALIBRATION | {"nll": "NLL"}
    titles = [title for name in shown.values() for title in (name, "after T")]
    lines = [
        f"| method | seeds | {' | '.join(titles)} |",
        f"| --- | ---: |{' ---: |' * len(titles)}",
    ]
    for name, runs in _by_method(experiment, methods):
        keys = [key for name in shown for key in (name, f"calibrated/{name}")]
        cells = [_spread([_score(run, key) for run in runs], key) for key in keys]
        lines.append(f"| {name} | {len(runs)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def temperature_table() -> str:
    """Return a table of overlap and ECE, with a temperature, against cross-entropy without one."""
    lines = [
        "| experiment | method | baseline | overlap | ECE of the baseline as trained | "
        "ECE of the method after T | difference of each seed |",
        "| --- | --- | --- | ---: | ---: | ---: | ---: |",
    ]
    for experiment, pairs in DEFAULTS.items():
        first = next(iter(COLUMNS_OF.get(experiment, COLUMNS)))
        names, runs = _names(experiment), results_files.read_results(experiment)
        for pair in pairs:
            ours, theirs = ({r["seed"]: r for r in runs if r["method"] == one} for one in pair)
            seeds = sorted(ours.keys() & theirs.keys())
            gain = mean(_score(ours[n], first) - _score(theirs[n], first) for n in seeds)
            before = [_score(theirs[n], "ece_d") for n in seeds]
            after = [_score(ours[n], "calibrated/ece_d") for n in seeds]
            cells = [experiment, names[pair[0]], names[pair[1]], f"{gain:+.1f}"]
            cells += [_spread(before, "ece_d"), _spread(after, "ece_d")]
            cells += [", ".join(f"{x - y:+.2f}" for x, y in zip(after, before, strict=True))]
            lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def differences_table(experiment: str, methods: Sequence[str]) -> str:
    """Return a table of the differences between methods with intervals, in percentage points.

    The first metric is also given for each seed.
    """
    contrasts = [
        one
        for one in results_files.read_contrasts(experiment)
        if not methods or one["method"] in methods
    ]
    shown = {name for contrast in contrasts for name in contrast["metrics"]}
    titles = differences_of(experiment)
    columns = {name: title for name, title in titles.items() if name in shown}
    first = next(iter(columns or titles))
    lines = [
        f"| method | baseline | {titles[first]} of each seed | {' | '.join(columns.values())} |",
        f"| --- | --- | ---: |{' ---: |' * len(columns)}",
    ]
    names = _names(experiment)
    for contrast in contrasts:
        pair = [names[contrast[key]] for key in ("method", "baseline")]
        of_seeds = [f"{value:+.1f}" for value in contrast["metrics"][first]["of_seeds"]]
        cells = [_difference(contrast, key) for key in columns]
        lines.append(f"| {' | '.join([*pair, ', '.join(of_seeds), *cells])} |")
    return "\n".join(lines) + "\n"


def differences_of(experiment: str) -> dict[str, str]:
    """Return the metrics whose differences have intervals, with their titles."""
    columns = COLUMNS_OF.get(experiment, COLUMNS) | CALIBRATION
    return {name: title for name, title in columns.items() if not name.startswith("teacher/")}


# The suffixes of experiment names in the names of tables.
KINDS: dict[str, Callable[[str, Sequence[str]], str]] = {
    "_calibration": calibration_table,
    "_differences": differences_table,
    "": table_of,
}


def accuracy_table(name: str, methods: Sequence[str] = ()) -> str:
    """Return the Markdown table of an experiment, with all methods or those given."""
    if name == "after_temperature":
        return temperature_table()
    suffix = next(suffix for suffix in KINDS if name.endswith(suffix))
    return KINDS[suffix](name.removesuffix(suffix), methods)


def _names(experiment: str) -> dict[str, str]:
    """Return the names of the methods in the order of the declaration."""
    declared = read_grid()[experiment]
    return {method: declared.get("names", {}).get(method, method) for method in declared["methods"]}


def _by_method(experiment: str, methods: Sequence[str]) -> list[tuple[str, list[Run]]]:
    """Return name and runs of the methods that have results."""
    runs = results_files.read_results(experiment)
    names = _names(experiment)
    if unknown := [method for method in methods if method not in names]:
        raise ValueError(f"{experiment} declares no method {', '.join(unknown)}")
    found = [
        (name, [run for run in runs if run["method"] == method])
        for method, name in names.items()
        if not methods or method in methods
    ]
    return [(name, of_method) for name, of_method in found if of_method]


def _difference(contrast: dict[str, Any], key: str) -> str:
    """Return a difference with its interval, bold if it is significant."""
    found = contrast["metrics"].get(key)
    if found is None:
        return DASH
    sure = "**" if results_files.is_decided(contrast, key) else ""
    digits = _digits(key)
    value, low, high = (f"{x:+.{digits}f}" for x in (found["value"], *found["interval"]))
    return f"{sure}{value}{sure} ({low} to {high})"


def _score(run: Run, key: str) -> float:
    """Return a metric over all classes, or "class/score", "teacher/score", "calibrated/score"."""
    name, slash, score = key.rpartition("/")
    apart = {"teacher": "teacher_metrics", "calibrated": "calibrated"}
    if name in apart:
        return float((run.get(apart[name]) or {}).get(score, nan))
    rows = [row for row in run.get("per_class", ()) if row["name"] == name]
    return float((rows[0] if slash else run["metrics"]).get(score, nan))


def _spread(values: Sequence[float], key: str) -> str:
    """Format one seed as a number, several as mean and standard deviation."""
    digits = _digits(key)
    if any(isnan(value) for value in values):
        return DASH
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{mean(values):.{digits}f} ± {stdev(values):.{digits}f}"


def _digits(key: str) -> int:
    """Return the number of decimals of a metric."""
    if "nll" in key:
        return 3
    return 2 if "ece_" in key else 1
