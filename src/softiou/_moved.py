"""Deprecated names, which work for one more minor release with a warning."""

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
    """Return `__getattr__` for a module, which resolves old names to their new place.

    `homes` has the names that are now in each module, separated by spaces; OLD:NEW if the name
    changed as well. `stacklevel` is counted from the returned function.
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
            f"{module}.{name} is now {home}.{new}; the old name will be removed in softiou 0.3.",
            DeprecationWarning,
            stacklevel=stacklevel,
        )
        return getattr(import_module(home), new)

    return find


def renamed_arguments(**names: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """Return a decorator that accepts old keyword names, given as old="new"."""

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        @wraps(function)
        def call(*args: P.args, **kwargs: P.kwargs) -> R:
            for old in names.keys() & kwargs.keys():
                warnings.warn(
                    f"{function.__name__}({old}=...) is now {names[old]}=...; the old name will be "
                    "removed in softiou 0.3.",
                    DeprecationWarning,
                    stacklevel=2,
                )
                kwargs[names[old]] = kwargs.pop(old)
            return function(*args, **kwargs)

        return call

    return decorate


def callable_module(module: str, home: str, function: str) -> None:
    """Make a module callable as the function that took over its name.

    Importing `package.name` sets the attribute `name` of the package to the module, which would
    hide the function of that name.
    """

    class CallableModule(ModuleType):
        def __call__(self, *args: Any, **settings: Any) -> Any:
            return getattr(import_module(home), function)(*args, **settings)

    sys.modules[module].__class__ = CallableModule
