"""Statistics of the images of several processes, as if they were one batch.

The loss is a function of all images' statistics and not a mean of the processes' losses, so what
travels is the matrix (N, C) of each, a few kilobytes.
"""

from dataclasses import fields, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from softiou.overlap.statistics import OverlapStatistics


def gather_images(statistics: OverlapStatistics, group: Any = "world") -> OverlapStatistics:
    """Put the images of all processes below each other, in the order of their ranks.

    The value is the same in every process. The gradient goes to this process's own images, and is
    the number of processes times as large: averaged over the processes, as
    DistributedDataParallel does, it is exactly that of the joined batch.

    Args:
        statistics: Of this process's images (N_r, C); N_r may differ, and may be 0.
        group: The processes; "world" for all.

    Returns:
        Statistics (sum of N_r, C).

    Raises:
        RuntimeError: torch.distributed is not initialised.
    """
    if not dist.is_initialized():
        raise RuntimeError(
            "The loss was given a `process_group`, but torch.distributed is not initialised. Call "
            "torch.distributed.init_process_group first, or leave `process_group` out."
        )
    group = dist.group.WORLD if group == "world" else group
    size, rank = dist.get_world_size(group), dist.get_rank(group)
    counts = _all(torch.tensor([len(statistics.P)], device=statistics.P.device), size, group)
    images = [int(count) for count in torch.cat(counts).tolist()]
    # All fields side by side, (N_r, C) and (N_r,) alike: one exchange instead of eight.
    names = [f.name for f in fields(statistics) if getattr(statistics, f.name) is not None]
    own = [getattr(statistics, name) for name in names]
    columns = [x.reshape(len(x), x.shape[1:].numel()) for x in own]
    table = torch.cat([column.detach() for column in columns], 1)
    padded = table.new_zeros(max(images), table.shape[1])
    padded[: len(table)] = table
    parts = [part[:n] for part, n in zip(_all(padded, size, group), images, strict=True)]
    split = [torch.split(part, [column.shape[1] for column in columns], 1) for part in parts]
    joined: dict[str, Tensor] = {}
    for index, (name, x) in enumerate(zip(names, own, strict=True)):
        of_ranks = [one[index].reshape(-1, *x.shape[1:]) for one in split]
        of_ranks[rank] = _with_scaled_gradient(x, size)
        joined[name] = torch.cat(of_ranks)
    return replace(statistics, **joined)


def _with_scaled_gradient(x: Tensor, factor: int) -> Any:
    """Return the same value with a multiple of its gradient."""
    scaled: Any = x.view_as(x)
    if scaled.requires_grad:
        scaled.register_hook(lambda gradient: factor * gradient)
    return scaled


def _all(own: Tensor, size: int, group: Any) -> list[Tensor]:
    """Collect equally shaped tensors of all processes."""
    parts = [torch.empty_like(own) for _ in range(size)]
    dist.all_gather(parts, own.contiguous(), group=group)
    return parts
