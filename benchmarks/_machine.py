"""The commit of the code and the hardware of a measurement."""

import json
import os
import platform
import subprocess
from datetime import date
from pathlib import Path
from typing import Any

import torch

from softiou._files import write_atomically
from softiou.environment import processor as processor

ROOT = Path(__file__).resolve().parents[1]
# Other processes import the same code.
PATHS = os.pathsep.join((str(ROOT), str(ROOT / "src"), os.environ.get("PYTHONPATH", "")))


def current_commit() -> str:
    """Return the commit of the code, marked if files other than results have changed."""
    commit = _git("describe", "--always", "--abbrev=12")
    changed = _git("status", "--porcelain", "--untracked-files=no", ".", ":!benchmarks/results")
    return f"{commit}-dirty" if changed else commit


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def machine() -> str:
    """Return a description of the hardware."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{os.cpu_count()}-core CPU, {platform.machine()}, torch {torch.__version__}"


def measured_on() -> dict[str, Any]:
    """Return the entries common to all results: commit, hardware and versions."""
    return {
        "commit": current_commit(),
        "date": date.today().isoformat(),
        "machine": machine(),
        "processor": processor(),
    }


def save(path: Path, content: dict[str, Any]) -> None:
    """Write a result as JSON; create its folder if needed."""
    path.parent.mkdir(parents=True, exist_ok=True)
    write_atomically((json.dumps(content, indent=1) + "\n").encode(), path)
