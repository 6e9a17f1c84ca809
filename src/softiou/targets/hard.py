"""Hard targets: one class index for every pixel."""

from dataclasses import dataclass

import torch
import torch.nn.functional as F
from torch import Tensor

from softiou import _checks
from softiou.targets.base import HardTile, SoftTile, Target
from softiou.tiles import Tile

# The dtypes that have a minimum and a maximum; bool and the larger unsigned ones do not.
_ORDERED = (torch.uint8, torch.int8, torch.int16, torch.int32, torch.int64)


def valid_labels(labels: Tensor, *, num_classes: int, ignore_index: int | None) -> Tensor:
    """Return where labels are a class and not `ignore_index`: bool, of the same shape.

    Labels may have any shape and integer dtype; for a single class they are 0 and 1.
    """
    _checks.one_label(ignore_index)
    labels = labels.long()  # comparing in int64 keeps uint8 values from wrapping around
    valid = (labels >= 0) & (labels < max(num_classes, 2))
    return valid if ignore_index is None else valid & (labels != ignore_index)


def check_labels(labels: Tensor, way: str) -> None:
    """Raise unless labels are an integer tensor; the error message ends with `way`."""
    if _checks.dense_tensor("labels", labels).is_floating_point():
        raise TypeError(
            f"Expected `labels` to have an integer dtype, but got {labels.dtype}. {way}"
        )


def read_labels(labels: Tensor, *, num_classes: int, ignore_index: int | None) -> HardTile:
    """Read the labels (T,) of a tile; ignored labels become class 0 and are not valid."""
    valid = valid_labels(labels, num_classes=num_classes, ignore_index=ignore_index)
    return HardTile(torch.where(valid, labels.long(), 0), valid)


def labels_around(labels: Tensor, tile: Tile, width: int) -> Tensor:
    """Return the labels of a tile with a margin of `width` pixels, int64; outside the image -1.

    The result is 2 * `width` pixels larger than the tile along every axis.
    """
    lines = list(zip(tile.box, labels.shape[1:], strict=True))
    around = tuple(
        slice(max(0, part.start - width), min(length, part.stop + width)) for part, length in lines
    )
    missing: list[int] = []
    for part, length in reversed(lines):  # F.pad expects the last dimension first
        missing += [max(0, width - part.start), max(0, part.stop + width - length)]
    return F.pad(labels[tile.image][around].long(), missing, value=-1)


def validate_labels(
    labels: Tensor, *, num_classes: int, ignore_index: int | None, valid: Tensor | None
) -> None:
    """Raise a ValueError for labels that are neither a class nor `ignore_index`.

    Only labels where `valid`, bool, broadcast to the labels, is True are checked; None checks all.
    """
    if labels.dtype not in _ORDERED:
        labels = labels.long()
    if not labels.numel():
        return
    low, high = (int(x) for x in torch.aminmax(labels))
    if low >= 0 and high < max(num_classes, 2):  # the usual case, in one pass
        return
    labels = labels.long()
    outside = (labels < 0) | (labels >= max(num_classes, 2))
    if valid is not None:
        outside &= valid
    if ignore_index is not None:
        outside &= labels != ignore_index
    wrong = torch.unique(labels[outside]).tolist()
    if wrong:
        binary = num_classes <= 2 and wrong == [255]
        way = "For a mask of 0 and 255, use `mask > 127`. " if binary else ""
        others = "" if ignore_index is None else f" or ignore_index={ignore_index}"
        raise ValueError(
            f"Expected `target` to hold class indices in [0, {max(num_classes, 2) - 1}]{others}, "
            f"but found {wrong[:10]}. {way}Map the labels to class indices, or leave their pixels "
            "out: by `valid`, or `ignore_index` if there is one."
        )


def validate_on_cpu(
    labels: Tensor,
    *,
    num_classes: int = 2,
    ignore_index: int | None = None,
    valid: Tensor | None = None,
) -> None:
    """As `validate_labels` for labels on the CPU, where it is cheap; nothing for others."""
    if labels.device.type == "cpu" and not torch.compiler.is_compiling():
        validate_labels(labels, num_classes=num_classes, ignore_index=ignore_index, valid=valid)


class LabelsTarget(Target):
    """Base class of targets that are computed from class indices `labels` (N, *S)."""

    labels: Tensor
    ignore_index: int | None

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (N, *S)."""
        return tuple(self.labels.shape)

    def validate(self, num_classes: int, valid: Tensor | None = None) -> None:
        """Raise a ValueError for labels that are neither a class nor `ignore_index`."""
        validate_labels(
            self.labels, num_classes=num_classes, ignore_index=self.ignore_index, valid=valid
        )


@dataclass(frozen=True)
class HardTarget(LabelsTarget):
    """Class indices (N, *S) of any integer dtype or bool.

    The probabilities are one-hot. For a single class (binary, sigmoid), label 1 is the foreground
    and label 0 the background. Pixels with `ignore_index` or a label out of range are ignored.

    Args:
        labels: Class indices (N, *S).
        ignore_index: Label of ignored pixels; None uses that of the loss, if it has one.
    """

    labels: Tensor
    ignore_index: int | None = None

    def __post_init__(self) -> None:
        check_labels(self.labels, "For probabilities, use DenseTarget.")

    def read(self, tile: Tile, num_classes: int, dtype: torch.dtype) -> SoftTile | HardTile:
        """Return the labels of a tile; for a single class, its probabilities 0 and 1 (1, T)."""
        read = read_labels(
            tile.of(self.labels), num_classes=num_classes, ignore_index=self.ignore_index
        )
        if num_classes > 1:
            return read
        return SoftTile((read.index == 1).to(dtype).unsqueeze(0), read.valid)
