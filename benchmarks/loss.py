"""Measure time and memory of the losses, forward and backward, and of other libraries.

    python -m benchmarks.loss                                  # all on the CPU: about an hour
    python -m benchmarks.loss --cases hard stride4 --classes 150 --dtypes fp32
    python -m benchmarks.loss --cases --step                   # whole training steps only
    python -m benchmarks.loss --device cuda --peak-gbs 3350

Measured rows replace those of the same case, shape, dtype and contender in the results file, from
which the tables of the documentation are written.
"""

import argparse
import json
import os
import re
from collections.abc import Iterator, Sequence
from datetime import date
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from statistics import median, quantiles
from typing import Any

import torch

from benchmarks._machine import ROOT, current_commit, processor
from benchmarks.loss_cases import (
    CASES,
    CLASSES,
    DTYPES,
    Workload,
    prepare,
    step_workloads,
    workloads,
)
from benchmarks.loss_contenders import PEERS, UnavailableError
from benchmarks.loss_measures import (
    WARM_UP_PX,
    bytes_of_a_pass,
    copy_bandwidth,
    interleaved_seconds,
    peak_extra_bytes,
)
from softiou._files import write_atomically

Row = dict[str, Any]

RESULTS = ROOT / "benchmarks" / "results" / "loss"
PACKAGES = ("torch", "segmentation-models-pytorch", "monai", "kornia")
BASES = ("cross-entropy", "plain formula", "no loss", "hard labels", *PEERS)
KEY = ("case", "shape", "dtype", "contender")
QUICK_PX = 64
MIB = 2**20


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure the selected workloads; write the results after each of them."""
    options = _parser().parse_args(arguments)
    rounds = options.rounds or (2 if options.quick else 15)
    out = options.out or (None if options.quick else results_file(options.device))
    torch.set_num_threads(options.threads)
    about = description(options.device, options.threads)
    peaks = _bandwidths(options.device, options.peak_gbs)
    for workload in _chosen(options):
        torch.manual_seed(0)
        rows = measure(workload, rounds=rounds, peaks=peaks)
        for row in rows:
            if options.memory:
                row |= memory_of(workload, row["contender"], threads=options.threads)
            print(line_of(row), flush=True)
        if out is not None:
            save(rows, about, out)


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--cases", nargs="*", choices=CASES, default=CASES)
    parser.add_argument("--classes", nargs="+", type=int, default=CLASSES)
    parser.add_argument("--dtypes", nargs="+", choices=DTYPES, default=tuple(DTYPES))
    parser.add_argument("--step", action="store_true", help="whole training steps, too (bf16)")
    parser.add_argument("--device", choices=("cpu", "cuda"), default="cpu")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--rounds", type=_at_least_two, help="default: 15, with --quick 2")
    parser.add_argument("--memory", action=argparse.BooleanOptionalAction, default=True)
    parser.add_argument("--peak-gbs", type=float, help="nominal bandwidth of the GPU in GB/s")
    parser.add_argument("--quick", action="store_true", help="tiny sizes, to see that it runs")
    parser.add_argument(
        "--out", type=Path, help="default: benchmarks/results/loss/DEVICE.json, with --quick none"
    )
    return parser


def _at_least_two(text: str) -> int:
    if int(text) < 2:
        raise argparse.ArgumentTypeError("a spread needs two rounds at least")
    return int(text)


def _chosen(options: argparse.Namespace) -> Iterator[Workload]:
    """Yield the workloads selected on the command line."""
    found = [*workloads(options.cases, options.classes, options.dtypes, options.device)]
    if options.step:
        found += step_workloads(options.classes, options.device)
    for workload in found:
        yield workload.resized(QUICK_PX) if options.quick else workload


def measure(workload: Workload, *, rounds: int, peaks: dict[str, float]) -> list[Row]:
    """Measure all contenders of a workload in interleaved rounds.

    Args:
        workload: The workload.
        rounds: Number of rounds, at least 2.
        peaks: Bandwidths of the device in bytes a second, by where they are known from; the rows
            tell the share of each that a contender achieves.

    Returns:
        A row for each contender that can take part; the others are named on the screen.
    """
    print(f"\n{workload.case} {workload.shape} {workload.dtype}, {workload.device}")
    names = _able(workload)
    runs = {name: run for name, run in prepare(workload).items() if name in names}
    values = {name: run() for name, run in runs.items()}
    runs_seconds = interleaved_seconds(runs, rounds=rounds, device=workload.device)
    seconds = {name: [s / workload.calls for s in of] for name, of in runs_seconds.items()}
    return [
        {
            "case": workload.case,
            "shape": workload.shape,
            "dtype": workload.dtype,
            "contender": name,
            "peer": name in PEERS,
            "value": None if value is None else float(value),
            "seconds_median": median(seconds[name]),
            "seconds_quartiles": _quartiles(seconds[name]),
            "ratio_to": _ratios(seconds, name),
            **_shares(workload, median(seconds[name]), peaks),
        }
        for name, value in values.items()
    ]


def _able(workload: Workload) -> list[str]:
    """Try every contender on a small input, and print which ones fail and why."""
    able = []
    for name, run in prepare(workload.resized(WARM_UP_PX)).items():
        try:
            run()
            able.append(name)
        except UnavailableError as error:
            print(f"  {name} is left out: {error}")
    return able


def _ratios(seconds: dict[str, list[float]], name: str) -> dict[str, dict[str, float]]:
    """Return the ratios to the base contenders, computed within each round."""
    ratios = {}
    for base in BASES:
        if base in seconds and base != name:
            pairs = zip(seconds[name], seconds[base], strict=True)
            of_rounds = [mine / other for mine, other in pairs]
            q1, q3 = _quartiles(of_rounds)
            ratios[base] = {"median": median(of_rounds), "q1": q1, "q3": q3}
    return ratios


def _quartiles(figures: list[float]) -> tuple[float, float]:
    q1, _, q3 = quantiles(figures, n=4, method="inclusive")
    return q1, q3


def _shares(workload: Workload, seconds: float, peaks: dict[str, float]) -> Row:
    """Return the fraction of the device's bandwidth that a contender achieves."""
    if not peaks or workload.case == "step":
        return {}
    achieved = bytes_of_a_pass(workload) / seconds
    return {"share_of_bandwidth": {name: achieved / peak for name, peak in peaks.items()}}


def _bandwidths(device: str, nominal_gbs: float | None) -> dict[str, float]:
    """Return the peak bandwidths of a GPU, in bytes a second."""
    if device == "cpu":
        return {}
    peaks = {"of a copy": copy_bandwidth(device)}
    return peaks if nominal_gbs is None else peaks | {"nominal": nominal_gbs * 1e9}


def memory_of(workload: Workload, contender: str, *, threads: int) -> Row:
    """Measure the additional peak memory, with and without the gradient of the logits."""
    peak = peak_extra_bytes(workload, contender, threads=threads)
    of_loss = workload.case not in ("step", "floor")
    beyond = (peak - workload.logits_bytes) / MIB if of_loss else None
    return {"peak_extra_mib": peak / MIB, "peak_beyond_gradient_mib": beyond}


def line_of(row: Row) -> str:
    """Format a row as a line of output."""
    q1, q3 = row["seconds_quartiles"]
    parts = [
        f"  {row['contender']:18}{row['seconds_median'] * 1e3:9.2f} ms"
        f"  [{q1 * 1e3:.2f}, {q3 * 1e3:.2f}]"
    ]
    ratios = row["ratio_to"].items()
    parts += [f"{ratio['median']:.2f} x {base}" for base, ratio in ratios if base not in PEERS]
    if "peak_extra_mib" in row:
        parts.append(f"{row['peak_extra_mib']:.1f} MiB")
    shares = row.get("share_of_bandwidth", {})
    parts += [f"{share:.0%} of the bandwidth {name}" for name, share in shares.items()]
    return "   ".join(parts)


def description(device: str, threads: int) -> Row:
    """Return a description of hardware and versions."""
    name = processor() if device == "cpu" else torch.cuda.get_device_name()
    return {
        "commit": current_commit(),
        "date": date.today().isoformat(),
        "machine": {"name": name, "cores": os.cpu_count(), "threads": threads},
        "versions": {package: found for package in PACKAGES if (found := _version(package))},
    }


def _version(package: str) -> str | None:
    try:
        return version(package)
    except PackageNotFoundError:
        return None


def results_file(device: str) -> Path:
    """Return the results file of a device, such as cpu.json or nvidia-h100-80gb-hbm3.json."""
    kind = "cpu" if device == "cpu" else torch.cuda.get_device_name()
    return RESULTS / f"{re.sub('[^a-z0-9]+', '-', kind.lower())}.json"


def save(rows: list[Row], about: Row, path: Path) -> None:
    """Merge rows into a results file: new rows replace those with the same key.

    Every row records its own hardware; the head of the file has that of the latest.
    """
    origin = {key: about[key] for key in ("commit", "date", "machine")}
    old = json.loads(path.read_text())["rows"] if path.exists() else []
    merged = {tuple(row[key] for key in KEY): row for row in old}
    merged |= {tuple(row[key] for key in KEY): row | origin for row in rows}
    path.parent.mkdir(parents=True, exist_ok=True)
    content = json.dumps(about | {"rows": list(merged.values())}, indent=1)
    write_atomically(f"{content}\n".encode(), path)


if __name__ == "__main__":
    main()
