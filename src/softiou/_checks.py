"""Argument checks shared by losses, targets and metrics."""

from collections.abc import Iterable, Sequence
from math import inf
from operator import index
from typing import Any

import torch
from torch import Tensor


def spatial_shape(logits: Tensor, *, activation: str) -> tuple[int, ...]:
    """Return (N, *S) of logits (N, C, *S); raise for invalid logits."""
    dense_tensor("logits", logits)
    if not logits.is_floating_point():
        raise TypeError(
            f"Expected `logits` to have a floating dtype, but got {logits.dtype}. Class indices "
            "are a target: call loss(logits, target)."
        )
    if logits.ndim < 3:
        raise ValueError(
            f"Expected `logits` to have shape (N, C, *S) with at least one spatial dimension, but "
            f"got {tuple(logits.shape)}. Add the missing dimension with `unsqueeze`."
        )
    if logits.shape[1] == 0:
        raise ValueError(
            f"Expected `logits` to have at least one class, but got {tuple(logits.shape)}. The "
            "classes are the second dimension."
        )
    if activation == "softmax" and logits.shape[1] == 1:
        raise ValueError(
            f"A softmax over one class is always 1, so the loss would be constant; got `logits` of "
            f"shape {tuple(logits.shape)}. Use activation='sigmoid' for a binary problem, or give "
            "the background its own class."
        )
    return (logits.shape[0], *logits.shape[2:])


def pixel_map(
    name: str, tensor: Tensor | None, shape: tuple[int, ...], *, boolean: bool
) -> Tensor | None:
    """Check an optional pixel map (N, *S): bool (`valid`) or floating (`weights`)."""
    if tensor is None:
        return None
    dense_tensor(name, tensor)
    if boolean != (tensor.dtype == torch.bool) or not (boolean or tensor.is_floating_point()):
        wanted = "bool, True for valid pixels" if boolean else "floating, one weight a pixel"
        raise TypeError(f"Expected `{name}` to be {wanted}, but got dtype {tensor.dtype}.")
    if tuple(tensor.shape) != shape:
        raise ValueError(
            f"Expected `{name}` to have shape (N, *S) = {shape}, but got {tuple(tensor.shape)}."
            + without_channel(tuple(tensor.shape), shape)
        )
    return tensor


def without_channel(got: tuple[int, ...], shape: tuple[int, ...]) -> str:
    """Return the way out for an error message if (N, 1, *S) was given instead of (N, *S)."""
    return " Use `squeeze(1)`." if got == (*shape[:1], 1, *shape[1:]) else ""


def dense_tensor(name: str, value: object) -> Tensor:
    """Return a dense tensor; raise for arrays, lists, and sparse or quantised tensors."""
    if not isinstance(value, Tensor):
        raise TypeError(
            f"Expected `{name}` to be a tensor, but got {type(value).__module__}."
            f"{type(value).__qualname__}. Make it one with `torch.as_tensor`."
        )
    if value.layout != torch.strided or value.is_quantized:
        raise TypeError(
            f"Expected `{name}` to be a dense tensor, but got {value.dtype} of layout "
            f"{value.layout}. Use `.to_dense()`, or `.dequantize()`."
        )
    if value.is_complex():
        raise TypeError(
            f"Expected `{name}` to be real, but got {value.dtype}. Take `.real`, or `.abs()`."
        )
    return value


def indices(name: str, values: Any) -> tuple[int, ...]:
    """Return integers from a list, tuple, range, array or tensor; raise for other values."""
    listed = values.tolist() if hasattr(values, "tolist") else values
    try:
        found = tuple(index(value) for value in listed if not isinstance(value, bool))
        whole = len(found) == len(listed)
    except TypeError:
        found, whole = (), False
    if not whole or not found or len(set(found)) < len(found):
        raise ValueError(
            f"Expected `{name}` to be at least one integer, without duplicates, but got "
            f"{values!r}. List each of them once, as [0, 2]."
        )
    return found


def indices_or_none(name: str, value: Any) -> int | tuple[int, ...] | None:
    """Return None, an integer, or a tuple of several integers."""
    if value is None or type(value) is int:
        return value
    several = (
        isinstance(value, Iterable)
        and not isinstance(value, str)
        and bool(getattr(value, "ndim", True))
    )
    found = indices(name, value if several else [value])
    return found if len(found) > 1 else found[0]


def one_label(ignore_index: object) -> None:
    """Raise unless `ignore_index` is one label or None."""
    if not isinstance(ignore_index, (int, type(None))):
        raise TypeError(
            f"Expected `ignore_index` to be one label or None, but got {ignore_index!r}. Merge "
            "several: target.masked_fill(torch.isin(target, torch.tensor(labels)), 255)."
        )


def one_of(name: str, value: object, allowed: Iterable[object]) -> None:
    """Raise unless `value` is one of the `allowed` settings."""
    allowed = list(allowed)
    if not any(isinstance(value, type(a)) and value == a for a in allowed):
        wanted = ", ".join(repr(a) for a in allowed)
        raise ValueError(f"Expected `{name}` to be one of {wanted}, but got {value!r}.")


def in_range(name: str, value: float, low: float, high: float = inf) -> None:
    """Raise unless low <= `value` <= high."""
    try:
        inside = bool(low <= value <= high)
    except (TypeError, ValueError, RuntimeError) as error:
        raise TypeError(f"Expected `{name}` to be a number, but got {value!r}.") from error
    if not inside:
        wanted = f"at least {low}" if high == inf else f"in [{low}, {high}]"
        raise ValueError(f"Expected `{name}` to be {wanted}, but got {value}.")


def whole(name: str, value: object, low: int) -> None:
    """Raise unless `value` is an integer of at least `low`."""
    if not isinstance(value, int) or isinstance(value, bool) or value < low:
        raise ValueError(
            f"Expected `{name}` to be an integer of at least {low}, but got {value!r}."
        )


def finite(name: str, value: float, low: float) -> None:
    """Raise unless `value` is finite and at least `low`."""
    in_range(name, value, low)
    if value == inf:
        raise ValueError(f"Expected `{name}` to be finite, but got {value}.")


def class_weights(name: str, weights: Tensor | Sequence[float] | None) -> Tensor | None:
    """Return class weights (C,) in float32; raise for invalid weights."""
    if weights is None:
        return None
    try:
        found = torch.as_tensor(weights, dtype=torch.float32).detach().clone()
    except (TypeError, ValueError, RuntimeError):
        found = torch.empty(())
    right = found.ndim == 1 and (found >= 0).all() & found.isfinite().all() & (found.sum() > 0)
    if not bool(right):
        raise ValueError(
            f"Expected `{name}` to be one number per class, finite, at least 0 and not all 0, "
            f"but got {getattr(weights, 'tolist', lambda: weights)()}."
        )
    return found
