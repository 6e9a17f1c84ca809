"""Run declared experiments and record the results of every run in benchmarks/results/.

    python -m benchmarks.experiments camvid --methods ce jml --seeds 0 1 2 --jobs 2

A finished run is skipped, and a killed one continues from its last checkpoint. If another
experiment has a run with the same settings, its results are copied. A method with a teacher is run
after it. Runs are executed in parallel, each on its own cores, or one after the other on a GPU.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from queue import SimpleQueue
from typing import Any

import torch

from benchmarks._machine import ROOT, current_commit
from benchmarks.grid import read_grid
from benchmarks.results_files import copy_result, read_result
from benchmarks.trials import Trial, beside, run_trial, set_aside
from softiou._screen import say


def main() -> None:
    """Run the selected part of the grid."""
    grid = read_grid()
    options = _options(sorted(grid))
    declared = grid[options.experiment]
    methods = options.methods or declared.get("main") or list(declared["methods"])
    if unknown := sorted(set(methods) - set(declared["methods"])):
        sys.exit(
            f"{options.experiment} has no method {', '.join(unknown)}; it has "
            f"{', '.join(declared['methods'])}"
        )
    trials = [
        Trial(options.experiment, declared, method, seed)
        for seed in options.seeds
        for method in methods
    ]
    if options.here:
        torch.set_num_threads(options.threads)
        if options.cores:
            os.sched_setaffinity(0, options.cores)
        for trial in trials:
            run_trial(trial, again=options.again)
        return
    unfinished = [trial for trial in trials if is_open(trial, again=options.again)]
    if not (options.list or options.again):
        unfinished = [trial for trial in unfinished if not copy_twin(trial, grid)]
    waiting = with_teachers(unfinished)
    if options.list:
        print("\n".join(f"{trial.method}-seed{trial.seed}" for trial in waiting))
        return
    if options.again:
        for trial in unfinished:
            set_aside(trial)
    sys.exit(run_side_by_side(waiting, options))


def _options(experiments: Sequence[str]) -> argparse.Namespace:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    jobs = 1 if torch.cuda.is_available() else cores
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiment", choices=experiments)
    parser.add_argument(
        "--methods", nargs="+", help="default: those of `main` in experiments.yaml, or all"
    )
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=jobs, help=f"side by side; default {jobs}")
    parser.add_argument("--threads", type=int, default=1, help="of each job; default 1")
    parser.add_argument("--again", action="store_true", help="replace results of other commits")
    parser.add_argument("--list", action="store_true", help="print what there is to do")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)  # in this process
    parser.add_argument("--cores", nargs="*", type=int, help=argparse.SUPPRESS)  # its own ones
    return parser.parse_args()


def with_teachers(trials: Sequence[Trial]) -> list[Trial]:
    """Add missing teachers before the trials that need them."""
    ordered = {(trial.method, trial.seed): trial for trial in trials}
    for trial in trials:
        teacher = None if trial.teacher is None else replace(trial, method=trial.teacher)
        if teacher is None or teacher.is_trained or (teacher.method, teacher.seed) in ordered:
            continue
        if teacher.result.exists():
            say(f"{teacher.name}: its model is not here, so it is trained again for its students")
        ordered[teacher.method, teacher.seed] = teacher
    return sorted(ordered.values(), key=lambda trial: trial.teacher is not None)


def is_open(trial: Trial, *, again: bool) -> bool:
    """Return whether a trial has to be run, and print what happens to an existing result."""
    if not trial.result.exists():
        return True
    before, now = read_result(trial.result)["commit"], current_commit()
    if before == now or not again:
        hint = "" if before == now else "; --again replaces it"
        say(f"{trial.name}: finished at commit {before}, skipped{hint}")
        return False
    say(f"{trial.name}: the result of commit {before} is going to be replaced by that of {now}")
    return True


def copy_twin(trial: Trial, grid: Mapping[str, Any]) -> bool:
    """Copy the result of the same training in another experiment; return whether there is one."""
    others = (
        Trial(experiment, declared, method, trial.seed)
        for experiment, declared in grid.items()
        for method in declared["methods"]
        if experiment != trial.experiment
    )
    twin = next((one for one in others if one.result.exists() and one.equals(trial)), None)
    if twin is None:
        return False
    own = {"experiment": trial.experiment, "method": trial.method}
    commit = copy_result(twin.result, trial.result, own)["commit"]
    say(f"{trial.name}: the training of {twin.name}, copied (commit {commit})")
    return True


def run_side_by_side(trials: Sequence[Trial], options: argparse.Namespace) -> int:
    """Run each trial in a new process, teachers first; return the number of failures."""
    places: SimpleQueue[int] = SimpleQueue()
    for place in range(options.jobs):
        places.put(place)
    failed = 0
    with ThreadPoolExecutor(options.jobs) as pool:
        for needs_teacher in (False, True):
            some = [trial for trial in trials if (trial.teacher is not None) == needs_teacher]
            statuses = pool.map(lambda trial: _run_apart(trial, places, options), some)
            failed += sum(status != 0 for status in statuses)
    return failed


def _run_apart(trial: Trial, places: "SimpleQueue[int]", options: argparse.Namespace) -> int:
    """Run a trial in a process with its own cores; its output is written to a log file."""
    if trial.teacher is not None and not replace(trial, method=trial.teacher).is_trained:
        say(f"{trial.name}: FAILED, for its teacher, {trial.teacher}, is not trained")
        return 1
    place = places.get()
    log = beside(trial.run_of(trial.method), ".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    say(f"{trial.name}: begins, see {log.relative_to(ROOT)}")
    try:
        with log.open("a") as file:
            done = subprocess.run(
                _command(trial, place, options),
                cwd=ROOT,
                env=os.environ | {"OMP_NUM_THREADS": str(options.threads)},
                stdout=file,
                stderr=subprocess.STDOUT,
                check=False,
            )
    finally:
        places.put(place)
    end = f"FAILED with status {done.returncode}" if done.returncode else "done"
    say(f"{trial.name}: {end}")
    return done.returncode


def _command(trial: Trial, place: int, options: argparse.Namespace) -> list[str]:
    """Return the command that runs a single trial in a process."""
    which = [trial.experiment, "--methods", trial.method, "--seeds", str(trial.seed), "--here"]
    which += ["--threads", str(options.threads), *(["--again"] if options.again else [])]
    cores = [str(core) for core in _cores(place, options.threads)]
    return [sys.executable, "-m", "benchmarks.experiments", *which, "--cores", *cores]


def _cores(place: int, threads: int) -> list[int]:
    """Return cores that no other job uses; an empty list if there are not enough."""
    if not hasattr(os, "sched_getaffinity"):
        return []
    cores = sorted(os.sched_getaffinity(0))
    return sorted({cores[(place * threads + i) % len(cores)] for i in range(threads)})


if __name__ == "__main__":
    main()
