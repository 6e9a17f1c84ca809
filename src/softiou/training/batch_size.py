"""Find the largest batch size that fits in GPU memory, by running trial steps."""

import gc
from collections.abc import Callable

import torch

from softiou._cache import recall, remember
from softiou._processes import connect
from softiou.errors import ConfigError
from softiou.overlap.processes import of_all, place

SHARE = 0.8  # of the free memory; the rest is for validation and the exchange of gradients


def largest_batch(
    step: Callable[[int], None], device: torch.device, *, free: int, most: int, usual: int, key: str
) -> int:
    """Return the largest of 2, 4, 8, ..., `most` whose step fits in `SHARE` of the free bytes.

    The result is cached under `key`; with several processes it is the minimum of all. The trials
    run before the processes are connected, so that one which runs out of memory does not block the
    others. If they are already connected, `usual` is used instead of trials.
    """
    found, name = 2, torch.cuda.get_device_name(device) if device.type == "cuda" else device
    key = f"batch size {most}, {name}, {free >> 30} GiB, {torch.__version__}, {key}"
    if known := recall(key):
        found = int(known)
    elif place()[1] > 1:
        found = usual
    else:
        while found < most and _bytes_of(step, min(2 * found, most), device) <= SHARE * free:
            found = min(2 * found, most)
        remember(key, str(found).encode())
    connect()
    return int(of_all(torch.tensor(found, device=device), "min"))


def _bytes_of(step: Callable[[int], None], size: int, device: torch.device) -> float:
    """Return the peak memory of a step in bytes, infinity if it runs out of memory."""
    if device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(device)
    try:
        step(size)
        return torch.cuda.max_memory_reserved(device) if device.type == "cuda" else 0
    except ConfigError as error:
        if isinstance(error.__cause__, torch.OutOfMemoryError):
            return float("inf")
        raise
    finally:
        gc.collect()
        torch.cuda.empty_cache()


def free_memory(device: torch.device) -> int:
    """Return the free bytes of a GPU; 0 for other devices."""
    return torch.cuda.mem_get_info(device)[0] if device.type == "cuda" else 0
