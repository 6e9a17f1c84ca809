"""Hard targets: one class index a pixel."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from softiou import _checks
from softiou.targets.base import HardTile, SoftTile, Target
from softiou.tiles import Tile


def valid_labels(labels: Tensor, *, num_classes: int, ignore_index: int | None) -> Tensor:
    """Return which labels are a class other than `ignore_index`: bool, of the same shape.

    Labels have any shape and integer dtype; one class has the labels 0 and 1.
    """
    _checks.one_label(ignore_index)
    labels = labels.long()  # comparing in int64 keeps uint8 values from wrapping around
    valid = (labels >= 0) & (labels < max(num_classes, 2))
    return valid if ignore_index is None else valid & (labels != ignore_index)


def check_labels(labels: Tensor, way: str) -> None:
    """Raise unless labels are a tensor of integers; `way` is the way out."""
    if _checks.dense_tensor("labels", labels).is_floating_point():
        raise TypeError(
            f"Expected `labels` to have an integer dtype, but got {labels.dtype}. {way}"
        )


def read_labels(labels: Tensor, *, num_classes: int, ignore_index: int | None) -> HardTile:
    """Read the labels (T,) of a tile; those that do not count become class 0."""
    valid = valid_labels(labels, num_classes=num_classes, ignore_index=ignore_index)
    return HardTile(torch.where(valid, labels.long(), 0), valid)


def labels_around(labels: Tensor, tile: Tile, width: int) -> Tensor:
    """Cut a tile and a margin around it out of the labels (N, *S); outside of images they are -1.

    Returns int64, a box of the tile's size and 2 `width` pixels more along every axis.
    """
    lines = list(zip(tile.box, labels.shape[1:], strict=True))
    around = tuple(
        slice(max(0, part.start - width), min(length, part.stop + width)) for part, length in lines
    )
    missing: list[int] = []
    for part, length in reversed(lines):  # `pad` begins with the last dimension
        missing += [max(0, width - part.start), max(0, part.stop + width - length)]
    return F.pad(labels[tile.image][around].long(), missing, value=-1)


def validate_labels(
    labels: Tensor, *, num_classes: int, ignore_index: int | None, valid: Tensor | None
) -> None:
    """Raise on labels of any shape and integer dtype that are no class and not `ignore_index`.

    `valid` says where to look, bool, broadcast to the labels; None for everywhere.
    """
    labels = labels.long()
    if valid is not None:
        labels = labels[valid.expand_as(labels)]
    if ignore_index is not None:
        labels = labels[labels != ignore_index]
    wrong = torch.unique(labels[(labels < 0) | (labels >= max(num_classes, 2))]).tolist()
    if wrong:
        binary = num_classes <= 2 and wrong == [255]
        way = "For a mask of 0 and 255, use `mask > 127`. " if binary else ""
        raise ValueError(
            f"Expected `target` to hold class indices in [0, {max(num_classes, 2) - 1}] or "
            f"ignore_index={ignore_index}, but found {wrong[:10]}. {way}Map the labels to "
            "class indices, or name the label to leave out as `ignore_index`."
        )


class LabelsTarget(Target):
    """Base of the targets that are made of class indices `labels` (N, *S)."""

    labels: Tensor
    ignore_index: int | None

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (N, *S)."""
        return tuple(self.labels.shape)

    def validate(self, num_classes: int, valid: Tensor | None = None) -> None:
        """Raise on labels that are no class."""
        validate_labels(
            self.labels, num_classes=num_classes, ignore_index=self.ignore_index, valid=valid
        )


@dataclass(frozen=True)
class HardTarget(LabelsTarget):
    """Class indices (N, *S) of any integer dtype or bool.

    Becomes one-hot; for one class (binary, sigmoid) label 1 is the class and label 0 is not.
    A pixel whose label is `ignore_index`, or no class at all, does not count.

    Args:
        labels: Class indices (N, *S).
        ignore_index: Label whose pixels do not count; None when every pixel does, or for that of
            the loss.
    """

    labels: Tensor
    ignore_index: int | None = None

    def __post_init__(self) -> None:
        check_labels(self.labels, "Probabilities are a DenseTarget.")

    def read(self, tile: Tile, num_classes: int, dtype: torch.dtype) -> SoftTile | HardTile:
        """Return the labels of a tile, or for one class whether it is there."""
        read = read_labels(
            tile.of(self.labels), num_classes=num_classes, ignore_index=self.ignore_index
        )
        if num_classes > 1:
            return read
        return SoftTile((read.index == 1).to(dtype).unsqueeze(0), read.valid)
