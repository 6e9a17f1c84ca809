"""Exchange statistics and sums between processes, so that their images form one batch.

The loss is computed from the statistics of all images, not as a mean of the losses of the
processes. Each process sends its statistics (N, C), a few kilobytes.
"""

from dataclasses import fields, replace
from typing import Any

import torch
import torch.distributed as dist
from torch import Tensor

from softiou.overlap.statistics import OverlapStatistics


def gather_images(statistics: OverlapStatistics, group: Any = "world") -> OverlapStatistics:
    """Concatenate the statistics of the images of all processes, in the order of their ranks.

    The value is the same in every process. The gradient flows to the images of this process, and is
    multiplied by the number of processes: averaged over the processes, as
    DistributedDataParallel does, it is exactly that of the joint batch.

    Args:
        statistics: Statistics of the images of this process (N_r, C); N_r may differ or be 0.
        group: Process group; "world" for all processes.

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
    # Concatenate all fields, (N_r, C) and (N_r,), so that one exchange is enough.
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
    """Sum a tensor over the processes; its gradient is the sum of their gradients."""
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
    """Return the rank of this process and the number of connected processes."""
    return (dist.get_rank(), dist.get_world_size()) if dist.is_initialized() else (0, 1)


def of_all(x: Tensor, how: str = "sum") -> Tensor:
    """Reduce a tensor over the connected processes ("sum", "min", "max"), in place, no gradient."""
    if place()[1] > 1:
        dist.all_reduce(x, getattr(dist.ReduceOp, how.upper()))
    return x


def of_rank_before(x: Tensor) -> Tensor:
    """Return the tensor of the previous rank (for rank 0, the last); shapes must be equal."""
    rank, size = place()
    sent, received = x.contiguous(), torch.empty_like(x, memory_format=torch.contiguous_format)
    send = dist.P2POp(dist.isend, sent, (rank + 1) % size)
    receive = dist.P2POp(dist.irecv, received, (rank - 1) % size)
    for exchange in dist.batch_isend_irecv([send, receive]):
        exchange.wait()
    return received


def _with_scaled_gradient(x: Tensor, factor: int) -> Any:
    """Return the tensor unchanged, but multiply its gradient by a factor."""
    scaled: Any = x.view_as(x)
    if scaled.requires_grad:
        scaled.register_hook(lambda gradient: factor * gradient)
    return scaled


def _all(own: Tensor, size: int, group: Any) -> list[Tensor]:
    """Gather the tensors of all processes, which have the same shape."""
    parts = [torch.empty_like(own) for _ in range(size)]
    dist.all_gather(parts, own.contiguous(), group=group)
    return parts
