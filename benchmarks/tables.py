"""Write the tables of the pages from the files in benchmarks/results/.

    python -m benchmarks.tables            # writes
    python -m benchmarks.tables --check    # fails when a table is not what the files say

A table stands between `<!-- table: EXPERIMENT -->` and `<!-- end of table -->`, after a colon the
methods that it shows: `<!-- table: camvid: ce jml -->`; EXPERIMENT_differences is the table of the
intervals that `benchmarks.differences` has found. Those of `loss`, `store`, `steps`,
`semi_supervised`, `metrics`, `bootstrap` and `export` come from the files of `benchmarks.loss`,
`.distillation`, `.semi_supervised`, `.metrics`, `.bootstrap` and `.export`.
"""

import argparse
import json
import re
import sys
from collections.abc import Callable, Sequence
from math import isnan, nan
from pathlib import Path
from statistics import mean, stdev
from typing import Any

import yaml

ROOT = Path(__file__).resolve().parents[1]
PAGES = (
    "README.md",
    "docs/how-to/evaluation.md",
    "docs/how-to/export.md",
    "docs/how-to/semi-supervised.md",
    "docs/how-to/soft-labels.md",
    "docs/performance.md",
    "docs/results.md",
)
COLUMNS = {
    "miou_d": "mIoU^D",
    "miou_i": "mIoU^I",
    "miou_c": "mIoU^C",
    "accuracy": "accuracy",
    "ece_d": "ECE",
}
# Against several annotators: a column "class/score" is that of one class.
ANNOTATOR_COLUMNS = {
    "nodule/soft_dice": "soft Dice",
    "nodule/dice": "Dice",
    "nodule/iou": "IoU",
    "ged": "energy",
    "ece_d": "ECE",
}
# A figure that runs of other recipes lack is a dash for them.
SEMI_COLUMNS = COLUMNS | {"teacher/miou_d": "teacher's mIoU^D", "teacher/ece_d": "teacher's ECE"}
COLUMNS_OF = {"lidc": ANNOTATOR_COLUMNS, "camvid_1_8": SEMI_COLUMNS}
NAMES = {
    "ce": "cross-entropy",
    "jml": "0.25 CE + 0.75 JML",
    "jml_bls": "the same, boundary smoothing of 3 pixels on each side",
    "jml_bls_1px": "the same, 1 pixel on each side",
    "jml_bls_present": "the same, 3 pixels, and every class that the smoothing touches",
    "teacher": "teacher: 0.25 CE + 0.75 JML",
    "student_ce": "student, CE",
    "student_jml": "student, 0.25 CE + 0.75 JML",
    "kd_ce": "student, CE, soft labels of the teacher",
    "kd_cwd": "student, CE, channel-wise distillation",
    "kd_jml": "student, 0.25 CE + 0.75 JML, soft labels of the teacher",
    "sup_ce": "the masks alone, CE",
    "sup_jml": "the masks alone, 0.25 CE + 0.75 JML",
    "sup_jml_1600": "the same, twice the steps",
    "semi_hard_ce": "hard pseudo-labels, CE",
    "semi_soft_ce": "soft pseudo-labels, CE",
    "semi_soft_jml": "soft pseudo-labels, 0.25 CE + 0.75 JML",
    "semi_soft_jml_1600": "the same, twice the steps",
    "full_ce": "all 367 masks, CE",
}
DIFFERENCES = {
    "miou_d": "mIoU^D",
    "miou_i": "mIoU^I",
    "miou_c": "mIoU^C",
    "miou_i_q10": "worst 10 %",
    "soft_dice_d": "soft Dice",
    "ece_d": "ECE",
    "ece_i": "ECE per image",
    "bece_d": "boundary ECE",
}
ANNOTATOR_NAMES = {
    "random": "a random rater",
    "majority": "majority",
    "votes": "votes",
    "ce": "cross-entropy",
    "product": "product form of Jaccard",
    "dml": "DML",
    "jml": "JML",
    "ce_product": "0.25 CE + 0.75 product form",
    "ce_jml": "0.25 CE + 0.75 JML",
}
# What of benchmarks.loss a user cares about: (case, shape of the logits, dtype) and its name.
LOSS_ROWS = {
    ("hard", "4x19x512x512", "fp32"): "hard labels, 19 classes",
    ("hard", "1x150x512x512", "fp32"): "hard labels, 150 classes",
    ("dense", "4x19x512x512", "fp32"): "soft labels, 19 classes",
    ("smoothed", "4x19x512x512", "fp32"): "smoothed at the borders, 19 classes",
    ("mixture", "4x19x512x512", "fp32"): "0.25 CE + 0.75 JML, 19 classes",
    ("stride4", "2x150x128x128 to 512x512", "fp32"): "from stride-4 logits, 150 classes",
    ("step", "4x19x64x128 to 256x512", "bf16"): "whole training step, 19 classes",
    ("step", "4x150x64x64 to 256x256", "bf16"): "whole training step, 150 classes",
}
LOSS_COLUMNS = (
    "softiou, ms",
    "`F.cross_entropy`, ms",
    "plain formula, ms",
    "fastest peer, ms",
    "extra MiB, softiou / `F.cross_entropy`",
)
MARKED = re.compile(
    r"(<!-- table: (\w+)(?:: ([\w ]+))? -->\n).*?(<!-- end of table -->)", re.DOTALL
)


def main() -> None:
    """Write or check every page."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--check", action="store_true", help="change nothing, fail on differences")
    check = parser.parse_args().check
    for name in PAGES:
        page = ROOT / name
        old = page.read_text()
        new = MARKED.sub(lambda m: f"{m[1]}{table(m[2], (m[3] or '').split())}{m[4]}", old)
        if check and new != old:
            sys.exit(f"{name}: the tables differ from the results; run python -m benchmarks.tables")
        if new != old:
            page.write_text(new)


def table(experiment: str, methods: Sequence[str] = ()) -> str:
    """Return the Markdown table of an experiment: a row a method, per cent; all unless named."""
    if experiment.endswith("_differences"):
        return differences_table(experiment.removesuffix("_differences"))
    if experiment in MEASURED:
        folder, make = MEASURED[experiment]
        return "\n".join(make(json.loads(path.read_text())) for path in _files(folder))
    order = yaml.safe_load((ROOT / "benchmarks" / "experiments.yaml").read_text())[experiment]
    runs = [json.loads(path.read_text()) for path in _files(experiment) if "-seed" in path.name]
    by_method = {
        m: [r for r in runs if r["method"] == m]
        for m in order["methods"]
        if not methods or m in methods
    }
    columns = COLUMNS_OF.get(experiment, COLUMNS)
    lines = [
        f"| method | seeds | {' | '.join(columns.values())} | steps | minutes |",
        f"| --- | ---: |{' ---: |' * len(columns)} ---: | ---: |",
    ]
    for method, found in by_method.items():
        if found:
            cells = [_spread([_score(run, key) for run in found], key) for key in columns]
            minutes = mean(run["seconds"] for run in found) / 60
            cells += [str(found[0]["steps"]), f"{minutes:.0f}"]
            lines.append(f"| {_name(experiment, method)} | {len(found)} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def differences_table(experiment: str) -> str:
    """Return how sure the differences between methods are: a row a contrast, points of per cent."""
    file = ROOT / "benchmarks" / "results" / experiment / "differences.json"
    contrasts = json.loads(file.read_text())["contrasts"] if file.exists() else []
    shown = {name for contrast in contrasts for name in contrast["metrics"]}
    columns = {name: title for name, title in DIFFERENCES.items() if name in shown}
    lines = [
        f"| method | less | seeds | {' | '.join(columns.values())} |",
        f"| --- | --- | ---: |{' ---: |' * len(columns)}",
    ]
    for contrast in contrasts:
        names = [_name(experiment, contrast[key]) for key in ("method", "baseline")]
        cells = [_difference(contrast["metrics"].get(key)) for key in columns]
        lines.append(f"| {' | '.join([*names, str(len(contrast['seeds'])), *cells])} |")
    return "\n".join(lines) + "\n"


def _difference(found: dict[str, Any] | None) -> str:
    """Return a difference with its interval, bold where the interval excludes zero."""
    if found is None:
        return "–"  # noqa: RUF001
    low, high = found["interval"]
    sure = "**" if low > 0 or high < 0 else ""
    return f"{sure}{found['value']:+.1f}{sure} ({low:+.1f} to {high:+.1f})"


def _name(experiment: str, method: str) -> str:
    if experiment != "lidc":
        return NAMES.get(method, method)
    labels, _, loss = method.partition("_")
    return f"{ANNOTATOR_NAMES[labels]}, {ANNOTATOR_NAMES[loss]}"


def _score(run: dict[str, Any], key: str) -> float:
    """Return a figure over all classes, "class/score" of one class, or "teacher/score"."""
    name, slash, score = key.rpartition("/")
    if name == "teacher":
        return float(run.get("teacher_metrics", {}).get(score, nan))
    rows = [row for row in run.get("per_class", ()) if row["name"] == name]
    value: float = (rows[0] if slash else run["metrics"])[score]
    return value


def store_table(results: dict[str, Any]) -> str:
    """Return what the soft labels of a teacher cost on disk: a row a stride."""
    lines = [
        "| stride | mass, levels | bytes a pixel | dense fp16 | soft IoU with the teacher, % | "
        "crop read in, ms |",
        "| ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for row in results["store"]:
        kept, crop = f"{row['mass']}, {row['levels']}", "x".join(map(str, row["read_crop_px"]))
        size, dense = f"{row['bytes_per_pixel']:.3f}", row["dense_fp16_bytes_per_pixel"]
        reading = f"{row['read_ms_median']:.1f} ({crop})"
        cells = [row["stride"], kept, size, dense, f"{row['soft_iou']:.1f}", reading]
        lines.append(f"| {' | '.join(map(str, cells))} |")
    return "\n".join(lines) + "\n"


def semi_table(results: dict[str, Any]) -> str:
    """Return what a semi-supervised step costs beside its parts: a row a method."""
    lines = [
        "| method | step, ms | labelled | unlabelled | teacher | step / sum of parts | quartiles |",
        "| --- | ---: | ---: | ---: | ---: | ---: | ---: |",
    ]
    for name, row in results["methods"].items():
        parts = ("step", "labelled", "unlabelled", "teacher")
        cells = [f"{1000 * row['seconds'][part]:.0f}" for part in parts]
        low, high = row["ratio"]["quartiles"]
        cells += [f"{row['ratio']['median']:.3f}", f"{low:.3f} to {high:.3f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def metrics_table(results: dict[str, Any]) -> str:
    """Return what an update of the metrics costs: a row a number of threads and a way."""
    size = next(name for name in results["state_bytes_of_an_update"] if name in results["image"])
    growth = results["state_bytes_of_an_update"][size]
    lines = [
        "| threads | metrics | ms an image | times as fast | quartiles | state grows by, kB |",
        "| ---: | --- | ---: | ---: | ---: | ---: |",
    ]
    for threads, row in results["threads"].items():
        for name, seconds in row["seconds"].items():
            ratio = row["times_as_fast"].get(f"{name} against torchmetrics")
            cells = [threads, name, f"{1000 * seconds['median']:.0f}"]
            if ratio is None:
                cells += ["", ""]
            else:
                low, high = ratio["quartiles"]
                cells += [f"{ratio['median']:.1f}", f"{low:.1f} to {high:.1f}"]
            lines.append(f"| {' | '.join(cells)} | {growth[name] / 1000:,.1f} |")
    return "\n".join(lines) + "\n"


def bootstrap_table(results: dict[str, Any]) -> str:
    """Return what the intervals cost: a row a set of figures."""
    figures, seconds = results["figures"], results["seconds"]
    names = {
        "counts": f"{figures['counts']} intervals: overlap and accuracy, of classes, worst cases",
        "all": f"{figures['all']} intervals: every figure of evaluation.json",
        "plain loop, three figures": "3 figures in a plain loop, extrapolated from 100 resamples",
    }
    lines = ["| what | processor seconds |", "| --- | ---: |"]
    lines += [f"| {name} | {seconds[key]:.2f} |" for key, name in names.items()]
    return "\n".join(lines) + "\n"


def export_table(results: dict[str, Any]) -> str:
    """Return which models export, and how near the files are: a row a model, and why not below."""
    versions = results["versions"]
    names = ", ".join(f"{name} {versions[name]}" for name in ("torch", "onnxruntime"))
    lines = [
        f"Largest difference of a probability from PyTorch, on {results['images']} ({names}):",
        "",
        "| architecture | encoder | ONNX | MiB | torch.export | MiB | smallest side, pixels |",
        "| --- | --- | ---: | ---: | ---: | ---: | ---: |",
    ]
    found: dict[tuple[str, str], dict[str, dict[str, Any]]] = {}
    for row in results["rows"]:
        found.setdefault((row["architecture"], row["encoder"]), {})[row["format"]] = row
    for (architecture, encoder), formats in found.items():
        rows = [formats["onnx"], formats["torch-export"]]
        cells = [cell for row in rows for cell in _export_cells(row)]
        cells.append(" / ".join(str(row.get("smallest_px", "–")) for row in rows))  # noqa: RUF001
        lines.append(f"| {architecture} | {encoder} | {' | '.join(cells)} |")
    reasons = dict.fromkeys(row["why"] for row in results["rows"] if not row["ok"])
    if reasons:
        lines += ["", *(f"- {reason}" for reason in reasons)]
    return "\n".join(lines) + "\n"


def _export_cells(row: dict[str, Any]) -> list[str]:
    return [f"{row['difference']:.0e}", f"{row['size_mib']:.0f}"] if row["ok"] else ["no", ""]


def steps_table(results: dict[str, Any]) -> str:
    """Return what a training step costs: a row a ratio of two ways, with quartiles."""
    lines = ["| step time | ratio | quartiles |", "| --- | ---: | ---: |"]
    for name, ratio in results["steps"]["ratios"].items():
        low, high = ratio["quartiles"]
        lines.append(f"| {name} | {ratio['median']:.3f} | {low:.3f} to {high:.3f} |")
    return "\n".join(lines) + "\n"


def loss_table(results: dict[str, Any]) -> str:
    """Return what one machine measured of the losses: a row a job, forward and backward."""
    machine, torch = results["machine"], results["versions"]["torch"]
    where = f"{machine['cores']} cores, {machine['threads']} threads"
    lines = [
        f"{machine['name']} ({where}), torch {torch}, {results['date']}:",
        "",
        f"| logits in, gradient out | {' | '.join(LOSS_COLUMNS)} |",
        f"| --- |{' ---: |' * len(LOSS_COLUMNS)}",
    ]
    for (case, shape, dtype), name in LOSS_ROWS.items():
        found = {
            row["contender"]: row
            for row in results["rows"]
            if (row["case"], row["shape"], row["dtype"]) == (case, shape, dtype)
        }
        if found:
            lines.append(f"| {name} | {' | '.join(_loss_cells(found))} |")
    return "\n".join(lines) + "\n"


def _loss_cells(found: dict[str, dict[str, Any]]) -> list[str]:
    """Return the cells of a job from its rows by contender; a dash for what was not measured."""
    times = [_milliseconds(found.get(n)) for n in ("softiou", "cross-entropy", "plain formula")]
    peers = [row for row in found.values() if row["peer"]]
    fastest = min(peers, key=lambda row: row["seconds_median"], default=None)
    peer = _milliseconds(fastest) + (f" ({fastest['contender']})" if fastest else "")
    memory = [_mebibytes(found.get(n)) for n in ("softiou", "cross-entropy")]
    return [*times, peer, " / ".join(memory)]


def _milliseconds(row: dict[str, Any] | None) -> str:
    if row is None:
        return "–"  # noqa: RUF001
    ms = row["seconds_median"] * 1000
    return f"{ms:.0f}" if ms >= 10 else f"{ms:.2g}"


def _mebibytes(row: dict[str, Any] | None) -> str:
    if row is None or "peak_extra_mib" not in row:
        return "–"  # noqa: RUF001
    return f"{row['peak_extra_mib']:.0f}"


def _files(experiment: str) -> list[Path]:
    return sorted((ROOT / "benchmarks" / "results" / experiment).glob("*.json"))


def _spread(values: list[Any], key: str) -> str:
    """One seed as it is, several as mean and standard deviation."""
    digits = 2 if key.endswith("ece_d") else 1
    if isnan(values[0]):
        return "–"  # noqa: RUF001
    if len(values) == 1:
        return f"{values[0]:.{digits}f}"
    return f"{mean(values):.{digits}f} ± {stdev(values):.{digits}f}"


# Folder of the results and how to write them, by the name of the table.
MEASURED: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "bootstrap": ("bootstrap", bootstrap_table),
    "export": ("export", export_table),
    "loss": ("loss", loss_table),
    "metrics": ("metrics", metrics_table),
    "semi_supervised": ("semi_supervised", semi_table),
    "steps": ("distillation", steps_table),
    "store": ("distillation", store_table),
}


if __name__ == "__main__":
    main()
