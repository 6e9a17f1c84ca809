"""What a run was trained with: versions, hardware and the number of parameters."""

import json
import platform
import subprocess
from pathlib import Path

import torch
from torch import nn

import softiou
from softiou._files import write_atomically
from softiou.inference import best_device

FILE = "environment.json"


def save_environment(model: nn.Module, run: Path) -> None:
    """Write environment.json into a run directory, for its report and model card."""
    content = {
        "softiou": softiou.__version__,
        "commit": _commit(),
        "torch": torch.__version__,
        "hardware": _hardware(),
        "parameters": sum(x.numel() for x in model.parameters()),
    }
    write_atomically(json.dumps(content, indent=1).encode(), run / FILE)


def _hardware() -> str:
    """Name the accelerator, or the processor and its threads."""
    device = best_device()
    if device.type == "cuda":
        return torch.cuda.get_device_name(device)
    if device.type != "cpu":
        return device.type
    threads = torch.get_num_threads()
    return f"{_processor()}, {threads} thread{'s' * (threads > 1)}"


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:  # not Linux
        lines = []
    names = (line.partition(":")[2].strip() for line in lines if line.startswith("model name"))
    return next(names, platform.processor() or platform.machine())


def _commit() -> str | None:
    """Return the commit of softiou; None where it does not run from a clone, or without git."""
    root = Path(softiou.__file__).parents[2]
    if not (root / ".git").exists():
        return None
    command = ["git", "-C", str(root), "describe", "--always", "--dirty", "--abbrev=12"]
    try:
        done = subprocess.run(command, capture_output=True, text=True, check=True, timeout=10)
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip()
