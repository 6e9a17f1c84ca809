"""Two trainings that start at the same moment in one folder: each gets a directory of its own."""

import time
from pathlib import Path

from benchmarks.reliability.commands import TINY, Command, Figure
from softiou.checkpoints import read_checkpoint


def start_two(work: Path, data: Path, rounds: int, deadline: float) -> Figure:
    """Start two trainings at once, again and again."""
    figure = Figure("two simultaneous starts, directories of their own", 50)
    words = ["train", str(data), *TINY, "optim.steps=2", "optim.validations=1"]
    for number in range(rounds):
        if time.monotonic() > deadline:
            break
        both = [Command(words, work), Command(words, work)]
        ends = [one.wait() for one in both]
        if ends != [0, 0]:
            figure.count(f"ended with {ends}: {both[0].text()[-200:]} {both[1].text()[-200:]}")
            continue
        runs = sorted((work / "runs").iterdir())
        steps = [read_checkpoint(run / "checkpoints/last.ckpt")["global_step"] for run in runs[-2:]]
        right = len(runs) == 2 * (number + 1) and steps == [2, 2]
        figure.count("" if right else f"{len(runs)} directories after {number + 1} rounds")
    return figure
