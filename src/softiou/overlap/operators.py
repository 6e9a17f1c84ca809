"""The pass as operators of torch: opaque to `torch.compile` and `torch.export`, with a gradient.

An operator takes tensors and plain values, so the targets travel as tensors and a text (see
`softiou.targets.base.pack`). The gradient is of first order.
"""

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor

from softiou.overlap import chunked, native, triton
from softiou.overlap.job import Cotangents, Job, Sums
from softiou.targets.base import pack, unpack


@dataclass(frozen=True)
class Implementation:
    """One way to do the pass.

    Attributes:
        gather: Computes the sums.
        gradient: Computes the gradient of the logits from that of the sums.
        unsupported_reason: Says why a job cannot be done; None when it can.
    """

    gather: Callable[[Job], Sums]
    gradient: Callable[[Job, Cotangents], Tensor]
    unsupported_reason: Callable[[Job], str | None]


# In the order of speed.
IMPLEMENTATIONS: dict[str, Implementation] = {
    "native": Implementation(native.gather, native.gradient, native.unsupported_reason),
    "triton": Implementation(triton.gather, triton.gradient, triton.unsupported_reason),
    "chunked": Implementation(chunked.gather, chunked.gradient, lambda job: None),
}


def gather(job: Job, impl: str) -> Sums:
    """Gather the sums of a job, differentiable with respect to the logits."""
    text, tensors = _pack(job)
    return Sums(*torch.ops.softiou.overlap_sums(job.logits, tensors, list(job.size), text, impl))


def _choose(job: Job, impl: str) -> Implementation:
    """Return an implementation by name, or for "auto" the first that can do the job.

    Here and not before: what a tensor's memory looks like is not known while a graph is traced.
    """
    if impl == "auto":
        if job.logits.device.type == "cuda" and not triton.is_installed():
            _say_what_is_missing()
        return next(one for one in IMPLEMENTATIONS.values() if one.unsupported_reason(job) is None)
    chosen = IMPLEMENTATIONS[impl]
    if (reason := chosen.unsupported_reason(job)) is not None:
        raise ValueError(f"impl={impl!r} cannot do this: {reason} Use 'auto' or 'chunked'.")
    return chosen


@cache
def _say_what_is_missing() -> None:
    """Warn once, in one line."""
    warnings.warn(
        "Triton is not installed, so the overlap losses use impl='chunked', which is slower on a "
        "GPU: pip install triton",
        stacklevel=2,
    )


def _pack(job: Job) -> tuple[str, list[Tensor]]:
    """Take all but logits and size apart into a text and tensors."""
    tensors: list[Tensor] = []
    settings = job.activation, job.align_corners, job.cross_entropy, job.maxima, job.tile
    return pack((job.targets, job.valid, job.weights, *settings), tensors), tensors


def _unpack(logits: Tensor, tensors: Sequence[Tensor], size: Sequence[int], text: str) -> Job:
    targets, valid, weights, *settings = unpack(json.loads(text), tensors, tuple(size))
    return Job(logits, targets, tuple(size), valid, weights, *settings)


_GATHER = (
    "softiou::overlap_sums",
    "(Tensor logits, Tensor[] tensors, SymInt[] size, str text, str impl)"
    " -> (Tensor, Tensor, Tensor)",
)
_GRADIENT = (
    "softiou::overlap_gradient",
    "(Tensor masses, Tensor cross_entropy, Tensor logits, Tensor[] tensors, SymInt[] size,"
    " str text, str impl) -> Tensor",
)
# Not `torch.library.custom_op`: its first call imports the compiler, which takes seconds.
for _name, _schema in (_GATHER, _GRADIENT):
    torch.library.define(_name, _schema)


@torch.library.impl(_GATHER[0], "CompositeExplicitAutograd")
def _sums(
    logits: Tensor, tensors: Sequence[Tensor], size: Sequence[int], text: str, impl: str
) -> tuple[Tensor, Tensor, Tensor]:
    with torch.autocast(logits.device.type, enabled=False):
        job = _unpack(logits, tensors, size, text)
        sums = _choose(job, impl).gather(job)
    return sums.masses, sums.maxima, sums.totals


@torch.library.impl(_GRADIENT[0], "CompositeExplicitAutograd")
def _gradient(
    masses: Tensor,
    cross_entropy: Tensor,
    logits: Tensor,
    tensors: Sequence[Tensor],
    size: Sequence[int],
    text: str,
    impl: str,
) -> Tensor:
    with torch.autocast(logits.device.type, enabled=False):
        job = _unpack(logits, tensors, size, text)
        return _choose(job, impl).gradient(job, Cotangents(masses, cross_entropy))


@torch.library.register_fake(_GATHER[0])  # type: ignore[untyped-decorator]
def _(
    logits: Tensor, tensors: Sequence[Tensor], size: Sequence[int], text: str, impl: str
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = torch.promote_types(logits.dtype, torch.float32)
    K, (N, C) = len(json.loads(text)[0]), logits.shape[:2]
    return (
        logits.new_empty((4, K, N, C), dtype=dtype),
        logits.new_empty((2, K, N, C), dtype=dtype),
        logits.new_empty((2, K, N), dtype=dtype),
    )


@torch.library.register_fake(_GRADIENT[0])  # type: ignore[untyped-decorator]
def _(masses: Tensor, cross_entropy: Tensor, logits: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(logits)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    logits, tensors, *ctx.settings = inputs
    ctx.save_for_backward(logits, *tensors)


def _backward(ctx: Any, masses: Tensor, maxima: Tensor, totals: Tensor) -> tuple[Any, ...]:
    logits, *tensors = ctx.saved_tensors
    found = torch.ops.softiou.overlap_gradient(masses, totals[1], logits, tensors, *ctx.settings)
    return found, [None] * len(tensors), None, None, None


def _second(ctx: Any, *_: Any) -> Any:
    raise RuntimeError(
        "The overlap losses have a gradient of first order only. For a gradient of the gradient, "
        "use impl='torch'."
    )


torch.library.register_autograd(_GATHER[0], _backward, setup_context=_keep)
torch.library.register_autograd(_GRADIENT[0], _second)
