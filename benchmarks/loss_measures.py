"""Measurements of `benchmarks.loss`: interleaved times, peak memory, bandwidth."""

import ctypes
import gc
import random
import re
import time
from collections.abc import Callable, Mapping
from concurrent.futures import ProcessPoolExecutor
from multiprocessing import get_context
from pathlib import Path
from statistics import median

import torch

from benchmarks.loss_cases import Run, Workload, prepare

# Large enough that threads are used and every contender takes its usual code path.
WARM_UP_PX = 128
WARM_UP_RUNS = 2


def interleaved_seconds(
    runs: Mapping[str, Run], *, rounds: int, device: str
) -> dict[str, list[float]]:
    """Measure every run once per round, so that a slow moment of the machine affects all.

    The order is random in each round, because a run affects the next one through the caches and the
    free memory of the kernel.

    Returns:
        The seconds of every round by name; values of the same round can be compared in pairs.
    """
    clock = _clock(device)
    for run in runs.values():
        for _ in range(WARM_UP_RUNS):
            run()
    seconds: dict[str, list[float]] = {name: [] for name in runs}
    chance = random.Random(0)
    for _ in range(rounds):
        for name in chance.sample(list(runs), len(runs)):
            seconds[name].append(clock(runs[name]))
    return seconds


def _clock(device: str) -> Callable[[Run], float]:
    if device == "cpu":
        return _cpu_seconds
    # Larger than any cache: writing it evicts the logits from the caches before each run.
    flush = torch.empty(2**28, dtype=torch.uint8, device=device)
    return lambda run: _cuda_seconds(run, flush)


def _cpu_seconds(run: Run) -> float:
    start = time.perf_counter()
    run()
    return time.perf_counter() - start


def _cuda_seconds(run: Run, flush: torch.Tensor) -> float:
    start = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    end = torch.cuda.Event(enable_timing=True)  # type: ignore[no-untyped-call]
    flush.zero_()
    start.record()
    run()
    end.record()
    end.synchronize()
    return float(start.elapsed_time(end)) / 1000


def peak_extra_bytes(workload: Workload, contender: str, *, threads: int) -> int:
    """Return the additional peak memory of a run.

    On the CPU in a new process, because free memory in the allocator would hide growth.
    """
    if workload.device != "cpu":
        return _cuda_peak(prepare(workload)[contender])
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(_cpu_peak, workload, contender, threads).result()


def _cpu_peak(workload: Workload, contender: str, threads: int) -> int:
    """Measure in this process, which must be new (Linux only).

    The kernel records the peak of the resident memory, so sampling is not needed.
    """
    torch.set_num_threads(threads)
    warm_up = prepare(workload.resized(WARM_UP_PX))[contender]
    for _ in range(WARM_UP_RUNS):
        warm_up()
    del warm_up
    run = prepare(workload)[contender]
    _give_back_free_memory()
    Path("/proc/self/clear_refs").write_text("5")  # reset the peak memory
    before = _status_bytes("VmRSS")
    run()
    return max(0, _status_bytes("VmHWM") - before)


def _give_back_free_memory() -> None:
    """Return free memory to the system, so that its reuse by the run is measured."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)


def _status_bytes(field: str) -> int:
    found = re.search(rf"{field}:\s+(\d+) kB", Path("/proc/self/status").read_text())
    if found is None:
        raise RuntimeError(f"/proc/self/status has no {field}: memory is measured on Linux alone.")
    return int(found[1]) * 1024


def _cuda_peak(run: Run) -> int:
    for _ in range(WARM_UP_RUNS):
        run()
    torch.cuda.synchronize()
    torch.cuda.reset_peak_memory_stats()
    before = torch.cuda.memory_allocated()
    run()
    torch.cuda.synchronize()
    return torch.cuda.max_memory_allocated() - before


def bytes_of_a_pass(workload: Workload) -> int:
    """Return the minimum number of bytes that forward and backward read and write.

    Both read logits and target, and backward writes the gradient. The floor has no target.
    """
    if workload.case == "floor":
        return 3 * workload.logits_bytes
    pixels = workload.num_images * workload.size[0] * workload.size[1]
    target = workload.logits_bytes if workload.case == "dense" else 8 * pixels  # int64
    return 3 * workload.logits_bytes + 2 * target


def copy_bandwidth(device: str) -> float:
    """Measure the bandwidth of a large copy in bytes per second, reads plus writes."""
    source = torch.ones(2**30, dtype=torch.uint8, device=device)
    sink = torch.empty_like(source)

    def run() -> None:
        sink.copy_(source)

    seconds = interleaved_seconds({"copy": run}, rounds=20, device=device)["copy"]
    return 2 * source.numel() / median(seconds)
