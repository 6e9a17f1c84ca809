"""Checks of arguments that losses, targets and metrics share."""

from collections.abc import Iterable

import torch
from torch import Tensor


def spatial_shape(logits: Tensor, *, activation: str) -> tuple[int, ...]:
    """Return (N, *S) of logits (N, C, *S), or raise when they are no such thing."""
    if not logits.is_floating_point():
        raise TypeError(
            f"Expected `logits` to have a floating dtype, but got {logits.dtype}. Class "
            "indices are a target: the call is loss(logits, target)."
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
            "the background a class of its own."
        )
    return (logits.shape[0], *logits.shape[2:])


def pixel_map(
    name: str, tensor: Tensor | None, shape: tuple[int, ...], *, boolean: bool
) -> Tensor | None:
    """Check an optional (N, *S) map of the pixels: bool (`valid`) or floating (`weights`)."""
    if tensor is None:
        return None
    if boolean != (tensor.dtype == torch.bool) or not (boolean or tensor.is_floating_point()):
        wanted = "bool, True where the pixel counts" if boolean else "floating, one weight a pixel"
        raise TypeError(f"Expected `{name}` to be {wanted}, but got dtype {tensor.dtype}.")
    if tuple(tensor.shape) != shape:
        raise ValueError(
            f"Expected `{name}` to have shape (N, *S) = {shape}, but got {tuple(tensor.shape)}."
        )
    return tensor


def one_of(name: str, value: object, allowed: Iterable[object]) -> None:
    """Raise unless `value` is among the `allowed` settings."""
    allowed = list(allowed)
    if value not in allowed:
        wanted = ", ".join(repr(a) for a in allowed)
        raise ValueError(f"Expected `{name}` to be one of {wanted}, but got {value!r}.")


def in_range(name: str, value: float, low: float, high: float = float("inf")) -> None:
    """Raise unless low <= `value` <= high."""
    if not low <= value <= high:
        wanted = f"at least {low}" if high == float("inf") else f"in [{low}, {high}]"
        raise ValueError(f"Expected `{name}` to be {wanted}, but got {value}.")
