"""What a target is: the answer to one question about the pixels of a tile.

Shapes: N images, C classes, *S space (H, W for pictures), T pixels of a tile.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor

from softiou.tiles import Tile, whole


@dataclass(frozen=True)
class Probs:
    """What is known about the pixels of a tile: a probability for every class.

    Attributes:
        y: Probabilities (C, T); arbitrary where the pixel does not count.
        counts: Bool (T,), or (C, T) for independent classes; None when everything counts.
    """

    y: Tensor
    counts: Tensor | None = None

    def dense(self, num_classes: int, dtype: torch.dtype) -> Probs:
        """Return itself."""
        return self


@dataclass(frozen=True)
class Labels:
    """What is known about the pixels of a tile: one class each, perhaps smoothed.

        y_c = (1 - epsilon) [c = index] + epsilon / C

    Attributes:
        index: Class indices (T,), int64; 0 where the pixel does not count.
        counts: Bool (T,); None when everything counts.
        epsilon: Floating (T,), in [0, 1]; None for 0.
    """

    index: Tensor
    counts: Tensor | None = None
    epsilon: Tensor | None = None

    def dense(self, num_classes: int, dtype: torch.dtype) -> Probs:
        """Write the probabilities out (C, T)."""
        classes = torch.arange(num_classes, device=self.index.device).unsqueeze(1)
        y = (self.index == classes).to(dtype)
        if self.epsilon is not None:
            epsilon = self.epsilon.to(dtype)
            y = y * (1 - epsilon) + epsilon / num_classes
        return Probs(y, self.counts)


class Target(ABC):
    """Everything that is known about the classes of the pixels of a batch.

    Subclasses hold their knowledge in its own compact form and answer one question, `read`, for one
    tile at a time. They are frozen dataclasses whose fields are tensors, plain values, other
    targets, or tuples of these: that is how they travel into compiled code and back.
    """

    _known: ClassVar[dict[str, type[Target]]] = {}

    def __init_subclass__(cls) -> None:
        Target._known[f"{cls.__module__}.{cls.__qualname__}"] = cls

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Return (N, *S), the images and their space."""

    @abstractmethod
    def read(self, tile: Tile, num_classes: int, dtype: torch.dtype) -> Probs | Labels:
        """Say what is known about the pixels of a tile.

        Args:
            tile: Which pixels.
            num_classes: C.
            dtype: Of the probabilities.
        """

    @abstractmethod
    def validate(self, num_classes: int, valid: Tensor | None = None) -> None:
        """Raise a ValueError that names what is wrong with the contents (costs a sync).

        Args:
            num_classes: C.
            valid: Bool (N, *S), where to look; None for everywhere.
        """

    def completed(self, ignore_index: int | None, space: tuple[int, ...]) -> Target:
        """Fill in what a target leaves to the loss: fields `ignore_index` and `size` that are None.

        Args:
            ignore_index: That of the loss.
            space: *S of the images.
        """
        given = {"ignore_index": ignore_index, "size": space}
        changes = {
            field.name: changed
            for field in fields(self)  # type: ignore[arg-type]
            if (changed := _completed(field.name, getattr(self, field.name), given)) is not None
        }
        return replace(self, **changes) if changes else self  # type: ignore[type-var]

    def dense(self, num_classes: int, dtype: torch.dtype) -> Probs:
        """Write the target out as a whole: y (N, C, *S) and counts (N, 1 or C, *S) or None.

        For tests and for the plain path, which is a definition and not meant to be small or fast.
        """
        space = self.shape[1:]
        parts = [
            self.read(tile, num_classes, dtype).dense(num_classes, dtype)
            for tile in whole(self.shape)
        ]
        if not parts:
            empty = (self.shape[0], num_classes, *space)
            device = next(iter(tensors_of(self))).device
            return Probs(torch.zeros(empty, dtype=dtype, device=device))
        y = torch.stack([part.y for part in parts]).to(dtype).unflatten(2, space)
        counts = [part.counts for part in parts if part.counts is not None]
        if not counts:
            return Probs(y)
        together = torch.stack(counts)  # (N, T) or (N, C, T)
        if together.ndim == 2:
            together = together.unsqueeze(1)
        return Probs(y, together.unflatten(2, space))


def _completed(name: str, value: Any, given: dict[str, Any]) -> Any:
    """Return what a field of a target becomes, or None when it stays as it is."""
    if value is None:
        return given.get(name)
    parts = value if isinstance(value, tuple) else (value,)
    if not any(isinstance(part, Target) for part in parts):
        return None
    changed = tuple([part.completed(given["ignore_index"], given["size"]) for part in parts])
    return changed if isinstance(value, tuple) else changed[0]


def tensors_of(target: Target) -> list[Tensor]:
    """Return the tensors of a target and of the targets inside it, in the order of `pack`."""
    tensors: list[Tensor] = []
    pack(target, tensors)
    return tensors


# Operators of torch take tensors and plain values: a target travels as a list of tensors and a text
# that says how to put it together again, for instance `["targets.Hard", [{"tensor": 0}, 255]]`.
# The text is JSON, written by hand because the compiler cannot trace the json module.


def pack(value: Any, tensors: list[Tensor]) -> str:
    """Write a target as a text that refers to its tensors by number, and append them to a list.

    Args:
        value: A target, or the value of a field of one.
        tensors: Where the tensors go.

    Raises:
        TypeError: A target is no dataclass, or a field holds nothing that can be packed.
    """
    if isinstance(value, Tensor):
        tensors.append(value)
        return '{"tensor": ' + str(len(tensors) - 1) + "}"
    if isinstance(value, Target):
        return _pack_target(value, tensors)
    if isinstance(value, tuple):
        return "[" + ", ".join([pack(item, tensors) for item in value]) + "]"
    if value is None:
        return "null"
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | float):
        return str(value)
    if isinstance(value, str):
        return '"' + value + '"'
    raise TypeError(
        f"Expected the fields of a target to be tensors, numbers, texts, targets or tuples of "
        f"these, but got {type(value)}."
    )


def _pack_target(target: Target, tensors: list[Tensor]) -> str:
    kind = type(target)
    if not is_dataclass(kind):
        raise TypeError(
            f"Expected the target {kind.__qualname__} to be a dataclass. Decorate it with "
            "`@dataclass(frozen=True)` and keep what it knows in fields."
        )
    values = [pack(getattr(target, field.name), tensors) for field in fields(kind)]
    name = f"{kind.__module__}.{kind.__qualname__}"
    return '{"target": "' + name + '", "fields": [' + ", ".join(values) + "]}"


def unpack(packed: Any, tensors: Sequence[Tensor]) -> Any:
    """Put together again what `pack` took apart.

    Args:
        packed: The text, read as JSON.
        tensors: The tensors.
    """
    if isinstance(packed, list):
        return tuple(unpack(item, tensors) for item in packed)
    if isinstance(packed, dict):
        if "tensor" in packed:
            return tensors[packed["tensor"]]
        return Target._known[packed["target"]](
            *(unpack(item, tensors) for item in packed["fields"])
        )
    return packed
