"""Rank, world size and communication of processes started by torchrun or srun."""

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
    """Return whether srun started several processes without torchrun."""
    several = int(os.environ.get("SLURM_STEP_NUM_TASKS", 1)) > 1
    return several and "RANK" not in os.environ


def rank() -> int:
    """Return the rank of this process."""
    return int(os.environ.get("SLURM_PROCID" if by_srun() else "RANK", 0))


def local_rank() -> int:
    """Return the rank of this process on its machine."""
    return int(os.environ.get("SLURM_LOCALID" if by_srun() else "LOCAL_RANK", 0))


def world_size() -> int:
    """Return the number of processes."""
    return int(os.environ.get("SLURM_STEP_NUM_TASKS" if by_srun() else "WORLD_SIZE", 1))


def is_first() -> bool:
    """Return whether this is rank 0, which writes files and prints messages."""
    return rank() == 0


def are_several() -> bool:
    """Return whether there are several processes."""
    return world_size() > 1


def cores() -> int:
    """Return the number of cores that this process may use."""
    if hasattr(os, "sched_getaffinity"):
        return len(os.sched_getaffinity(0))
    return os.cpu_count() or 1


def loading_processes() -> int:
    """Return how many processes load the data of this one: one less than its share of cores."""
    share = cores() // int(os.environ.get("LOCAL_WORLD_SIZE", 1))
    if by_srun():  # which may, or may not, bind each process to the cores that it requested
        share = min(cores(), int(os.environ.get("SLURM_CPUS_PER_TASK", cores())))
    return max(0, min(16, share - 1))


def end_with_parent() -> None:
    """Ask the system to kill this process when its parent process ends."""
    if sys.platform.startswith("linux"):
        with suppress(AttributeError):
            ctypes.CDLL(None).prctl(_DEATH_SIGNAL, signal.SIGKILL)


def connect() -> None:
    """Initialise the process group, for `joined` and training; all processes must call it.

    Lightning's own initialisation could use addresses from before an elastic restart.
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
    """Return the indices of this rank's items among `number` items, in round-robin order."""
    return range(rank(), number, world_size())


def joined(own: list[T]) -> list[T]:
    """Gather the items of all processes, in the order before `own_share` divided them."""
    if not are_several():
        return own
    from torch import distributed

    parts: list[list[T]] = [[]] * world_size()
    distributed.all_gather_object(parts, own)
    longest = max(map(len, parts))
    return [part[index] for index in range(longest) for part in parts if index < len(part)]
