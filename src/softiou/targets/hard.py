"""Hard targets: one class index a pixel."""

from dataclasses import dataclass

import torch
from torch import Tensor

from softiou.targets.base import Target


@dataclass(frozen=True)
class HardTarget(Target):
    """Class indices (N, *S) of any integer dtype or bool.

    Becomes one-hot; for one class (binary, sigmoid) label 1 is the class and label 0 is not.
    A pixel whose label is `ignore_index`, or no class at all, does not count.

    Args:
        labels: Class indices (N, *S).
        ignore_index: Label whose pixels do not count; None when every pixel does.
    """

    labels: Tensor
    ignore_index: int | None = None

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (N, *S)."""
        return tuple(self.labels.shape)

    def probs(self, num_classes: int, dtype: torch.dtype) -> Tensor:
        """Return one-hot labels (N, C, *S)."""
        classes = torch.arange(num_classes, device=self.labels.device)
        if num_classes == 1:
            classes = classes + 1
        classes = classes.view(-1, *[1] * (self.labels.ndim - 1))
        # Comparing in int64 keeps uint8 labels from wrapping around. (N, *S) -> (N, C, *S)
        return (self.labels.long().unsqueeze(1) == classes).to(dtype)

    def valid(self, num_classes: int) -> Tensor | None:
        """Return what counts, bool (N, 1, *S)."""
        labels = self.labels.long()
        valid = (labels >= 0) & (labels < max(num_classes, 2))
        if self.ignore_index is not None:
            valid &= labels != self.ignore_index
        return valid.unsqueeze(1)

    def validate(self, num_classes: int, valid: Tensor | None = None) -> None:
        """Raise on labels that are no class."""
        labels = self.labels.long()
        if valid is not None:
            labels = labels[valid]
        if self.ignore_index is not None:
            labels = labels[labels != self.ignore_index]
        wrong = torch.unique(labels[(labels < 0) | (labels >= max(num_classes, 2))]).tolist()
        if wrong:
            raise ValueError(
                f"Expected `target` to hold class indices in [0, {max(num_classes, 2) - 1}] or "
                f"ignore_index={self.ignore_index}, but found {wrong[:10]}. Map the labels to "
                "class indices, or name the label to leave out as `ignore_index`."
            )
