"""Measure reliability: nothing is lost, nothing is executed, nothing hangs.

    python -m benchmarks.reliability [--short] [--more] [--minutes M] [--only NAME ...]

kills      kill -9 at random moments of train, distill, semi, label, evaluate, export, check --fix
starts     two trainings that start at the same time in one folder
faults     a full disk, no permission, tiny shared memory, few descriptors, ... (needs root)
inputs     generated invalid settings, commands, data sets, checkpoints and calls
hostile    hostile files of each kind in SECURITY.md
values     losses with random settings against loops in float64
memory     10,000 training steps with two loading processes

Each stops after its time, and prints the number of trials; --more adds trials to an earlier result
(except memory). Writes benchmarks/results/reliability/NAME.json; --short, for continuous
integration, writes nothing. The exit status is 1 if anything failed.
"""

import argparse
import json
import os
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks._machine import ROOT, current_commit, machine
from benchmarks.reliability import faults, hostile, inputs, kills, memory, starts, values
from benchmarks.reliability.commands import TINY, Figure, import_all, must_run, write_data
from softiou._files import write_atomically

RESULTS = ROOT / "benchmarks" / "results" / "reliability"
FIGURES = {
    "kills": "kill -9 at random moments, resumed bit-identical",
    "starts": "two simultaneous starts, directories of their own",
    "faults": "faults of disk and system: named, and cured by --resume",
    "inputs": "bad inputs: a clear error or handled, no traceback, no hang",
    "hostile": "hostile files: nothing executed, overwritten or read outside",
    "values": "random settings against float64 loops",
    "memory": "training steps with 2 workers: growth of memory",
}
FULL = {"kills": 200, "starts": 50, "inputs": 1000, "values": 10_000, "memory": 10_000}
SHORT = {"kills": 3, "starts": 1, "inputs": 20, "values": 20}
SHORT_FAULTS = ("full disk",)


def main() -> None:
    """Run the selected tests, and write a file for each."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--short", action="store_true", help="a few trials of each, in a minute")
    parser.add_argument("--more", action="store_true", help="add to the trials that are stored")
    parser.add_argument("--minutes", type=float, default=60, help="for each figure, at most")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments and inputs")
    parser.add_argument("--only", nargs="+", choices=list(FIGURES), default=list(FIGURES))
    parser.add_argument("--fault", choices=list(faults.FAULTS), help="only one of the faults")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    import_all()
    failed = False
    for name in options.only:
        if options.short and name == "memory":
            continue
        figure = Figure(FIGURES[name], _number(name, options))
        file = RESULTS / f"{name}.json"
        if options.more and name != "memory" and file.exists():
            figure.go_on(json.loads(file.read_text(encoding="utf-8")))
        with TemporaryDirectory(prefix=f"reliability-{name}-") as folder:
            _measure(name, figure, Path(folder), options)
        content = figure.as_dict()
        words = f"{content['passed']} of {content['tried']} ({content['seconds']} s)"
        print(f"{name}: {words} {figure.details or ''}", flush=True)
        failed |= bool(figure.failures)
        if not options.short:
            _write(content | {"seed": options.seed}, file)
    sys.exit(1 if failed else 0)


def _number(name: str, options: argparse.Namespace) -> int:
    """Return the number of trials."""
    if name == "faults":
        return len(_faults(options))
    if name == "hostile":
        return len(hostile.CASES)
    return (SHORT if options.short else FULL)[name]


def _faults(options: argparse.Namespace) -> tuple[str, ...]:
    if options.fault:
        return (options.fault,)
    return SHORT_FAULTS if options.short else tuple(faults.FAULTS)


def _measure(name: str, figure: Figure, work: Path, options: argparse.Namespace) -> None:
    """Run one of the tests, and record its trials."""
    deadline, number = time.monotonic() + 60 * options.minutes, figure.must
    sizes = (
        {"train": 4, "val": 2, "test": 2} if name == "kills" else {"train": 10, "val": 3, "test": 3}
    )
    data = write_data(work / "data", sizes)
    measures: dict[str, Callable[[], None]] = {
        "kills": lambda: kills.kill_all(figure, work, data, number, deadline, options.seed),
        "starts": lambda: starts.start_two(figure, work, data, number, deadline),
        "faults": lambda: faults.try_faults(figure, work, data, _faults(options), deadline),
        "inputs": lambda: inputs.try_inputs(
            figure, work, data, _trained(work, data), number, deadline, options.seed
        ),
        "hostile": lambda: hostile.try_hostile(figure, work, data, _trained(work, data), deadline),
        "values": lambda: values.compare_values(figure, number, deadline),
        "memory": lambda: memory.train_long(figure, work, data, number, deadline),
    }
    measures[name]()


def _trained(work: Path, data: Path) -> Path:
    """Train a model for the commands that need one."""
    run = work / "teacher"
    settings = [*TINY, "optim.steps=4", "optim.validations=2"]
    must_run(["train", str(data), *settings, "--out", str(run)], work)
    return run


def _write(content: dict[str, object], file: Path) -> None:
    """Write the result of a test."""
    content |= {"commit": current_commit(), "date": date.today().isoformat(), "machine": machine()}
    file.parent.mkdir(parents=True, exist_ok=True)
    write_atomically((json.dumps(content, indent=1) + "\n").encode(), file)


if __name__ == "__main__":
    main()
