"""Names that moved or changed: they work for one more minor release, with a warning."""

import sys
import warnings
from collections.abc import Callable, Mapping
from functools import wraps
from importlib import import_module
from types import ModuleType
from typing import Any, ParamSpec, TypeVar

P = ParamSpec("P")
R = TypeVar("R")


def moved_names(
    module: str, homes: Mapping[str, str], *, stacklevel: int = 2
) -> Callable[[str], Any]:
    """Return a module's `__getattr__` that finds old names in their new place.

    `homes` has for each module the names that it has now, separated by spaces; OLD:NEW where the
    name changed, too. `stacklevel` is counted from the function that is returned.
    """
    places: dict[str, tuple[str, str]] = {}
    for home, names in homes.items():
        for old, _, new in (name.partition(":") for name in names.split()):
            places[old] = home, new or old

    def find(name: str) -> Any:
        if name not in places:
            raise AttributeError(f"module {module!r} has no attribute {name!r}")
        home, new = places[name]
        warnings.warn(
            f"{module}.{name} is now {home}.{new}; the old name goes in softiou 0.3.",
            DeprecationWarning,
            stacklevel=stacklevel,
        )
        return getattr(import_module(home), new)

    return find


def renamed_arguments(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that lets a function take keywords by their old names, as old="new"."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            for old in names.keys() & kwargs.keys():
                warnings.warn(
                    f"{function.__name__}({old}=...) is now {names[old]}=...; the old name goes in "
                    "softiou 0.3.",
                    DeprecationWarning,
                    stacklevel=2,
                )
                kwargs[names[old]] = kwargs.pop(old)
            return function(*args, **kwargs)

        return call

    return decorate


def callable_module(module: str, home: str, function: str) -> None:
    """Let a module be called like a function of its name.

    Importing `package.name` sets the attribute `name` of the package, where a function may have
    been that took over the name.
    """

    class CallableModule(ModuleType):
        def __call__(self, *args: Any, **settings: Any) -> Any:
            return getattr(import_module(home), function)(*args, **settings)

    sys.modules[module].__class__ = CallableModule
