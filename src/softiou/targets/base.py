"""What a target is: the answer to one question about the pixels.

Shapes: N images, C classes, *S space (H, W for pictures).
"""

from abc import ABC, abstractmethod

import torch
from torch import Tensor


class Target(ABC):
    """Everything that is known about the classes of the pixels of a batch.

    Subclasses hold their knowledge in its own compact form and answer one question: the
    probabilities `y` of the classes, and how much each pixel counts.
    """

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Return (N, *S), the images and their space."""

    @abstractmethod
    def probs(self, num_classes: int, dtype: torch.dtype) -> Tensor:
        """Return y (N, C, *S) in [0, 1]; the values of pixels that do not count are arbitrary."""

    @abstractmethod
    def valid(self, num_classes: int) -> Tensor | None:
        """Return what counts: bool, (N, 1, *S) or (N, C, *S); None when everything does."""

    @abstractmethod
    def validate(self, num_classes: int, valid: Tensor | None = None) -> None:
        """Raise a ValueError that names what is wrong with the contents (costs a sync).

        Args:
            num_classes: C.
            valid: Bool (N, *S), where to look; None for everywhere.
        """
