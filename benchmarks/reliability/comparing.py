"""Compare two runs, stores or folders, except for times and paths."""

import hashlib
import json
from pathlib import Path
from typing import Any

import torch

from softiou.checkpoints import read_checkpoint
from softiou.data.shards import indices

_CLOCKS = {"seconds", "created", "checkpoint_sha256", "softiou", "date"}


def difference_of_runs(run: Path, other: Path) -> str:
    """Return the first difference between two evaluated runs; "" if they are equal."""
    return difference_of_trainings(run, other) or difference_of_evaluations(run, other)


def difference_of_trainings(run: Path, other: Path) -> str:
    """Return the difference between the final states of two trainings."""
    for name in ("last", "best"):
        ours, theirs = (
            read_checkpoint(one / "checkpoints" / f"{name}.ckpt")["state_dict"]
            for one in (run, other)
        )
        for key in theirs:
            if not torch.equal(ours[key], theirs[key]):
                return f"{key} of {name}.ckpt differs"
    if _lines(run) != _lines(other):
        return "metrics.jsonl differs"
    return leftovers(run)


def difference_of_evaluations(run: Path, other: Path) -> str:
    """Return the difference between the metrics of two evaluations."""
    ours, theirs = (json.loads((one / "evaluation.json").read_text()) for one in (run, other))
    for key in ("metrics", "per_class", "per_image", "intervals", "confusion"):
        if ours.get(key) != theirs.get(key):
            return f"{key} of evaluation.json differs"
    return "" if (run / "report.html").is_file() else "there is no report"


def difference_of_folders(folder: Path, other: Path) -> str:
    """Return the first file that differs."""
    ours, theirs = _contents(folder), _contents(other)
    if names := sorted(ours.keys() ^ theirs.keys()):
        return f"{names[0]} is in one of two folders only"
    wrong = sorted(name for name in ours if ours[name] != theirs[name])
    return f"{wrong[0]} differs" if wrong else leftovers(folder)


def leftovers(folder: Path) -> str:
    """Return the temporary files left by a killed process."""
    left = [path.name for path in folder.rglob(".*") if path.name.startswith((".tmp-", ".lock"))]
    return f"{left[0]} is left" if left else ""


def _lines(run: Path) -> list[dict[str, Any]]:
    lines = map(json.loads, (run / "metrics.jsonl").read_text().splitlines())
    return [{key: value for key, value in line.items() if key != "seconds"} for line in lines]


def _contents(folder: Path) -> dict[str, str]:
    found = {}
    for path in sorted(folder.rglob("*")):
        if path.match("labels-*.tar"):  # of any name; the later entry counts
            (index,) = indices([str(path)], torn=True)
            for number, name in enumerate(index.names):
                content = index.member(number).read_bytes()
                place = str((path.parent / name).relative_to(folder))
                found[place] = hashlib.sha256(content).hexdigest()
        elif path.is_file() and not path.name.startswith((".output-", ".labels-")):
            content = path.read_bytes()
            if path.suffix == ".json":
                values = json.loads(content)
                kept = {key: value for key, value in values.items() if key not in _CLOCKS}
                content = json.dumps(kept, sort_keys=True).encode()
            found[str(path.relative_to(folder))] = hashlib.sha256(content).hexdigest()
    return found
