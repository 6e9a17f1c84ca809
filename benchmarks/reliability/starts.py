"""Two trainings that start at the same time in one folder must get different directories."""

import time
from pathlib import Path

from benchmarks.reliability.commands import TINY, Command, Figure
from softiou.checkpoints import read_checkpoint


def start_two(figure: Figure, work: Path, data: Path, rounds: int, deadline: float) -> None:
    """Start two trainings at the same time, repeatedly."""
    words = ["train", str(data), *TINY, "optim.steps=2", "optim.validations=1"]
    while figure.tried < rounds and time.monotonic() < deadline:
        home = work / f"round-{figure.tried}"
        home.mkdir()
        both = [Command(words, home), Command(words, home)]
        ends = [one.wait() for one in both]
        if ends != [0, 0]:
            figure.count(f"ended with {ends}: {both[0].text()[-200:]} {both[1].text()[-200:]}")
            continue
        runs = sorted(path for path in (home / "runs").iterdir())
        names = [run.name for run in runs]
        steps = [read_checkpoint(run / "checkpoints/last.ckpt")["global_step"] for run in runs]
        right = names == ["data-001", "data-002"] and steps == [2, 2]
        figure.count("" if right else f"{names} with {steps} steps")
