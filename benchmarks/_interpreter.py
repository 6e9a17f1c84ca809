"""Triton's interpreter without what it repeats."""

from typing import Any


def patch_once() -> None:
    """Have the interpreter replace the functions of Triton once per kernel and module.

    It does so again in each function that the kernel calls, which takes more than half of the time.
    """
    import triton.language as tl  # type: ignore[import-untyped]
    from triton.runtime import interpreter  # type: ignore[import-untyped]

    patch = interpreter._patch_lang

    def once(function: Any) -> Any:
        modules = [x for x in function.__globals__.values() if x is tl or x is tl.core]
        return patch(function) if any(tl.core.is_builtin(x.load) for x in modules) else None

    interpreter._patch_lang = once
