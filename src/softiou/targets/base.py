"""The base class of all targets, and the two forms in which the pixels of a tile are read.

Shapes: N images, C classes, *S space (H, W for images), T pixels of a tile.
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
class SoftTile:
    """The target of a tile as a probability for every class of every pixel.

    Attributes:
        y: Probabilities (C, T); arbitrary where not valid.
        valid: Bool (T,), or (C, T) for independent classes; None if all pixels are valid.
    """

    y: Tensor
    valid: Tensor | None = None

    def __post_init__(self) -> None:
        if self.valid is not None and self.valid.dtype != torch.bool:
            raise TypeError(
                f"Expected `valid` to be bool, True where the pixel counts, but got dtype "
                f"{self.valid.dtype}."
            )

    def dense(self, num_classes: int, dtype: torch.dtype) -> SoftTile:
        """Return the same probabilities in the given dtype."""
        return self if self.y.dtype == dtype else replace(self, y=self.y.to(dtype))

    def valid_by_class(self) -> Tensor:
        """Return `valid` with a class dimension, (1, T) or (C, T)."""
        if self.valid is None:
            return torch.ones_like(self.y[:1], dtype=torch.bool)
        return self.valid if self.valid.ndim == 2 else self.valid.unsqueeze(0)


@dataclass(frozen=True)
class HardTile:
    """The target of a tile as one class index for every pixel, optionally smoothed.

        y_c = (1 - epsilon) [c = index] + epsilon / C

    Attributes:
        index: Class indices (T,), int64; 0 where not valid.
        valid: Bool (T,); None if all pixels are valid.
        epsilon: Label smoothing (T,), floating, in [0, 1]; None for no smoothing.
    """

    index: Tensor
    valid: Tensor | None = None
    epsilon: Tensor | None = None

    def dense(self, num_classes: int, dtype: torch.dtype) -> SoftTile:
        """Return the probabilities (C, T)."""
        classes = torch.arange(num_classes, device=self.index.device).unsqueeze(1)
        y = (self.index == classes).to(dtype)
        if self.epsilon is not None:
            epsilon = self.epsilon.to(dtype)
            y = y * (1 - epsilon) + epsilon / num_classes
        return SoftTile(y, self.valid)


class Target(ABC):
    """The labels or probabilities of a batch, read tile by tile.

    Subclasses store the target in a compact form, and `read` returns one tile of it. They are
    frozen dataclasses whose fields are tensors, plain values, other targets, or tuples of these, so
    that they can be passed into compiled code.
    """

    _known: ClassVar[dict[str, type[Target]]] = {}

    def __init_subclass__(cls) -> None:
        Target._known[f"{cls.__module__}.{cls.__qualname__}"] = cls

    @property
    @abstractmethod
    def shape(self) -> tuple[int, ...]:
        """Return the shape (N, *S)."""

    @abstractmethod
    def read(self, tile: Tile, num_classes: int, dtype: torch.dtype) -> SoftTile | HardTile:
        """Return the labels, or the probabilities in `dtype`, of the pixels of a tile."""

    @abstractmethod
    def validate(self, num_classes: int, valid: Tensor | None = None) -> None:
        """Raise a ValueError if the contents are invalid (synchronises with a GPU).

        Only pixels where `valid`, bool (N, *S), is True are checked; None checks all.
        """

    def completed(
        self, ignore_index: int | None, space: tuple[int, ...], *, independent: bool | None = None
    ) -> Target:
        """Set the fields `ignore_index`, `size` and `independent` where they are None.

        The loss calls this with its own settings; `space` is *S of the images.
        """
        given = {"ignore_index": ignore_index, "size": space, "independent": independent}
        changes: dict[str, Any] = {}
        for name in _fields(self):
            value = getattr(self, name)
            if isinstance(value, (Target, tuple)):
                changes[name] = _completed(value, given)
            elif value is None and given.get(name) is not None:
                changes[name] = given[name]
        return replace(self, **changes) if changes else self  # type: ignore[type-var]

    def dense(self, num_classes: int, dtype: torch.dtype) -> SoftTile:
        """Return the whole target: y (N, C, *S), and valid (N, 1 or C, *S) or None.

        This needs memory for all pixels; it is used by the reference implementation and in tests.
        """
        images, *space = self.shape
        full = (images, num_classes, *space)
        parts = [
            self.read(tile, num_classes, dtype).dense(num_classes, dtype)
            for tile in whole(self.shape)
        ]
        if not parts:
            device = next((tensor.device for tensor in tensors_of(self)), None)
            return SoftTile(torch.zeros(full, dtype=dtype, device=device))
        y = torch.stack([part.y for part in parts]).to(dtype).reshape(full)
        if all(part.valid is None for part in parts):
            return SoftTile(y)
        valid = [part.valid_by_class() for part in parts]
        channels = max(len(count) for count in valid)  # 1 or C
        together = torch.stack([count.expand(channels, -1) for count in valid])
        return SoftTile(y, together.reshape(images, channels, *space))


def _completed(value: Any, given: dict[str, Any]) -> Any:
    """Apply `Target.completed` to a field that is a target or a tuple of targets."""
    if isinstance(value, Target):
        size, independent = given["size"], given["independent"]
        return value.completed(given["ignore_index"], size, independent=independent)
    if isinstance(value, tuple):
        return tuple([_completed(item, given) for item in value])
    return value


def _fields(target: Target) -> list[str]:
    """Return the names of a target's fields in order."""
    if not is_dataclass(type(target)):
        raise TypeError(
            f"Expected the target {type(target).__qualname__} to be a dataclass. Decorate it with "
            "`@dataclass(frozen=True)` and keep its tensors and settings in fields."
        )
    return [field.name for field in fields(target)]  # type: ignore[arg-type]


def space_of(target: Target) -> tuple[int, ...] | None:
    """Return the space *S of a target, or None if the loss has to provide it."""
    values = [getattr(target, name) for name in _fields(target)]
    parts = [p for v in values for p in (v if isinstance(v, tuple) else (v,))]
    inner = [space_of(part) for part in parts if isinstance(part, Target)]
    if inner:
        maps = [part.shape[1:] for part in parts if isinstance(part, Tensor)]  # a pasted region
        known = [space for space in (*inner, *maps) if space is not None]
        return known[0] if known else None
    if hasattr(target, "size"):
        size: tuple[int, ...] | None = target.size
        return size
    return target.shape[1:]


def tensors_of(target: Target) -> list[Tensor]:
    """Return the tensors of a target and of the targets inside it, in the order of `pack`."""
    found: list[Tensor] = []
    values = [getattr(target, name) for name in _fields(target)]
    while values:
        value = values.pop(0)
        if isinstance(value, Tensor):
            found.append(value)
        elif isinstance(value, Target):
            found += tensors_of(value)
        elif isinstance(value, tuple):
            values = [*value, *values]
    return found


# Custom operators of torch accept only tensors and plain values. A target is therefore passed as a
# list of tensors and a text that describes its structure, for instance
# `{"target": "softiou.targets.hard.HardTarget", "fields": [{"tensor": 0}, 255]}`. The text is JSON,
# built by hand because torch.compile cannot trace the json module. A `size` is not written but
# taken from the operator, so that compiled code works for images of any size.


def pack(value: Any, tensors: list[Tensor]) -> str:
    """Serialise a target to JSON that refers to tensors by index; append its tensors to a list."""
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
    if isinstance(value, int):
        return str(value)
    if isinstance(value, float):
        return str(value).replace("inf", "Infinity").replace("nan", "NaN")
    if isinstance(value, str):
        return '"' + value.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
    raise TypeError(
        f"Expected the fields of a target to be tensors, numbers, strings, targets or tuples of "
        f"these, but got {type(value)}."
    )


def _pack_target(target: Target, tensors: list[Tensor]) -> str:
    values = [
        '{"size": true}'
        if name == "size" and getattr(target, name) is not None
        else pack(getattr(target, name), tensors)
        for name in _fields(target)
    ]
    name = f"{type(target).__module__}.{type(target).__qualname__}"
    return '{"target": "' + name + '", "fields": [' + ", ".join(values) + "]}"


def unpack(packed: Any, tensors: Sequence[Tensor], size: tuple[int, ...]) -> Any:
    """Rebuild a target from the parsed JSON of `pack` and its tensors; `size` is *S."""
    if isinstance(packed, list):
        return tuple(unpack(item, tensors, size) for item in packed)
    if isinstance(packed, dict):
        if "tensor" in packed:
            return tensors[packed["tensor"]]
        if "size" in packed:
            return size
        return Target._known[packed["target"]](
            *(unpack(item, tensors, size) for item in packed["fields"])
        )
    return packed
