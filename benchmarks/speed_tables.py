"""Tables of time, memory and file sizes from the results of the benchmarks."""

from collections.abc import Callable
from typing import Any

# The cases of benchmarks.loss in the table: (case, shape of the logits, dtype) and name.
LOSS_ROWS = {
    ("hard", "4x19x512x512", "fp32"): "hard labels, 19 classes",
    ("hard", "1x150x512x512", "fp32"): "hard labels, 150 classes",
    ("dense", "4x19x512x512", "fp32"): "soft labels, 19 classes",
    ("smoothed", "4x19x512x512", "fp32"): "smoothed at boundaries, 19 classes",
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


def store_table(results: dict[str, Any]) -> str:
    """Return a table of the size of stored soft labels, one row per stride."""
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
    """Return a table of semi-supervised steps and their parts, one row per method."""
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
    """Return a table of metric updates, one row per number of threads and implementation."""
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
    """Return a table of the time of intervals, one row per set of metrics."""
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
    """Return a table of exported models and their errors, with reasons for failures below."""
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
    """Return a table of ratios of training steps with quartiles."""
    lines = ["| step time | ratio | quartiles |", "| --- | ---: | ---: |"]
    for name, ratio in results["steps"]["ratios"].items():
        low, high = ratio["quartiles"]
        lines.append(f"| {name} | {ratio['median']:.3f} | {low:.3f} to {high:.3f} |")
    return "\n".join(lines) + "\n"


def training_loop_table(results: dict[str, Any]) -> str:
    """Return a table of training steps per second, with ratios to a plain loop."""
    lines = [
        "| method | steps a second | times the plain loop | quartiles |",
        "| --- | ---: | ---: | ---: |",
    ]
    for name, row in results["methods"].items():
        low, high = row["quartiles"]
        rate = f"{row['steps_per_second']:.2f} | {row['ratio']:.2f}"
        lines.append(f"| {name} | {rate} | {low:.2f} to {high:.2f} |")
    return "\n".join(lines) + "\n"


def loss_table(results: dict[str, Any]) -> str:
    """Return a table of the losses on one machine, forward and backward, one row per case."""
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


def kinds_table(results: dict[str, Any]) -> str:
    """Return a table of the kinds of target relative to hard labels, for two dtypes."""
    dtypes = ("fp32", "bf16")
    titles = [f"{dtype}, {what}" for dtype in dtypes for what in ("ms", "times hard labels")]
    lines = [f"| target | {' | '.join(titles)} |", f"| --- |{' ---: |' * len(titles)}"]
    rows = {(row["contender"], row["dtype"]): row for row in results["rows"]}
    for name in dict.fromkeys(row["contender"] for row in results["rows"]):
        cells = []
        for row in (rows[name, dtype] for dtype in dtypes):
            ratio = row["ratio_to"].get("hard labels", {"median": 1.0})
            cells += [_milliseconds(row), f"{ratio['median']:.2f}"]
        lines.append(f"| {name} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def outcomes_table(results: dict[str, Any]) -> str:
    """Return a table of one and two classes, with PyTorch's function and the fastest library."""
    lines = [
        "| logits | labels | dtype | softiou, ms | times PyTorch's | times the fastest peer |",
        "| --- | --- | --- | ---: | ---: | ---: |",
    ]
    jobs = dict.fromkeys((row["case"], row["shape"], row["dtype"]) for row in results["rows"])
    for case, shape, dtype in jobs:
        found = {
            row["contender"]: row
            for row in results["rows"]
            if (row["case"], row["shape"], row["dtype"]) == (case, shape, dtype)
        }
        own, peers = found["softiou"], [row for row in found.values() if row["peer"]]
        peer = min(peers, key=lambda row: row["seconds_median"])["contender"]
        ratios = [own["ratio_to"][base]["median"] for base in ("cross-entropy", peer)]
        cells = [_milliseconds(own), f"{ratios[0]:.2f}", f"{ratios[1]:.2f} ({peer})"]
        labels = "hard" if case == "hard" else "soft"
        lines.append(f"| {shape} | {labels} | {dtype} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _loss_cells(found: dict[str, dict[str, Any]]) -> list[str]:
    """Return the cells of a case from its rows by contender; a dash if not measured."""
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


# Folder of the results and function that writes the table, by the name of the table.
def name_table(results: dict[str, Any]) -> str:
    """Return a table of names of other libraries and their replacements."""
    versions = results["versions"]
    lines = [
        "| library | theirs | ours | same value? | times as fast |",
        "| --- | --- | --- | --- | ---: |",
    ]
    for row in results["rows"]:
        module = row["ours"].rpartition(".")[0]
        drop_in = "drop_in" in module
        ours = f"`{row['ours']}`" if drop_in else f"`{module}.{row['settings']}`"
        same = "yes" if row["same"] else "no"
        same += f", {row['note']}" if row["note"] else ""
        library = f"{row['library']} {versions[row['library']]}"
        cells = [library, f"`{row['theirs']}`", ours, same, f"{row['times_as_fast']:.1f}"]
        lines.append(f"| {' | '.join(cells)} |")
    for library, theirs, ours, same in results["stated"]:
        cells = [f"{library} (stated)", f"`{theirs}`", ours, same, ""]
        lines.append(f"| {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def loading_table(results: dict[str, Any]) -> str:
    """Return a table of loading rates, one row per size; "" for other files."""
    if "rounds" not in results:
        return ""
    names = {"softiou": "softiou", "loop": "torchvision v2", "albumentations": "Albumentations"}
    lines = [
        f"| images | {', '.join(names.values())}: images a second | times v2 | "
        "times Albumentations |",
        "| --- | ---: | ---: | ---: |",
    ]
    for size, row in results["images"].items():
        rates = ", ".join(f"{row[name]:.0f}" for name in names)
        ratios = f"{row['ratio']:.2f} | {row['ratio_to_albumentations']:.2f}"
        lines.append(f"| {size} | {rates} | {ratios} |")
    return "\n".join(lines) + "\n"


MEASURED: dict[str, tuple[str, Callable[[dict[str, Any]], str]]] = {
    "bootstrap": ("bootstrap", bootstrap_table),
    "export": ("export", export_table),
    "loading": ("loading", loading_table),
    "loss": ("loss", loss_table),
    "kinds": ("loss_kinds", kinds_table),
    "outcomes": ("loss_outcomes", outcomes_table),
    "metrics": ("metrics", metrics_table),
    "name_by_name": ("name_by_name", name_table),
    "semi_supervised": ("semi_supervised", semi_table),
    "steps": ("distillation", steps_table),
    "store": ("distillation", store_table),
    "training_loop": ("training_loop", training_loop_table),
}
