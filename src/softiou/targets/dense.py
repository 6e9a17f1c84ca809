"""Dense targets: a probability for every class of every pixel."""

from dataclasses import dataclass

import torch
from torch import Tensor

from softiou._checks import dense_tensor, in_range
from softiou.targets.base import SoftTile, Target
from softiou.tiles import Tile


@dataclass(frozen=True)
class DenseTarget(Target):
    """Probabilities (N, C, *S) for every class of every pixel.

    A pixel whose C entries all equal `ignore_index` is ignored, so a soft target can be padded with
    255 like a hard one. For independent classes (multilabel, sigmoid), single entries are ignored.
    Integers other than 0 and 1 are ignored, too.

    Args:
        values: Probabilities (N, C, *S), floating, or integers or bool 0/1.
        ignore_index: Value that marks ignored pixels (or entries).
        independent: True if the classes do not exclude each other (multilabel); None leaves it
            to the loss.
    """

    values: Tensor
    ignore_index: int | None = None
    independent: bool | None = False

    def __post_init__(self) -> None:
        dense_tensor("target", self.values)
        if self.independent and self.values.is_floating_point() and self.ignore_index in (0, 1):
            raise ValueError(
                f"ignore_index={self.ignore_index} is also a probability of a floating `target`. "
                "Leave pixels out with `valid`, or mark them with another value."
            )

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (N, *S)."""
        return (*self.values.shape[:1], *self.values.shape[2:])

    def read(self, tile: Tile, num_classes: int, dtype: torch.dtype) -> SoftTile:
        """Return the values (C, T) of a tile."""
        self.check_classes(num_classes)
        values = tile.of_each(self.values)
        valid = self.valid_of(values)
        if valid is not None and not self.independent:
            valid = valid.squeeze(0)
        return SoftTile(values.to(dtype), valid)

    def check_classes(self, num_classes: int) -> None:
        """Raise a ValueError unless the target has `num_classes` classes."""
        if self.values.shape[1] != num_classes:
            raise ValueError(
                f"Expected `target` to have {num_classes} classes, as the logits do, but got "
                f"{self.values.shape[1]}: its shape is {tuple(self.values.shape)}."
            )

    def valid_of(self, values: Tensor) -> Tensor | None:
        """Return which values (C, ...) are valid, bool (1 or C, ...); None if all are."""
        ignored = self._ignored(values)
        valid = None if ignored is None else ~ignored
        if values.is_floating_point() or values.dtype == torch.bool:
            return valid
        # Integers are 0 or 1; any other value is ignored, as a label out of range in a hard target.
        binary = (values == 0) | (values == 1)
        if not self.independent:
            binary = binary.all(dim=0, keepdim=True)
        return binary if valid is None else valid & binary

    def _ignored(self, values: Tensor) -> Tensor | None:
        """Return which pixels (1, ...) or entries (C, ...) equal `ignore_index`."""
        if self.ignore_index is None:
            return None
        # Comparing in int64 keeps uint8 values from wrapping around.
        values = values if values.is_floating_point() else values.long()
        marked = values == self.ignore_index
        return marked if self.independent else marked.all(dim=0, keepdim=True)

    def validate(self, num_classes: int, valid: Tensor | None = None) -> None:
        """Raise a ValueError for NaN, values outside [0, 1] and sums other than 1."""
        values = self.values.double()
        ignored = self._ignored(self.values.movedim(1, 0))
        if ignored is not None:
            ignored = ignored.movedim(0, 1)
        if valid is not None:
            excluded = ~valid.unsqueeze(1)
            ignored = excluded if ignored is None else ignored | excluded
        if ignored is not None:
            values = torch.where(ignored, 0.0, values)
        if not bool(values.isfinite().all()):
            raise ValueError(
                "Expected `target` to be finite, but found NaN or infinity. Fix the labels, or "
                "leave those pixels out with `valid`."
            )
        low, high = (values.min().item(), values.max().item()) if values.numel() else (0.0, 0.0)
        in_range("target", low, 0.0, 1.0)
        rounded = 1.0 < high < 1 + 1e-5  # interpolation and averaging may round up
        in_range("target", 1.0 if rounded else high, 0.0, 1.0)
        if self.independent:
            return
        mass = values.sum(dim=1, keepdim=True)
        wrong = (mass - 1).abs() > 1e-2  # half-precision targets of 256 classes stay below this
        if ignored is not None:
            wrong &= ~ignored
        if bool(wrong.any()):
            raise ValueError(
                f"Expected `target` to sum to 1 over the classes, but found a pixel with the sum "
                f"{mass[wrong][0].item():.4g}. Divide by `target.sum(1, keepdim=True)`."
            )
