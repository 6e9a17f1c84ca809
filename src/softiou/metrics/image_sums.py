"""Sums over the pixels of each image, from which metrics are computed.

Shapes: N images, C classes.
"""

from abc import ABC, abstractmethod
from collections.abc import Callable
from dataclasses import dataclass, fields
from typing import Any, Self

import torch
from torch import Tensor


@dataclass(frozen=True)
class ImageSums:
    """Sums over the pixels of each image.

    The fields of subclasses are tensors (N, ...), None, or other `ImageSums`.
    """

    def apply(self, function: Callable[[Tensor], Tensor]) -> Self:
        """Apply a function to every tensor, for instance `sums.apply(lambda x: x[:10])`."""
        changed: dict[str, Any] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, ImageSums):
                value = value.apply(function)
            elif value is not None:
                value = function(value)
            changed[field.name] = value
        return type(self)(**changed)

    def tensors(self) -> dict[str, Tensor]:
        """Return the tensors by name; those of nested sums are named "outer_inner"."""
        found: dict[str, Tensor] = {}
        for field in fields(self):
            value = getattr(self, field.name)
            if isinstance(value, ImageSums):
                found |= {f"{field.name}_{name}": x for name, x in value.tensors().items()}
            elif value is not None:
                found[field.name] = value
        return found

    def plus(self, other: Self) -> Self:
        """Add the sums of other pixels of the same images."""
        others = iter(other.tensors().values())
        return self.apply(lambda x: x + next(others))

    def merge_images(self) -> Self:
        """Sum over the images, (N, ...) -> (1, ...), as if they were one large image."""
        return self.apply(lambda x: x.sum(0, keepdim=True))


@dataclass(frozen=True)
class OverlapSums(ImageSums, ABC):
    """Sums of each image and class (N, C), from which IoU and Dice are computed."""

    @abstractmethod
    def target_size(self) -> Tensor:
        """Return the number of pixels or the mass of the target (N, C)."""

    @abstractmethod
    def predicted_size(self) -> Tensor:
        """Return the number of pixels or the mass of the prediction (N, C)."""

    def occurs(self) -> Tensor:
        """Return which classes occur in the target of each image, bool (N, C)."""
        return self.target_size() > 0

    def scored(self, scores: Tensor, *, absent: str = "exclude") -> Tensor:
        """Replace the scores (N, C) of classes that are not in the target.

        "exclude" makes them NaN, which leaves them out of means; "zero" makes them 0 if they are
        predicted, NaN otherwise.
        """
        scores = scores.where(self.occurs(), torch.nan)
        if absent == "exclude":
            return scores
        return scores.masked_fill(~self.occurs() & (self.predicted_size() > 0), 0.0)

    @abstractmethod
    def iou(self) -> Tensor:
        """Compute the IoU, float64 (N, C); NaN if prediction and target are empty."""

    @abstractmethod
    def dice(self) -> Tensor:
        """Compute the Dice score, float64 (N, C); NaN if prediction and target are empty."""
