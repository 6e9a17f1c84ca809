"""The pass as one differentiable step, and the choice of its implementation.

Eagerly it is an `autograd.Function`. Programs that torch traces (compiled, exported, made of fake
tensors) get an operator instead, which stays one opaque node of the graph. Both have a gradient of
first order, with respect to the logits.
"""

import json
import warnings
from collections.abc import Callable, Sequence
from dataclasses import astuple, dataclass
from functools import cache
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from softiou.overlap import chunked, native, triton
from softiou.overlap.job import Cotangents, Job, Sums
from softiou.overlap.settings import PassSettings
from softiou.targets.base import pack, unpack


@dataclass(frozen=True)
class Implementation:
    """One way to do the pass.

    Attributes:
        gather: Computes the sums.
        gradient: Computes the gradient of the logits from that of the sums.
        unsupported_reason: Returns why it cannot do a job; None when it can.
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


def gather(job: Job, tensors: Sequence[Tensor]) -> tuple[Tensor, ...]:
    """Gather the sums of a job, differentiable with respect to the logits.

    Args:
        job: The pass.
        tensors: Its `tensors`, which the caller has looked at already.

    Returns:
        The rows of `Sums`.
    """
    if _is_traced(job.logits, tensors):
        masses, maxima, totals = torch.ops.softiou.overlap_sums(*_pack(job))
        return Sums(masses, maxima if job.settings.maxima else None, totals).rows()
    rows: tuple[Tensor, ...] = _Gather.apply(job.logits, job, _choose(job), *tensors)
    return rows


def _is_traced(logits: Tensor, tensors: Sequence[Tensor]) -> bool:
    """Whether somebody records the operators, or the tensors have no memory of their own."""
    return (
        torch.compiler.is_compiling()
        or is_in_torch_dispatch_mode()
        or any(type(x) not in (Tensor, nn.Parameter) for x in (logits, *tensors))
    )


def _choose(job: Job) -> Implementation:
    """Return the implementation of the settings, or for "auto" the first that can do the job.

    Here and not before: what a tensor's memory looks like is not known while a graph is traced.
    """
    impl = job.settings.impl
    if impl == "auto":
        if job.logits.device.type == "cuda" and not triton.is_installed():
            _warn_without_triton()
        return next(one for one in IMPLEMENTATIONS.values() if one.unsupported_reason(job) is None)
    chosen = IMPLEMENTATIONS[impl]
    if (reason := chosen.unsupported_reason(job)) is not None:
        raise ValueError(f"impl={impl!r} cannot do this: {reason} Use 'auto' or 'chunked'.")
    return chosen


@cache
def _warn_without_triton() -> None:
    warnings.warn(
        "Triton is not installed, so the overlap losses use impl='chunked', which is slower on a "
        "GPU: pip install triton",
        stacklevel=2,
    )


def _without_autocast(step: Callable[..., Any], job: Job, *arguments: Any) -> Any:
    """Run a step in the dtypes that it asks for."""
    device = job.logits.device.type
    if not torch.is_autocast_enabled(device):  # entering the context costs as much as an operator
        return step(job, *arguments)
    with torch.autocast(device, enabled=False):
        return step(job, *arguments)


class _Gather(torch.autograd.Function):
    """The rows of the sums of a job."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, job: Job, chosen: Implementation, *tensors: Tensor
    ) -> Any:
        """Gather them; the tensors of the job are arguments for autograd to watch over them."""
        # The logits stay where autograd frees them as soon as the gradient is there.
        ctx.save_for_backward(logits, *tensors)
        ctx.rest = job.targets, job.size, job.settings, job.valid, job.weights
        ctx.chosen, ctx.cache = chosen, job.cache
        ctx.set_materialize_grads(False)
        rows = _without_autocast(chosen.gather, job).rows()
        K = len(job.targets)
        ctx.mark_non_differentiable(*rows[4 * K : 5 * K], *rows[6 * K :])
        return rows

    @staticmethod
    def backward(ctx: Any, *gradients: Tensor | None) -> Any:
        """Return the gradient of the logits."""
        logits, *tensors = ctx.saved_tensors
        job = Job(logits, *ctx.rest)
        job.cache.update(ctx.cache)
        K = len(job.targets)
        nothing = logits.new_zeros(logits.shape[:2], dtype=job.dtype)
        masses = torch.stack([nothing if x is None else x for x in gradients[: 4 * K]])
        entropies = [nothing[:, 0] if x is None else x for x in gradients[5 * K : 6 * K]]
        cotangents = Cotangents(masses, torch.stack(entropies))
        if torch.is_grad_enabled():  # a gradient of the gradient is asked for
            found = _Gradient.apply(cotangents, job, ctx.chosen, *cotangents, logits)
        else:
            found = _without_autocast(ctx.chosen.gradient, job, cotangents)
        return found, None, None, *(None for _ in tensors)


class _Gradient(torch.autograd.Function):
    """The gradient of the logits, which has none itself."""

    @staticmethod
    def forward(
        ctx: Any, cotangents: Cotangents, job: Job, chosen: Implementation, *watched: Tensor
    ) -> Any:
        """Compute it; `watched` are the tensors whose gradient somebody may ask for."""
        return _without_autocast(chosen.gradient, job, cotangents)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Raise."""
        raise RuntimeError(
            "The overlap losses have a gradient of first order only. For a gradient of the "
            "gradient, use impl='torch'."
        )


# The operator: tensors and plain values alone, so the job travels as a list of tensors and a text
# (see `softiou.targets.base.pack`).


def _pack(job: Job) -> tuple[Tensor, list[Tensor], list[int], str]:
    """Take a job apart into the arguments of the operator."""
    tensors: list[Tensor] = []
    text = pack((job.targets, job.valid, job.weights, *astuple(job.settings)), tensors)
    return job.logits, tensors, list(job.size), text


def _unpack(logits: Tensor, tensors: Sequence[Tensor], size: Sequence[int], text: str) -> Job:
    targets, valid, weights, *settings = unpack(json.loads(text), tensors, tuple(size))
    return Job(logits, targets, tuple(size), PassSettings(*settings), valid, weights)


_GATHER = (
    "softiou::overlap_sums",
    "(Tensor logits, Tensor[] tensors, SymInt[] size, str text) -> (Tensor, Tensor, Tensor)",
)
_GRADIENT = (
    "softiou::overlap_gradient",
    "(Tensor masses, Tensor cross_entropy, Tensor logits, Tensor[] tensors, SymInt[] size,"
    " str text) -> Tensor",
)
# Not `torch.library.custom_op`: its first call imports the compiler, which takes seconds.
for _name, _schema in (_GATHER, _GRADIENT):
    torch.library.define(_name, _schema)


@torch.library.impl(_GATHER[0], "CompositeExplicitAutograd")
def _sums(logits: Tensor, *packed: Any) -> tuple[Tensor, Tensor, Tensor]:
    job = _unpack(logits, *packed)
    masses, maxima, totals = _without_autocast(_choose(job).gather, job)
    return masses, torch.zeros_like(masses[: len(totals)]) if maxima is None else maxima, totals


@torch.library.impl(_GRADIENT[0], "CompositeExplicitAutograd")
def _gradient(masses: Tensor, cross_entropy: Tensor, logits: Tensor, *packed: Any) -> Tensor:
    job = _unpack(logits, *packed)
    found: Tensor = _without_autocast(_choose(job).gradient, job, Cotangents(masses, cross_entropy))
    return found


@torch.library.register_fake(_GATHER[0])  # type: ignore[untyped-decorator]
def _(
    logits: Tensor, tensors: Sequence[Tensor], size: Sequence[int], text: str
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = torch.promote_types(logits.dtype, torch.float32)
    K, (N, C) = len(json.loads(text)[0]), logits.shape[:2]
    return (
        logits.new_empty((4 * K, N, C), dtype=dtype),
        logits.new_empty((2 * K, N, C), dtype=dtype),
        logits.new_empty((2 * K, N), dtype=dtype),
    )


@torch.library.register_fake(_GRADIENT[0])  # type: ignore[untyped-decorator]
def _(masses: Tensor, cross_entropy: Tensor, logits: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(logits)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    logits, tensors, *ctx.rest = inputs
    ctx.save_for_backward(logits, *tensors)


def _backward(ctx: Any, masses: Tensor, maxima: Tensor, totals: Tensor) -> tuple[Any, ...]:
    logits, *tensors = ctx.saved_tensors
    entropies = totals[len(totals) // 2 :]
    found = torch.ops.softiou.overlap_gradient(masses, entropies, logits, tensors, *ctx.rest)
    return found, [None] * len(tensors), None, None


torch.library.register_autograd(_GATHER[0], _backward, setup_context=_keep)
torch.library.register_autograd(_GRADIENT[0], _Gradient.backward)
