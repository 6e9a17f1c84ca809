"""10,000 steps with two loading processes: memory, descriptors and processes do not grow."""

import json
import os
import time
from pathlib import Path
from statistics import median

from benchmarks.reliability.commands import TINY, Command, Figure

FIRST, MOST_GROWTH = 1000, 0.01  # steps until all is allocated; a share


def train_long(work: Path, data: Path, steps: int, deadline: float) -> Figure:
    """Train for long, and look at the process in between."""
    figure = Figure(f"{steps} training steps with 2 workers: growth of memory", 1)
    run = work / "long"
    settings = [f"optim.steps={steps}", "optim.validations=10", "data.workers=2"]
    command = Command(["train", str(data), *TINY, *settings, "--out", str(run)], work)
    seen: list[tuple[int, int, int]] = []  # step, resident bytes, open files
    while time.monotonic() < deadline and os.waitpid(command.pid, os.WNOHANG)[0] == 0:
        if step := _step(run):
            seen.append((step, *_look(command.pid)))
        time.sleep(1)
    children = _group(command.pid)
    command.kill()
    time.sleep(1)
    left = [pid for pid in children if Path(f"/proc/{pid}").exists()]
    settled = [row for row in seen if row[0] > FIRST]
    reached = seen[-1][0] if seen else 0
    if len(settled) < 10:
        figure.count(f"only {reached} steps in the time")
        return figure
    fifth = max(1, len(settled) // 5)
    before, after = (median(row[1] for row in part) for part in (settled[:fifth], settled[-fifth:]))
    files = (max(row[2] for row in settled[:fifth]), max(row[2] for row in settled[-fifth:]))
    growth = after / before - 1
    figure.details = {
        "steps": reached,
        "resident_mib_before": round(before / 2**20, 1),
        "resident_mib_after": round(after / 2**20, 1),
        "growth_per_cent": round(100 * growth, 2),
        "descriptors": files,
        "processes_left": len(left),
    }
    right = growth <= MOST_GROWTH and files[1] <= files[0] and not left and reached >= steps - 1
    figure.count("" if right else str(figure.details))
    return figure


def _step(run: Path) -> int:
    try:
        last = (run / "metrics.jsonl").read_text().splitlines()[-1]
        return int(json.loads(last)["step"])
    except (OSError, IndexError, ValueError):
        return 0


def _look(pid: int) -> tuple[int, int]:
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir(f"/proc/{pid}/fd"))
    except (OSError, IndexError):
        return 0, 0


def _group(pid: int) -> list[int]:
    """Return the processes of a process's group, without it."""
    found = []
    for path in Path("/proc").iterdir():
        try:
            if path.name.isdigit() and os.getpgid(int(path.name)) == pid != int(path.name):
                found.append(int(path.name))
        except ProcessLookupError:
            pass
    return found
