"""Record the versions, the hardware and the number of parameters of a run."""

import json
from pathlib import Path

import torch
from torch import nn

import softiou
from softiou._files import write_atomically
from softiou.environment import commit, devices
from softiou.inference import best_device

FILE = "environment.json"


def save_environment(model: nn.Module, run: Path) -> None:
    """Write environment.json into a run directory, for its report and model card."""
    content = {
        "softiou": softiou.__version__,
        "commit": commit(),
        "torch": torch.__version__,
        "hardware": devices()[best_device().type],
        "parameters": sum(x.numel() for x in model.parameters()),
    }
    write_atomically(json.dumps(content, indent=1).encode(), run / FILE)
