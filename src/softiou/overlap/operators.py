"""The pass as one differentiable operation, and the choice of its implementation.

In eager mode it is an `autograd.Function`. When torch traces the program (torch.compile, export,
fake tensors), a custom operator is used instead, which is a single opaque node of the graph. Both
have a first-order gradient with respect to the logits.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.utils._python_dispatch import is_in_torch_dispatch_mode

from softiou._native import warn_once
from softiou.overlap import chunked, native, triton
from softiou.overlap.job import Job, Sums
from softiou.overlap.settings import PassSettings
from softiou.targets.base import pack, unpack


@dataclass(frozen=True)
class Implementation:
    """An implementation of the pass."""

    gather: Callable[[Job], Sums]  # computes the sums
    # Computes the gradient of the logits from that of the masses, (5 K or 7 K, N, C).
    gradient: Callable[[Job, Tensor], Tensor]
    # Returns why it does not support a job; None if it does.
    unsupported_reason: Callable[[Job], str | None]


# Fastest first.
IMPLEMENTATIONS: dict[str, Implementation] = {
    "native": Implementation(native.gather, native.gradient, native.unsupported_reason),
    "triton": Implementation(triton.gather, triton.gradient, triton.unsupported_reason),
    "chunked": Implementation(chunked.gather, chunked.gradient, lambda job: None),
}


def gather(job: Job, tensors: Sequence[Tensor]) -> Sums:
    """Compute the sums of a job, differentiable with respect to the logits."""
    if is_traced(job.logits, tensors):
        masses, maxima, weight = torch.ops.softiou.overlap_sums(*_pack(job))
        return Sums(masses, maxima if job.settings.maxima else None, weight)
    return Sums(*_Gather.apply(job.logits, job, _choose(job), *tensors))


def is_traced(logits: Tensor, tensors: Sequence[Tensor]) -> bool:
    """Whether the operators are recorded by torch, or a tensor is of a subclass."""
    return (
        torch.compiler.is_compiling()
        or is_in_torch_dispatch_mode()
        or any(type(x) not in (Tensor, nn.Parameter) for x in (logits, *tensors))
    )


def served_by(job: Job) -> tuple[str, dict[str, str]]:
    """Return the implementation that "auto" chooses, and why faster ones are not supported."""
    reasons: dict[str, str] = {}
    for name, one in IMPLEMENTATIONS.items():
        if (reason := one.unsupported_reason(job)) is None:
            return name, reasons
        reasons[name] = reason
    raise RuntimeError("Expected one implementation to support every job.")


def _choose(job: Job) -> Implementation:
    """Return the requested implementation, or for "auto" the first that supports the job.

    This happens at run time, because memory layouts are not known while a graph is traced.
    """
    impl = job.settings.impl
    if impl == "auto":
        if job.logits.device.type == "cuda" and not triton.is_installed():
            warn_once(
                "Triton is not installed, so the overlap losses use impl='chunked', which is "
                "slower on a GPU: pip install triton"
            )
        elif job.logits.device.type == "cpu" and isinstance(reason := native.library(), str):
            warn_once(
                f"The overlap losses use impl='chunked', which is 3 to 7 times slower: {reason}"
            )
        return IMPLEMENTATIONS[served_by(job)[0]]
    chosen = IMPLEMENTATIONS[impl]
    if (reason := chosen.unsupported_reason(job)) is not None:
        raise ValueError(f"impl={impl!r} does not support this: {reason} Use 'auto' or 'chunked'.")
    return chosen


def without_autocast(step: Callable[..., Any], job: Job, *arguments: Any) -> Any:
    """Run a function with autocast disabled."""
    device = job.logits.device.type
    # Entering the context takes as long as an operator, and autocast does not support "meta".
    if device == "meta" or not torch.is_autocast_enabled(device):
        return step(job, *arguments)
    with torch.autocast(device, enabled=False):
        return step(job, *arguments)


def _gathered(job: Job, chosen: Implementation) -> Sums:
    """Compute the sums, and by default check the targets and weights on the CPU."""
    unchecked = job.settings.validate is None and job.logits.device.type == "cpu"
    if unchecked and chosen.gather is not native.gather:
        job.validate(plain_kinds_only=True)
    sums: Sums = without_autocast(chosen.gather, job)
    if unchecked and job.cache.get("invalid"):  # the compiled code has found invalid contents
        job.validate()
    return sums


class _Gather(torch.autograd.Function):
    """Computes the sums of a job; the masses have a gradient."""

    @staticmethod
    def forward(
        ctx: Any, logits: Tensor, job: Job, chosen: Implementation, *tensors: Tensor
    ) -> Any:
        """Compute the sums; the tensors are arguments so that autograd detects changes to them."""
        # Saved in this way, the logits are freed as soon as the gradient has been computed.
        ctx.save_for_backward(logits, *tensors)
        ctx.rest = job.targets, job.size, job.settings, job.valid, job.weights
        ctx.chosen, ctx.cache = chosen, job.cache
        masses, maxima, weight = _gathered(job, chosen)
        ctx.set_materialize_grads(False)
        ctx.mark_non_differentiable(weight, *(() if maxima is None else (maxima,)))
        return masses, maxima, weight

    @staticmethod
    def backward(ctx: Any, cotangents: Tensor | None, *_: Any) -> Any:
        """Return the gradient of the logits."""
        if cotangents is None:
            return (None,) * (3 + len(ctx.saved_tensors) - 1)
        logits, *tensors = ctx.saved_tensors
        job = Job(logits, *ctx.rest)
        job.cache.update(ctx.cache)
        if torch.is_grad_enabled():  # a second-order gradient may be requested
            found = _Gradient.apply(cotangents, job, ctx.chosen, logits)
        else:
            found = without_autocast(ctx.chosen.gradient, job, cotangents)
        return found, None, None, *(None for _ in tensors)


class _Gradient(torch.autograd.Function):
    """Computes the gradient of the logits; raises if its own gradient is requested."""

    @staticmethod
    def forward(
        ctx: Any, cotangents: Tensor, job: Job, chosen: Implementation, *watched: Tensor
    ) -> Any:
        """Compute the gradient; `watched` are tensors that may require a second-order gradient."""
        return without_autocast(chosen.gradient, job, cotangents)

    @staticmethod
    def backward(ctx: Any, *gradients: Any) -> Any:
        """Raise a RuntimeError."""
        raise RuntimeError(
            "The overlap losses have a gradient of first order only. For a gradient of the "
            "gradient, use impl='torch'."
        )


# Custom operators accept only tensors and plain values, so the job is passed as a list of tensors
# and a text (see `softiou.targets.base.pack`).


def _pack(job: Job) -> tuple[Tensor, list[Tensor], list[int], str]:
    """Convert a job to the arguments of the operator."""
    tensors: list[Tensor] = []
    text = pack((job.targets, job.valid, job.weights, job.settings.packed), tensors)
    return job.logits, tensors, list(job.size), text


def _unpack(logits: Tensor, tensors: Sequence[Tensor], size: Sequence[int], text: str) -> Job:
    targets, valid, weights, packed = unpack(json.loads(text), tensors, tuple(size))
    settings = PassSettings(*json.loads(packed))
    return Job(logits, targets, tuple(size), settings, valid, weights)


_GATHER = (
    "softiou::overlap_sums",
    "(Tensor logits, Tensor[] tensors, SymInt[] size, str text) -> (Tensor, Tensor, Tensor)",
)
_GRADIENT = (
    "softiou::overlap_gradient",
    "(Tensor cotangents, Tensor logits, Tensor[] tensors, SymInt[] size, str text) -> Tensor",
)
# Not `torch.library.custom_op`, whose first call imports the compiler, which takes seconds.
for _name, _schema in (_GATHER, _GRADIENT):
    torch.library.define(_name, _schema)


@torch.library.impl(_GATHER[0], "CompositeExplicitAutograd")
def _sums(logits: Tensor, *packed: Any) -> tuple[Tensor, Tensor, Tensor]:
    job = _unpack(logits, *packed)
    masses, maxima, weight = _gathered(job, _choose(job))
    K = len(weight)
    return masses, torch.zeros_like(masses[: 2 * K]) if maxima is None else maxima, weight


@torch.library.impl(_GRADIENT[0], "CompositeExplicitAutograd")
def _gradient(cotangents: Tensor, logits: Tensor, *packed: Any) -> Tensor:
    job = _unpack(logits, *packed)
    found: Tensor = without_autocast(_choose(job).gradient, job, cotangents)
    return found


@torch.library.register_fake(_GATHER[0])  # type: ignore[untyped-decorator]
def _(
    logits: Tensor, tensors: Sequence[Tensor], size: Sequence[int], text: str
) -> tuple[Tensor, Tensor, Tensor]:
    dtype = torch.promote_types(logits.dtype, torch.float32)
    targets, _, _, packed = json.loads(text)
    K, (N, C) = len(targets), logits.shape[:2]
    rows = 7 if PassSettings(*json.loads(packed)).cross_entropy else 5
    return (
        logits.new_empty((rows * K, N, C), dtype=dtype),
        logits.new_empty((2 * K, N, C), dtype=dtype),
        logits.new_empty((K, N), dtype=dtype),
    )


@torch.library.register_fake(_GRADIENT[0])  # type: ignore[untyped-decorator]
def _(cotangents: Tensor, logits: Tensor, *_: Any) -> Tensor:
    return torch.empty_like(logits)


def _keep(ctx: Any, inputs: tuple[Any, ...], output: Any) -> None:
    logits, tensors, *ctx.rest = inputs
    ctx.save_for_backward(logits, *tensors)


def _backward(ctx: Any, cotangents: Tensor, *_: Any) -> tuple[Any, ...]:
    logits, *tensors = ctx.saved_tensors
    found = torch.ops.softiou.overlap_gradient(cotangents, logits, tensors, *ctx.rest)
    return found, [None] * len(tensors), None, None


torch.library.register_autograd(_GATHER[0], _backward, setup_context=_keep)
torch.library.register_autograd(_GRADIENT[0], _Gradient.backward)
