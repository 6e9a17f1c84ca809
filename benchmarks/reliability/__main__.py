"""Reliability: nothing lost, nothing executed, nothing hangs; the figures, measured.

    python -m benchmarks.reliability [--short] [--minutes M] [--only NAME ...]

kills      kill -9 at random moments of train, distill, semi, label, evaluate, export, check --fix
starts     two trainings that start at once in one folder
faults     a full disk, no permission, tiny shared memory, few descriptors, ... (needs root)
inputs     bad settings, words, data sets and checkpoints, generated
memory     10,000 training steps with two loading processes
hostile    the tests that SECURITY.md names
values     random settings of the losses against loops in float64 (the slow test of the losses)

Each stops when its share of the time is over, and says how many trials there were. Writes
benchmarks/results/reliability/NAME.json; --short, for continuous integration, writes nothing. The
status is 1 when anything failed.
"""

import argparse
import json
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import date
from pathlib import Path
from tempfile import TemporaryDirectory

from benchmarks._machine import ROOT, current_commit, machine
from benchmarks.reliability import faults, inputs, kills, memory, starts
from benchmarks.reliability.commands import TINY, Figure, import_all, must_run, write_data
from softiou._files import write_atomically

RESULTS = ROOT / "benchmarks" / "results" / "reliability"
FULL = {"kills": 200, "starts": 50, "faults": 0, "inputs": 1000, "memory": 10_000}
SHORT = {"kills": 7, "starts": 2, "faults": 0, "inputs": 24, "memory": 0}


def main() -> None:
    """Measure each figure in a process of its own, and write its file."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--short", action="store_true", help="a few trials of each, in minutes")
    parser.add_argument("--minutes", type=float, default=60, help="for each figure, at most")
    parser.add_argument("--seed", type=int, default=0, help="of the random moments and inputs")
    names = [*FULL, "hostile", "values"]
    parser.add_argument("--only", nargs="+", choices=names, default=names)
    parser.add_argument("--fault", help="only one of the faults")
    options = parser.parse_args()
    os.environ["OMP_NUM_THREADS"] = "1"
    import_all()
    failed = False
    for name in options.only:
        number = (SHORT if options.short else FULL).get(name)
        if options.short and (number is None or name == "memory"):
            continue
        with TemporaryDirectory(prefix=f"reliability-{name}-") as folder:
            figure = _measure(
                name, Path(folder), number or 0, options.minutes, options.seed, options.fault
            )
        content = figure.as_dict()
        print(f"{name}: {content['passed']} of {content['tried']} ({content['seconds']} s)")
        failed |= bool(figure.failures)
        if not options.short:
            content |= {
                "seed": options.seed,
                "commit": current_commit(),
                "date": date.today().isoformat(),
                "machine": machine(),
            }
            text = json.dumps(content, indent=1) + "\n"
            RESULTS.mkdir(parents=True, exist_ok=True)
            write_atomically(text.encode(), RESULTS / f"{name}.json")
    sys.exit(1 if failed else 0)


def _measure(
    name: str, work: Path, number: int, minutes: float, seed: int, fault: str | None
) -> Figure:
    deadline = time.monotonic() + 60 * minutes
    if name in ("hostile", "values"):
        return _tests(name)
    data = write_data(work / "data", {"train": 10, "val": 3, "test": 3})
    measures: dict[str, Callable[[], Figure]] = {
        "kills": lambda: kills.kill_all(work, data, number, deadline, seed),
        "starts": lambda: starts.start_two(work, data, number, deadline),
        "faults": lambda: faults.try_faults(work, data, deadline, fault),
        "memory": lambda: memory.train_long(work, data, number, deadline),
        "inputs": lambda: inputs.try_inputs(
            work, data, _teacher(work, data), number, deadline, seed
        ),
    }
    return measures[name]()


def _teacher(work: Path, data: Path) -> Path:
    """Train a model for the verbs that need one."""
    run = work / "teacher"
    settings = [*TINY, "optim.steps=4", "optim.validations=2"]
    must_run(["train", str(data), *settings, "--out", str(run)], work)
    return run


def _tests(name: str) -> Figure:
    """Run tests, and count them."""
    if name == "hostile":
        figure = Figure("hostile files of SECURITY.md: executed, overwritten or read outside", 0)
        text = (ROOT / "SECURITY.md").read_text(encoding="utf-8")
        words = sorted(set(re.findall(r"`(tests/[^`]+)`", text)))
    else:
        figure = Figure("random settings against float64 loops", 10_000)
        words = ["tests/losses/test_random.py", "-m", "slow"]
    command = [sys.executable, "-m", "pytest", "-q", *words]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    summary = done.stdout.strip().splitlines()[-1]
    passed = re.search(r"(\d+) passed", summary)
    figure.tried = int(passed[1]) if passed else 0
    figure.details = {"tests": words, "summary": summary}
    if done.returncode:
        figure.count(done.stdout[-600:])
    return figure


if __name__ == "__main__":
    main()
