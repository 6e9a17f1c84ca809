"""Teacher targets: the softmax of a teacher's logits, which may have any stride.

Shapes: N images, C classes, (H, W) the image, (h, w) the teacher's logits, T pixels of a tile.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from softiou import _checks
from softiou.targets.base import SoftTile, Target
from softiou.tiles import Bilinear, Tile


@dataclass(frozen=True)
class TeacherTarget(Target):
    """The probabilities softmax(logits / temperature) of a teacher, read tile by tile.

    Low-resolution logits are interpolated bilinearly, one tile at a time, so the teacher's
    probabilities at full resolution are never in memory.

    Args:
        logits: Logits of the teacher (N, C, h, w) or (N, C, *S); they receive no gradient.
        size: (H, W) to which low-resolution logits are interpolated; None uses the size of the
            loss's images.
        temperature: Above 0; more than 1 softens.
        align_corners: As in `torch.nn.functional.interpolate`.
        valid: Bool (N, *S) at the resolution of the image, True where the prediction is used; None
            uses it everywhere.
    """

    logits: Tensor
    size: tuple[int, ...] | None = None
    temperature: float = 1.0
    align_corners: bool = False
    valid: Tensor | None = None

    def __post_init__(self) -> None:
        if not self.logits.is_floating_point() or self.logits.ndim < 3:
            raise ValueError(
                f"Expected `logits` of the teacher to be floating (N, C, *S), but got "
                f"{tuple(self.logits.shape)} of {self.logits.dtype}."
            )
        if not self.temperature > 0:
            raise ValueError(
                f"Expected `temperature` to be greater than 0, but got {self.temperature}."
            )
        if (
            self.size is not None
            and self.interpolated
            and not (self.logits.ndim == 4 and len(self.size) == 2)
        ):
            raise ValueError(
                f"Expected the teacher's `logits`, which are interpolated, to have shape "
                f"(N, C, h, w) or the space {self.size}, but got {tuple(self.logits.shape)}."
            )

    @property
    def interpolated(self) -> bool:
        """Whether the logits are interpolated, because `size` differs from their size."""
        return self.size is not None and tuple(self.size) != tuple(self.logits.shape[2:])

    @property
    def shape(self) -> tuple[int, ...]:
        """Return (N, *S), or raise a ValueError if `valid` has another shape."""
        shape = (self.logits.shape[0], *(self.size or self.logits.shape[2:]))
        _checks.pixel_map("valid", self.valid, shape, boolean=True)
        return shape

    def read(self, tile: Tile, num_classes: int, dtype: torch.dtype) -> SoftTile:
        """Return the teacher's probabilities (C, T), and the valid pixels."""
        if self.logits.shape[1] != num_classes:
            raise ValueError(
                f"The teacher has {self.logits.shape[1]} classes and the student {num_classes}: "
                "distillation needs the same classes in the same order."
            )
        logits = self.logits.detach()
        if self.interpolated:
            _, height, width = self.shape
            source = (int(logits.shape[2]), int(logits.shape[3]))
            reader = Bilinear(source, (height, width), self.align_corners)
            scores = reader.read(logits, tile).to(dtype)
        else:
            scores = tile.of_each(logits).to(dtype)
        valid = None if self.valid is None else tile.of(self.valid)
        return SoftTile((scores / self.temperature).softmax(0), valid)

    def validate(self, num_classes: int, valid: Tensor | None = None) -> None:
        """Raise a ValueError for NaN and infinity; of low-resolution logits, check all."""
        finite = self.logits.isfinite()
        for looked_at in (self.valid, valid):
            if looked_at is not None and not self.interpolated:
                finite = finite | ~looked_at.unsqueeze(1)
        if not bool(finite.all()):
            raise ValueError(
                "Expected the teacher's `logits` to be finite, but found NaN or infinity."
            )
