"""Several processes, as torchrun starts them: how many there are, and which one prints."""

import os
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import torch


def is_first() -> bool:
    """Return whether this process is the one that writes files and prints lines."""
    return int(os.environ.get("RANK", 0)) == 0


def are_several() -> bool:
    """Return whether other processes train together with this one."""
    return int(os.environ.get("WORLD_SIZE", 1)) > 1


def trainer_settings() -> dict[str, Any]:
    """Return how Lightning's trainer is to use the processes: one device each."""
    if not are_several():
        return {"devices": 1}
    world_size = int(os.environ["WORLD_SIZE"])
    here = int(os.environ.get("LOCAL_WORLD_SIZE", world_size))
    return {"devices": here, "num_nodes": world_size // here, "strategy": "ddp"}


@contextmanager
def own_process_group() -> Iterator[None]:
    """While entered, Lightning may connect the processes; after it each is alone again."""
    before = torch.distributed.is_initialized()
    try:
        yield
    finally:
        if torch.distributed.is_initialized() and not before:
            torch.distributed.destroy_process_group()
