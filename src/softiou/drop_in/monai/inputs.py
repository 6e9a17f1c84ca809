"""Labels in the shapes of MONAI, read as targets of softiou.

Shapes: N images, C classes, *S space.
"""

from typing import NamedTuple

import torch
from torch import Tensor

from softiou.targets import DenseTarget, HardTarget, Target


class Truth(NamedTuple):
    """A target, and which pixels (N, *S) count or how much they do."""

    target: Tensor | Target
    valid: Tensor | None = None
    weights: Tensor | None = None


def plain(tensor: Tensor) -> Tensor:
    """Return a tensor without the class that MONAI's transforms give it (MetaTensor)."""
    return tensor if type(tensor) is Tensor else tensor.as_subclass(Tensor)


def read(
    input: Tensor, target: Tensor | Target, *, to_onehot_y: bool, ignore_index: int | None
) -> Truth:
    """Read a target (N, 1, *S) of labels, or (N, C, *S) of one-hot or soft labels.

    Args:
        input: (N, C, *S).
        target: A tensor of any dtype, or a `Target`.
        to_onehot_y: Whether it holds labels; without effect for C = 1.
        ignore_index: Label value whose pixels do not count; of one-hot labels the class, or when
            there is no such class the pixels that are 0 in every class.
    """
    num_classes = input.shape[1]
    if not isinstance(target, Tensor):
        return Truth(target)
    target = plain(target)
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
