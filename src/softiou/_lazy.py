"""Lazy import of the public names of a package."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

from softiou._moved import moved_names


def lazy_names(
    package: str, homes: Mapping[str, str], moved: Mapping[str, str] | None = None
) -> tuple[Callable[[str], Any], Callable[[], list[str]]]:
    """Return `__getattr__` and `__dir__` for a package, which import submodules on first use.

    `homes` has the public names of each submodule, separated by spaces; the name of a submodule
    itself stands for the module. `moved` is passed to `moved_names`.
    """
    modules = {name: f"{package}.{home}" for home, names in homes.items() for name in names.split()}
    find_moved = moved_names(package, moved or {}, stacklevel=3)

    def find(name: str) -> Any:
        if name in modules:
            module = import_module(modules[name])
            return module if modules[name] == f"{package}.{name}" else getattr(module, name)
        return find_moved(name)

    return find, lambda: sorted(modules)
