"""Several processes, as torchrun or srun starts them: which one this is, and what they share."""

import atexit
import ctypes
import os
import signal
import sys
from contextlib import suppress
from typing import TypeVar

T = TypeVar("T")
_DEATH_SIGNAL = 1  # PR_SET_PDEATHSIG of prctl.h


def by_srun() -> bool:
    """Return whether srun has started several processes, without torchrun in each of them."""
    several = int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1
    return several and "RANK" not in os.environ


def rank() -> int:
    """Return the number of this process among all."""
    return int(os.environ.get("SLURM_PROCID" if by_srun() else "RANK", 0))


def local_rank() -> int:
    """Return the number of this process on its machine."""
    return int(os.environ.get("SLURM_LOCALID" if by_srun() else "LOCAL_RANK", 0))


def world_size() -> int:
    """Return the number of processes that work together."""
    return int(os.environ.get("SLURM_STEP_NUM_TASKS" if by_srun() else "WORLD_SIZE", 1))


def is_first() -> bool:
    """Return whether this process is the one that writes files and prints lines."""
    return rank() == 0


def are_several() -> bool:
    """Return whether other processes work together with this one."""
    return world_size() > 1


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def end_with_parent() -> None:
    """Let the system end this process when the one that started it ends, however that happens."""
    if sys.platform.startswith("linux"):
        with suppress(AttributeError):
            ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)


def connect() -> None:
    """Connect the processes until they end, for `joined` and for training; all have to call it.

    Before Lightning does, which could find addresses of processes before an elastic restart.
    """
    from torch import accelerator, distributed
    from torch.distributed.distributed_c10d import PrefixStore
    from torch.distributed.rendezvous import rendezvous

    if not are_several() or distributed.is_initialized():
        return
    if by_srun():
        from lightning_fabric.plugins.environments.slurm import SLURMEnvironment

        cluster = SLURMEnvironment(auto_requeue=False)
        os.environ["MASTER_ADDR"] = cluster.main_address
        os.environ["MASTER_PORT"] = str(cluster.main_port)
    if accelerator.is_available():
        accelerator.set_device_index(local_rank() % max(1, accelerator.device_count()))
    store, *_ = next(rendezvous("env://", rank(), world_size()))
    attempt = os.environ.get("TORCHELASTIC_RESTART_COUNT", "0")
    store = PrefixStore(f"softiou, attempt {attempt}", store)
    distributed.init_process_group(store=store, rank=rank(), world_size=world_size())
    atexit.register(distributed.destroy_process_group)


def own_share(number: int) -> range:
    """Return which of `number` items are those of this process: every one behind the other's."""
    return range(rank(), number, world_size())


def joined(own: list[T]) -> list[T]:
    """Return the items of all processes in order, from those of each one's `own_share`."""
    if not are_several():
        return own
    from torch import distributed

    parts: list[list[T]] = [[]] * world_size()
    distributed.all_gather_object(parts, own)
    longest = max(map(len, parts))
    return [part[index] for index in range(longest) for part in parts if index < len(part)]
