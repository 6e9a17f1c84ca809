"""Load the compiled libraries of the package for this processor."""

import ctypes
import hashlib
import platform
import warnings
from functools import cache
from pathlib import Path

import torch
from torch.backends.cpu import get_cpu_capability

# numbers of the tensor types in the C files, see `_scalars.h`
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
_PACKAGE = Path(__file__).parent
FOLDER = _PACKAGE / "_compiled"
# library variants by torch's CPU capability, widest first
_VARIANTS = {"AVX512": ("x86-64-v4", "x86-64-v3"), "AVX2": ("x86-64-v3",)}


@cache
def load_library(name: str) -> ctypes.CDLL | str:
    """Load the library of a package, such as "overlap", or return the reason for a failure."""
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
        library = ctypes.CDLL(str(found[0]))
    except OSError as error:
        return f"{found[0]} cannot be loaded: {error}."
    if _fits(library, name):
        return library
    return (
        f"{found[0]} was compiled from C files of another version. Compile them again with "
        "python scripts/build_native.py in the clone, or reinstall softiou."
    )


def _fits(library: ctypes.CDLL, name: str) -> bool:
    """Return whether a library was compiled from the C files of this version."""
    files = [_PACKAGE / "_scalars.h", _PACKAGE / name / "native.c"]
    if not all(file.exists() for file in files):  # installed without C files
        return True
    digest = hashlib.sha256(b"".join(file.read_bytes() for file in files)).hexdigest()
    try:
        return (ctypes.c_char * 64).in_dll(library, "softiou_sources").raw == digest.encode()
    except ValueError:  # an earlier version without this symbol
        return False


def cpu_variants() -> tuple[str, ...]:
    """Return the library variants that this processor supports, fastest first."""
    if platform.machine().lower() in ("arm64", "aarch64"):
        return ("arm64",)
    return _VARIANTS.get(get_cpu_capability(), ())


@cache
def warn_once(message: str) -> None:
    """Warn once per message."""
    warnings.warn(message, stacklevel=2)
