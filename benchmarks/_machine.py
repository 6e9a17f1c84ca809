"""What a figure was measured on: the commit of the code and the hardware."""

import os
import platform
import subprocess
from pathlib import Path

import torch

from softiou.environment import processor as processor

ROOT = Path(__file__).resolve().parents[1]


def current_commit() -> str:
    """Return the commit of the code, marked when the working tree differs in more than results."""
    commit = _git("describe", "--always", "--abbrev=12")
    changed = _git("status", "--porcelain", "--untracked-files=no", ".", ":!benchmarks/results")
    return f"{commit}-dirty" if changed else commit


def _git(*arguments: str) -> str:
    command = ["git", "-C", str(ROOT), *arguments]
    return subprocess.run(command, check=True, capture_output=True, text=True).stdout.strip()


def machine() -> str:
    """Describe the hardware in words."""
    if torch.cuda.is_available():
        return torch.cuda.get_device_name()
    return f"{os.cpu_count()}-core CPU, {platform.machine()}, torch {torch.__version__}"
