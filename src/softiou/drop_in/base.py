"""Shared code of the losses: settings as dataclass fields of a module, and the Tversky formula."""

from dataclasses import dataclass, fields
from typing import Any, Self, TypeVar, dataclass_transform

import torch
from torch import Tensor, nn

T = TypeVar("T", bound="SettingsModule")


@dataclass_transform(eq_default=False)
def settings(kind: type[T]) -> type[T]:
    """Make the annotated fields of a module its constructor arguments, attributes and `repr`."""
    kind = dataclass(eq=False, repr=False)(kind)
    for name in [field.name for field in fields(kind) if field.name in vars(kind)]:
        delattr(kind, name)  # a class attribute would hide a buffer or submodule of this name
    return kind


@dataclass(eq=False, repr=False)
class SettingsModule(nn.Module):
    """Base class of the modules that `settings` decorates."""

    def __new__(cls, *_: Any, **__: Any) -> Self:
        """Prepare the module before the constructor assigns its settings."""
        module = super().__new__(cls)
        nn.Module.__init__(module)
        return module

    def part(self, kind: type[T], **more: Any) -> T:
        """Build a module of another class from the settings that both share, and from `more`."""
        names = [field.name for field in fields(kind)]
        return kind(**{name: getattr(self, name) for name in names if hasattr(self, name)} | more)

    def extra_repr(self) -> str:
        """Return the settings for `repr`."""
        shown = {field.name: getattr(self, field.name) for field in fields(self)}
        return ", ".join(f"{name}={value!r}" for name, value in shown.items())


def smoothed_distance(
    tp: Tensor, errors: Tensor, *, numerator: float, denominator: float
) -> Tensor:
    """Compute 1 - (tp + numerator) / (tp + errors + denominator), avoiding cancellation.

    All arguments are at least 0; `errors` are weighted false positives and negatives. If the
    denominator of the fraction is 0, the result is `-numerator` (0 without smoothing).
    """
    total = tp + errors + denominator
    return (errors + (denominator - numerator)) / torch.where(total > 0, total, 1.0)
