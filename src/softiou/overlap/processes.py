"""Statistics of the images of several processes, as if they were one batch, and other sums.

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


def sum_of(x: Tensor, group: Any = "world") -> Tensor:
    """Return the sum over processes, whose gradient is the sum of their gradients."""
    total: Tensor = _Sum.apply(x, dist.group.WORLD if group == "world" else group)
    return total


class _Sum(torch.autograd.Function):  # torch's own is deprecated
    @staticmethod
    def forward(ctx: Any, x: Tensor, group: Any) -> Tensor:
        ctx.group, total = group, x.clone()
        dist.all_reduce(total, group=group)
        return total

    @staticmethod
    def backward(ctx: Any, gradient: Tensor) -> tuple[Tensor, None]:
        return _Sum.forward(ctx, gradient, ctx.group), None


def place() -> tuple[int, int]:
    """Return the rank of this process, and how many are connected."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def of_all(x: Tensor, how: str = "sum") -> Tensor:
    """Return the sum, min or max over the connected processes, without a gradient; in place."""
    if place()[1] > 1:
        dist.all_reduce(x, getattr(dist.ReduceOp, how.upper()))
    return x


def of_rank_before(x: Tensor) -> Tensor:
    """Return the tensor of the process before this one, the last for the first; shapes agree."""
    rank, size = place()
    sent, received = x.contiguous(), torch.empty_like(x, memory_format=torch.contiguous_format)
    send = dist.P2POp(dist.isend, sent, (rank + 1) % size)
    receive = dist.P2POp(dist.irecv, received, (rank - 1) % size)
    for exchange in dist.batch_isend_irecv([send, receive]):
        exchange.wait()
    return received


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
