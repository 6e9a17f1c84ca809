"""10,000 steps with two loading processes: memory, descriptors and processes do not grow."""

import json
import os
import time
from pathlib import Path
from statistics import median

from benchmarks.reliability.commands import TINY, Command, Figure

FIRST, MOST_GROWTH = 1000, 0.01  # steps until all memory is allocated; relative growth
_ENDING_S = 5.0  # time limit for processes whose parent has ended


def train_long(figure: Figure, work: Path, data: Path, steps: int, deadline: float) -> None:
    """Run a long training, and measure the process regularly."""
    run = work / "long"
    settings = [f"optim.steps={steps}", "optim.validations=20", "data.workers=2"]
    command = Command(["train", str(data), *TINY, *settings, "--out", str(run)], work)
    seen: list[tuple[int, int, int]] = []  # step, resident bytes, open files
    while time.monotonic() < deadline and os.waitpid(command.pid, os.WNOHANG)[0] == 0:
        if step := _step(run):
            seen.append((step, *_look(command.pid)))
        time.sleep(1)
    command.kill()
    left = _left(command.pid)
    reached = _step(run)
    settled = [row for row in seen if row[0] >= FIRST and row[1]]
    if len(settled) < 10:
        figure.count(f"only {reached} steps in the time")
        return
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
    right = growth <= MOST_GROWTH and files[1] <= files[0] and not left and reached >= steps
    figure.count("" if right else str(figure.details))


def _step(run: Path) -> int:
    """Return the last recorded step."""
    try:
        last = (run / "metrics.jsonl").read_text().splitlines()[-1]
        return int(json.loads(last)["step"])
    except (OSError, IndexError, ValueError):
        return 0


def _look(pid: int) -> tuple[int, int]:
    """Return the resident memory in bytes and the number of open files of a process."""
    try:
        pages = int(Path(f"/proc/{pid}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE"), len(os.listdir(f"/proc/{pid}/fd"))
    except (OSError, IndexError):
        return 0, 0


def _left(group: int) -> list[int]:
    """Return the processes of a group that still run after their parent has ended."""
    end = time.monotonic() + _ENDING_S
    while (left := living(group)) and time.monotonic() < end:
        time.sleep(0.1)
    return left


def living(group: int) -> list[int]:
    """Return the running processes of a group, without zombies."""
    found = []
    for path in Path("/proc").glob("[0-9]*"):
        try:
            state, _, of_group = (path / "stat").read_text().rpartition(")")[2].split()[:3]
        except (OSError, ValueError):  # the process has just ended
            continue
        if int(of_group) == group and state not in "ZX":
            found.append(int(path.name))
    return found
