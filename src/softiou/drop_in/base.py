"""What the losses of all libraries share: settings as fields of a module, and the one formula."""

from dataclasses import dataclass, fields
from typing import Any, Self, TypeVar, dataclass_transform

import torch
from torch import Tensor, nn

T = TypeVar("T", bound="SettingsModule")


@dataclass_transform(eq_default=False)
def settings(kind: type[T]) -> type[T]:
    """Make the annotated fields of a module its settings: arguments, attributes, printed."""
    kind = dataclass(eq=False, repr=False)(kind)
    for name in [field.name for field in fields(kind) if field.name in vars(kind)]:
        delattr(kind, name)  # a default of the class would hide a buffer or module of this name
    return kind


@dataclass(eq=False, repr=False)
class SettingsModule(nn.Module):
    """Base of the modules that `settings` decorates."""

    def __new__(cls, *_: Any, **__: Any) -> Self:
        """Prepare the module before the constructor assigns its settings."""
        module = super().__new__(cls)
        nn.Module.__init__(module)
        return module

    def part(self, kind: type[T], **more: Any) -> T:
        """Build another module from the settings that both have, and from `more`."""
        names = [field.name for field in fields(kind)]
        return kind(**{name: getattr(self, name) for name in names if hasattr(self, name)} | more)

    def extra_repr(self) -> str:
        """Show the settings in the printed module."""
        shown = {field.name: getattr(self, field.name) for field in fields(self)}
        return ", ".join(f"{name}={value!r}" for name, value in shown.items())


def smoothed_distance(
    tp: Tensor, errors: Tensor, *, numerator: float, denominator: float
) -> Tensor:
    """Compute 1 - (tp + numerator) / (tp + errors + denominator), without its cancellation.

    All are at least 0; `errors` are priced false positives and negatives. The result is
    `-numerator` (0 without smoothing) where there is nothing to divide by.
    """
    total = tp + errors + denominator
    return (errors + (denominator - numerator)) / torch.where(total > 0, total, 1.0)
