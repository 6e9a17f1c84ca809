"""Confident targets: another target, with uncertain pixels ignored, and truncated and sharpened.

Shapes: N images, C classes, *S space, T pixels of a tile.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from softiou import _checks
from softiou.targets.base import SoftTile, Target
from softiou.tiles import Tile


@dataclass(frozen=True)
class ConfidentTarget(Target):
    """Another target, restricted to confident pixels and to the most probable classes.

    With the probabilities y of the inner target, in this order:

        1. the pixel is valid if it is valid in the inner target and max_c y_c >= threshold
        2. all but the `keep` largest y_c become 0
        3. y_c <- y_c^(1 / temperature) / sum_k y_k^(1 / temperature)

    Classes that tie with the last kept one are kept, too. The defaults change nothing. For a
    teacher with all classes, step 3 is softmax(logits / temperature). A temperature of the inner
    `TeacherTarget` is applied before the threshold. Independent classes, and a single class, are
    treated separately as binary: y_c and 1 - y_c.

    Args:
        target: The inner target.
        threshold: Lowest value of the highest probability of a valid pixel, in [0, 1].
        temperature: Above 0; less than 1 sharpens, more than 1 softens.
        keep: Number of classes to keep, at least 1; None keeps all.
        independent: True if the classes do not exclude each other (multilabel); None leaves it
            to the loss.
    """

    target: Target
    threshold: float = 0.0
    temperature: float = 1.0
    keep: int | None = None
    independent: bool | None = None

    def __post_init__(self) -> None:
        _checks.in_range("threshold", self.threshold, 0.0, 1.0)
        if not 0 < self.temperature < float("inf"):
            raise ValueError(
                f"Expected `temperature` to be finite and greater than 0, but got "
                f"{self.temperature}. To keep only the most probable class, use keep=1."
            )
        if self.keep is not None:
            _checks.in_range("keep", self.keep, 1)

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (N, *S)."""
        return self.target.shape

    def read(self, tile: Tile, num_classes: int, dtype: torch.dtype) -> SoftTile:
        """Return the remaining probabilities (C, T), and the valid pixels."""
        read = self.target.read(tile, num_classes, dtype).dense(num_classes, dtype)
        if self.independent or num_classes == 1:
            return self._binary(read)
        y = read.y
        likeliest = y.amax(0)
        confident = likeliest >= self.threshold
        if self.keep == 1:
            y = ((y >= likeliest) & (y > 0)).to(dtype)
            y = y / _positive(y.sum(0))
        else:
            if self.keep is not None and self.keep < num_classes:
                y = torch.where(y >= y.topk(self.keep, 0).values[-1], y, 0.0)
            if self.keep is not None or self.temperature != 1:
                y = self._sharpened(y)
        return SoftTile(y, confident if read.valid is None else read.valid & confident)

    def _binary(self, read: SoftTile) -> SoftTile:
        """Treat each class as a binary problem with the probabilities y and 1 - y."""
        if self.keep is not None:
            raise ValueError(
                f"keep={self.keep} needs classes that exclude each other (softmax). Remove `keep` "
                "for independent classes."
            )
        both = torch.stack([read.y, 1 - read.y])  # (2, C, T)
        confident = both.amax(0) >= self.threshold
        y = read.y if self.temperature == 1 else self._sharpened(both)[0]
        return SoftTile(y, read.valid_by_class() & confident)

    def _sharpened(self, y: Tensor) -> Tensor:
        """Return y^(1 / temperature), normalised over the first dimension."""
        # Divide by the maximum first: otherwise powers of small numbers could all underflow to 0.
        # Clamp because the value that marks ignored pixels may be negative.
        powers = (y / _positive(y.amax(0))).clamp(min=0) ** (1 / self.temperature)
        return powers / _positive(powers.sum(0))

    def validate(self, num_classes: int, valid: Tensor | None = None) -> None:
        """Raise a ValueError if the inner target is invalid."""
        self.target.validate(num_classes, valid)


def _positive(divisor: Tensor) -> Tensor:
    """Replace a divisor of 0 by 1."""
    return torch.where(divisor > 0, divisor, 1.0)
