"""Device and precision of models."""

from contextlib import AbstractContextManager
from typing import Literal

import torch

from softiou._processes import are_several, local_rank

Precision = Literal["bf16", "fp16", "fp32"]
_DTYPES = {"bf16": torch.bfloat16, "fp16": torch.float16}


def best_device() -> torch.device:
    """Return the accelerator of this process, or the CPU.

    Each process of a machine uses one accelerator, by local rank.
    """
    accelerator = torch.accelerator.current_accelerator(check_available=True)
    if accelerator is None or not are_several():
        return accelerator or torch.device("cpu")
    # A launcher may restrict each process to a single accelerator.
    count = max(1, torch.accelerator.device_count())
    return torch.device(accelerator.type, local_rank() % count)


def best_precision(device: torch.device) -> Precision:
    """Return the fastest precision with hardware support that is safe for inference."""
    if device.type == "cuda":
        return "bf16" if torch.cuda.is_bf16_supported(including_emulation=False) else "fp16"
    if device.type == "cpu" and torch.ops.mkldnn._is_mkldnn_bf16_supported():
        return "bf16"
    return "fp32"


def emulation(device: torch.device, precision: Precision) -> list[str]:
    """Return a warning if the CPU only emulates a precision, in a list."""
    if device.type != "cpu" or precision == "fp32" or best_precision(device) == precision:
        return []
    return [f"precision: {precision} is emulated on this CPU, up to 15 times slower than fp32"]


def autocast(device: torch.device, precision: Precision) -> AbstractContextManager[object]:
    """Return the autocast context of a precision."""
    dtype = _DTYPES.get(precision, torch.float32)
    return torch.autocast(device.type, dtype=dtype, enabled=precision != "fp32")
