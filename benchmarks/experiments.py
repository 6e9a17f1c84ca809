"""Run declared experiments and record the results of every run in benchmarks/results/.

    python -m benchmarks.experiments camvid --methods ce jml --seeds 0 1 2 --jobs 2

A finished run is skipped, and a killed one goes on from its last checkpoint. What another
experiment has trained just so is copied. A method with a teacher waits for it. Runs go side by
side, each on cores of its own, or one after the other on a GPU.
"""

import argparse
import os
import subprocess
import sys
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from functools import partial
from queue import SimpleQueue
from typing import Any

import torch

from benchmarks._machine import ROOT, current_commit
from benchmarks.grid import read_grid
from benchmarks.results_files import copy_result, read_result
from benchmarks.trials import Trial, beside, run_trial
from softiou.cli._console import say


def main() -> None:
    """Run the chosen part of the grid."""
    grid = read_grid()
    options = _options(sorted(grid))
    declared = grid[options.experiment]
    methods = options.methods or list(declared["methods"])
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
        for trial in trials:
            run_trial(trial)
        return
    unfinished = [trial for trial in trials if is_open(trial, again=options.again)]
    if not (options.list or options.again):
        unfinished = [trial for trial in unfinished if not is_copied(trial, grid)]
    waiting = with_teachers(unfinished)
    if options.list:
        print("\n".join(f"{trial.method}-seed{trial.seed}" for trial in waiting))
    else:
        sys.exit(run_side_by_side(waiting, jobs=options.jobs, threads=options.threads))


def _options(experiments: Sequence[str]) -> argparse.Namespace:
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    jobs = 1 if torch.cuda.is_available() else cores
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("experiment", choices=experiments)
    parser.add_argument("--methods", nargs="+", help="default: all of the experiment")
    parser.add_argument("--seeds", nargs="+", type=int, default=[0, 1, 2])
    parser.add_argument("--jobs", type=int, default=jobs, help=f"side by side; default {jobs}")
    parser.add_argument("--threads", type=int, default=1, help="of each job; default 1")
    parser.add_argument("--again", action="store_true", help="replace results of other commits")
    parser.add_argument("--list", action="store_true", help="print what there is to do")
    parser.add_argument("--here", action="store_true", help=argparse.SUPPRESS)  # in this process
    return parser.parse_args()


def with_teachers(trials: Sequence[Trial]) -> list[Trial]:
    """Put the teachers that trials learn from, and that nobody has trained here, before them."""
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
    """Say whether a trial is still to be run, and what becomes of a result that is there."""
    if not trial.result.exists():
        return True
    before, now = read_result(trial.result)["commit"], current_commit()
    if before == now or not again:
        hint = "" if before == now else "; --again replaces it"
        say(f"{trial.name}: finished at commit {before}, skipped{hint}")
        return False
    say(f"{trial.name}: the result of commit {before} is going to be replaced by that of {now}")
    return True


def is_copied(trial: Trial, grid: Mapping[str, Any]) -> bool:
    """Take the result of the same training from another experiment, if there is one."""
    for experiment, declared in grid.items():
        for method in declared["methods"]:
            twin = Trial(experiment, declared, method, trial.seed)
            if experiment != trial.experiment and twin.result.exists() and twin.equals(trial):
                own = {"experiment": trial.experiment, "method": trial.method}
                copy_result(twin.result, trial.result, own)
                say(f"{trial.name}: the same training as {twin.name}, whose result is copied")
                return True
    return False


def run_side_by_side(trials: Sequence[Trial], *, jobs: int, threads: int) -> int:
    """Run every trial in a process of its own, teachers first; return how many failed."""
    places: SimpleQueue[int] = SimpleQueue()
    for place in range(jobs):
        places.put(place)
    failed = 0
    with ThreadPoolExecutor(jobs) as pool:
        for needs_teacher in (False, True):
            some = [trial for trial in trials if (trial.teacher is not None) == needs_teacher]
            statuses = pool.map(lambda trial: _run_apart(trial, places, threads), some)
            failed += sum(status != 0 for status in statuses)
    return failed


def _run_apart(trial: Trial, places: "SimpleQueue[int]", threads: int) -> int:
    """Run a trial in a process that has cores of its own; its words go into a log by its run."""
    place = places.get()
    log = beside(trial.run_of(trial.method), ".log")
    log.parent.mkdir(parents=True, exist_ok=True)
    say(f"{trial.name}: begins, see {log.relative_to(ROOT)}")
    try:
        with log.open("a") as file:
            done = subprocess.run(
                [*_command(trial), "--threads", str(threads)],
                cwd=ROOT,
                env=os.environ | {"OMP_NUM_THREADS": str(threads)},
                stdout=file,
                stderr=subprocess.STDOUT,
                preexec_fn=partial(_pin, place, threads),
                check=False,
            )
    finally:
        places.put(place)
    end = f"FAILED with status {done.returncode}" if done.returncode else "done"
    say(f"{trial.name}: {end}")
    return done.returncode


def _command(trial: Trial) -> list[str]:
    """Return the command that runs a single trial in its own process."""
    which = [trial.experiment, "--methods", trial.method, "--seeds", str(trial.seed)]
    return [sys.executable, "-m", "benchmarks.experiments", *which, "--here"]


def _pin(place: int, threads: int) -> None:
    """Keep this process on cores that no other job has, as long as there are enough."""
    if hasattr(os, "sched_getaffinity"):
        cores = sorted(os.sched_getaffinity(0))
        own = {cores[(place * threads + i) % len(cores)] for i in range(threads)}
        os.sched_setaffinity(0, own)


if __name__ == "__main__":
    main()
