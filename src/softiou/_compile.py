"""Compile C files of the package on first use for this machine's processor, and cache the result.

Nothing is compiled at installation, so the package is the same for every machine; without a C
compiler the caller falls back to another implementation.
"""

import ctypes
import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import tempfile
from functools import cache
from importlib.resources import files
from pathlib import Path

from softiou._files import atomic_path, write_atomically

_FLAGS = (
    "-std=c11",
    "-D_GNU_SOURCE",
    "-O3",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-shared",
    "-fPIC",
)
_SHARED = "_scalars.h"
_PATIENCE_S = 120  # a compiler takes about two seconds
# Not every compiler has OpenMP's threads; the C code then uses those of pthread.
_THREADS = ("-fopenmp", "-fopenmp-simd")


@cache
def load_library(package: str, name: str) -> ctypes.CDLL | str:
    """Load the library of a C file of the package, compiled now or before.

    Args:
        package: Dotted name of the package with the file.
        name: Name of the file.

    Returns:
        The library, or one sentence with the reason why there is none.
    """
    compiler = _compiler()
    if compiler is None:
        return "There is no C compiler (cc, gcc or clang; or name one as CC)."
    if platform.system() == "Windows":
        return "It does not support Windows."
    shared, own = files("softiou").joinpath(_SHARED), files(package).joinpath(name)
    source = shared.read_bytes() + own.read_bytes()
    options = (*_FLAGS, *_processor_flags())
    parts = (source, " ".join((*compiler, *options)).encode(), _processor())
    key = hashlib.sha256(b"\0".join(parts)).hexdigest()[:16]
    try:
        library = _cache_folder() / f"{Path(name).stem}-{key}.so"
        if not _is_sound(library):
            _compile(compiler, options, source, library)
            write_atomically(_digest(library), _record(library))
        return ctypes.CDLL(str(library))
    except subprocess.TimeoutExpired:
        return f"{shlex.join(compiler)} did not end within {_PATIENCE_S} seconds."
    except subprocess.CalledProcessError as error:
        lines = error.stderr.decode(errors="replace").strip().splitlines()
        return f"{shlex.join(compiler)} failed: {lines[-1] if lines else error}."
    except OSError as error:
        return f"Compiling it failed: {error}."


def _compiler() -> tuple[str, ...] | None:
    """Return the command of a C compiler; CC may contain options."""
    commands = [shlex.split(os.environ.get("CC", ""))]
    if not commands[0]:
        commands = [["cc"], ["gcc"], ["clang"]]
    found = ((shutil.which(name), options) for name, *options in commands)
    return next(((path, *options) for path, options in found if path), None)


def _processor_flags() -> tuple[str, ...]:
    """Return the options for all instructions of this processor."""
    if platform.machine() in ("arm64", "aarch64"):
        return ("-mcpu=native",)
    # By default compilers avoid wide vectors, which lowered the clock of older processors.
    wide = ("-mprefer-vector-width=512",) if b"avx512f" in _processor() else ()
    return ("-march=native", *wide)


def _processor() -> bytes:
    """Describe the processor, because different machines may share a cache."""
    try:
        lines = Path("/proc/cpuinfo").read_bytes().splitlines()
    except OSError:
        return platform.processor().encode()
    kinds = (b"model name", b"flags", b"Features", b"CPU part")
    return b"\n".join(sorted({line for line in lines if line.startswith(kinds)}))


def _cache_folder() -> Path:
    """Return a writable cache folder of this user, or a temporary one."""
    root = os.environ.get("XDG_CACHE_HOME") or os.path.expanduser("~/.cache")
    folder = Path(root) / "softiou"
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        if os.access(folder, os.W_OK) and _is_ours(folder):
            return folder
    except OSError:
        pass
    return Path(tempfile.mkdtemp(prefix="softiou-"))


def _is_sound(library: Path) -> bool:
    """Return whether a library is there, this user's alone and as it was compiled."""
    try:
        return _is_ours(library) and _record(library).read_bytes() == _digest(library)
    except OSError:
        return False


def _is_ours(path: Path) -> bool:
    """Return whether a path belongs to this user, and nobody else may write to it."""
    about = path.stat()
    return about.st_uid == os.getuid() and not about.st_mode & 0o022


def _record(library: Path) -> Path:
    return library.with_suffix(".sha256")


def _digest(library: Path) -> bytes:
    return hashlib.sha256(library.read_bytes()).hexdigest().encode()


def _compile(
    compiler: tuple[str, ...], options: tuple[str, ...], source: bytes, library: Path
) -> None:
    """Compile the source into a library; other processes may do the same at the same time."""
    with atomic_path(library) as built:
        for threads in _THREADS:
            output = ["-o", str(built), "-x", "c", "-", "-lpthread", "-lm"]
            command = [*compiler, *options, threads, *output]
            done = subprocess.run(
                command, check=False, capture_output=True, input=source, timeout=_PATIENCE_S
            )
            if done.returncode == 0:
                break
        done.check_returncode()
