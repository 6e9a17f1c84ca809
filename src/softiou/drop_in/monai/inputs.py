"""Convert labels in the shapes of MONAI to targets of softiou.

Shapes: N images, C classes, *S space.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from softiou.targets import DenseTarget, HardTarget, Target, as_target


class Truth(NamedTuple):
    """A target with the valid pixels and the pixel weights (N, *S)."""

    target: Tensor | Target
    valid: Tensor | None = None
    weights: Tensor | None = None


def plain(tensor: Tensor) -> Tensor:
    """Convert a tensor subclass, such as MONAI's MetaTensor, to a plain tensor."""
    return tensor if type(tensor) is Tensor else tensor.as_subclass(Tensor)


def read(
    input: Tensor,
    target: Tensor | Target,
    *,
    to_onehot_y: bool,
    ignore_index: int | None,
    mask: Tensor | None = None,
) -> Truth:
    """Convert a target and a mask of its pixels, (N, *S), (N, 1, *S) or (1, 1, *S)."""
    truth = _read(input, target, to_onehot_y=to_onehot_y, ignore_index=ignore_index)
    if mask is None:
        return truth
    mask = plain(mask).squeeze(1) if mask.ndim == input.ndim else plain(mask)
    mask = mask.expand(len(input), *mask.shape[1:])
    if mask.dtype == torch.bool:
        return truth._replace(valid=mask if truth.valid is None else mask & truth.valid)
    mask = mask if mask.is_floating_point() else mask.float()
    return truth._replace(weights=mask if truth.weights is None else mask * truth.weights)


def dense(truth: Truth, input: Tensor) -> tuple[Tensor, Tensor | None]:
    """Return the probabilities y (N, C, *S) and the pixel weights (N, 1 or C, *S) or None."""
    target = as_target(truth.target, logits_shape=tuple(input.shape), independent=True)
    on_cpu = input.device.type == "cpu" and not torch.compiler.is_compiling()
    if on_cpu and isinstance(target, (HardTarget, DenseTarget)):
        counted = [part > 0 for part in (truth.valid, truth.weights) if part is not None]
        target.validate(input.shape[1], counted[0] & counted[-1] if counted else None)
    dtype = torch.promote_types(input.dtype, torch.float32)
    found = target.dense(input.shape[1], dtype)
    mask = None if found.valid is None else found.valid.to(dtype)
    for part in (truth.valid, truth.weights):
        if part is not None:
            part = part.unsqueeze(1).to(dtype)
            mask = part if mask is None else mask * part
    # Ignored entries may have any value, also NaN.
    return (found.y if mask is None else found.y.where(mask > 0, 0.0)), mask


def _read(
    input: Tensor, target: Tensor | Target, *, to_onehot_y: bool, ignore_index: int | None
) -> Truth:
    """Convert labels (N, 1, *S), or one-hot labels (N, C, *S), in which all 0 may mean ignored."""
    num_classes = input.shape[1]
    if not isinstance(target, Tensor):
        return Truth(target)
    target = plain(target)
    _check_shape(input, target, labels=to_onehot_y and num_classes > 1)
    if to_onehot_y and num_classes > 1:
        labels = target.squeeze(1) if target.ndim == input.ndim else target
        # MONAI's transforms make labels floating.
        return Truth(HardTarget(labels.long(), ignore_index))
    if target.dtype != torch.bool and not target.is_floating_point():
        target = target.to(torch.float32)
    dense = DenseTarget(target, independent=True)
    if ignore_index is None or target.shape != input.shape:
        return Truth(dense)
    if num_classes == 1:
        return Truth(dense, valid=target[:, 0] != ignore_index)
    if 0 <= ignore_index < num_classes:
        return Truth(dense, weights=1 - target[:, ignore_index].float())
    return Truth(dense, valid=(target != 0).any(1))


def _check_shape(input: Tensor, target: Tensor, *, labels: bool) -> None:
    """Raise a ValueError, which names MONAI's arguments, unless the shapes match."""
    N, C, *space = input.shape
    wanted = (N, 1, *space) if labels else (N, C, *space)
    if tuple(target.shape) == wanted or (labels and tuple(target.shape) == (N, *space)):
        return
    way_out = "labels, (N, 1, *S)" if labels else "one-hot or soft, (N, C, *S)"
    change = "to_onehot_y=False" if labels else "to_onehot_y=True"
    raise ValueError(
        f"Expected `target` to have shape {wanted} for `input` of shape {(N, C, *space)}, but got "
        f"{tuple(target.shape)}. It is read as {way_out}; otherwise set {change}."
    )
