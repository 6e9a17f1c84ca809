"""Dense targets: a probability for every class of every pixel."""

from dataclasses import dataclass

import torch
from torch import Tensor

from softiou._checks import in_range
from softiou.targets.base import Target


@dataclass(frozen=True)
class DenseTarget(Target):
    """Probabilities (N, C, *S), kept as they are.

    A pixel whose C entries all equal `ignore_index` does not count: padding a soft target with 255
    works as it does for a hard one. Independent classes (multilabel, sigmoid) are ignored entry by
    entry instead.

    Args:
        values: Probabilities (N, C, *S), floating; integer or bool 0/1 for independent classes.
        ignore_index: Value whose pixels (or entries) do not count.
        independent: True when the classes do not exclude each other (multilabel).
    """

    values: Tensor
    ignore_index: int | None = None
    independent: bool = False

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (N, *S)."""
        return (self.values.shape[0], *self.values.shape[2:])

    def probs(self, num_classes: int, dtype: torch.dtype) -> Tensor:
        """Return the values (N, C, *S)."""
        return self.values.to(dtype)

    def valid(self, num_classes: int) -> Tensor | None:
        """Return what counts, bool (N, 1 or C, *S)."""
        if self.ignore_index is None:
            return None
        counts = self.values != self.ignore_index
        return counts if self.independent else counts.any(dim=1, keepdim=True)

    def validate(self, num_classes: int) -> None:
        """Raise on NaN, values outside [0, 1] and sums other than 1."""
        values = self.values.double()
        valid = self.valid(num_classes)
        if valid is not None:
            values = torch.where(valid, values, 0.0)
        if not bool(values.isfinite().all()):
            raise ValueError(
                "Expected `target` to be finite, but found NaN or infinity. Mend the labels, or "
                "leave the pixels out with `valid`."
            )
        low, high = (values.min().item(), values.max().item()) if values.numel() else (0.0, 0.0)
        in_range("target", low, 0.0, 1.0)
        in_range("target", high, 0.0, 1.0)
        if self.independent:
            return
        mass = values.sum(dim=1, keepdim=True)
        wrong = (mass - 1).abs() > 1e-2  # half-precision targets of 256 classes stay below this
        if valid is not None:
            wrong &= valid
        if bool(wrong.any()):
            raise ValueError(
                f"Expected `target` to sum to 1 over the classes, but found a pixel with the sum "
                f"{mass[wrong][0].item():.4g}. Divide by `target.sum(1, keepdim=True)`."
            )
