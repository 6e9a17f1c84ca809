"""The compiled libraries of the package: which one serves this processor."""

import ctypes
import platform
import warnings
from functools import cache
from pathlib import Path

import torch
from torch.backends.cpu import get_cpu_capability

# How the C files number the types of tensors, see `_scalars.h`.
FLOATS = {torch.float32: 0, torch.bfloat16: 1, torch.float16: 2}
INTEGERS = {
    torch.uint8: 3,
    torch.bool: 3,
    torch.int8: 4,
    torch.int16: 5,
    torch.int32: 6,
    torch.int64: 7,
}
TYPES = FLOATS | INTEGERS
FOLDER = Path(__file__).parent / "_compiled"
# By what torch finds; the widest first.
_VARIANTS = {"AVX512": ("x86-64-v4", "x86-64-v3"), "AVX2": ("x86-64-v3",)}


@cache
def load_library(name: str) -> ctypes.CDLL | str:
    """Load the library "overlap" or "metrics", or return one sentence on why there is none."""
    variants = cpu_variants()
    if not variants:
        return f"There is no compiled code for this processor ({platform.machine()})."
    found = [path for path in (FOLDER / f"{name}-{one}.so" for one in variants) if path.exists()]
    if not found:
        return (
            "softiou was built without a C compiler. Install a wheel with compiled code, or "
            "install gcc or clang and then softiou again from its clone: pip install ."
        )
    try:
        return ctypes.CDLL(str(found[0]))
    except OSError as error:
        return f"{found[0]} cannot be loaded: {error}."


def cpu_variants() -> tuple[str, ...]:
    """Return the kinds of libraries that this processor can run, fastest first."""
    if platform.machine().lower() in ("arm64", "aarch64"):
        return ("arm64",)
    return _VARIANTS.get(get_cpu_capability(), ())


@cache
def warn_once(message: str) -> None:
    """Warn, the first time that this is said."""
    warnings.warn(message, stacklevel=2)
