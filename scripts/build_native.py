"""Compile the C files of the package into src/softiou/_compiled; run by pip when it installs.

    python scripts/build_native.py    # after changing a C file

There is one library for each C file and kind of processor; `softiou._native` selects one at run
time. They do not use the C API of Python or torch, so a wheel works with every version of both.
Without a C compiler, PyTorch operators are used instead, which are 4 to 6 times slower; the build
prints a message. The environment variable CC sets the compiler, and may contain options.
"""

import hashlib
import os
import platform
import shlex
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

SOURCE = Path(__file__).resolve().parent.parent / "src" / "softiou"
FOLDER = SOURCE / "_compiled"
SHARED = SOURCE / "_scalars.h"
FILES = {name: SOURCE / name / "native.c" for name in ("overlap", "metrics", "data")}
FLAGS = (
    "-std=gnu11",
    "-O3",
    "-ffp-contract=fast",
    "-fno-math-errno",
    "-fno-trapping-math",
    "-fopenmp-simd",
    "-shared",
    "-fPIC",
)
# By default compilers avoid wide vectors, which lowered the clock of older processors.
VARIANTS: dict[str, dict[str, tuple[str, ...]]] = {
    "x86_64": {
        "x86-64-v4": ("-march=x86-64-v4", "-mprefer-vector-width=512"),
        "x86-64-v3": ("-march=x86-64-v3",),
    },
    "arm64": {"arm64": ()},
}
MACHINES = {"amd64": "x86_64", "x86_64": "x86_64", "aarch64": "arm64", "arm64": "arm64"}
LONGEST = 300  # seconds for one library


def build(machine: str | None = None) -> bool:
    """Compile all libraries for a machine unless they exist; return False without a compiler.

    Args:
        machine: x86_64 or arm64; this machine by default. ARCHFLAGS on macOS may set another.
    """
    compiler = find_compiler()
    if compiler is None:
        _say("no C compiler found (cc, gcc, clang, or CC): built without compiled code")
        return False
    variants = VARIANTS.get(machine or _machine(), {})
    key = _key(compiler, variants)
    stamp = FOLDER / "built.txt"
    if stamp.exists() and stamp.read_text(encoding="utf-8") == key:
        return bool(variants)
    shutil.rmtree(FOLDER, ignore_errors=True)
    FOLDER.mkdir()
    built = [
        _compile(compiler, options, source, FOLDER / f"{name}-{variant}.so")
        for name, source in FILES.items()
        for variant, options in variants.items()
    ]
    if built and all(built):
        stamp.write_text(key, encoding="utf-8")
    return any(built)


def find_compiler() -> tuple[str, ...] | None:
    """Return the command of a C compiler, or None."""
    commands = [shlex.split(os.environ.get("CC", ""))]
    if not commands[0]:
        commands = [["cc"], ["gcc"], ["clang"]]
    found = ((shutil.which(name), options) for name, *options in commands)
    return next(((path, *options) for path, options in found if path), None)


def platform_tag() -> str:
    """Return the platform tag of a wheel with compiled code; releases use manylinux."""
    return sysconfig.get_platform().replace("-", "_").replace(".", "_")


def _machine() -> str:
    wanted = os.environ.get("ARCHFLAGS", "").split()
    return MACHINES.get((wanted[-1] if wanted else platform.machine()).lower(), "other")


def _key(compiler: tuple[str, ...], variants: dict[str, tuple[str, ...]]) -> str:
    """Return a hash of the C files and compiler options."""
    said = subprocess.run([*compiler, "--version"], check=False, capture_output=True)
    texts = [path.read_bytes() for path in (SHARED, *FILES.values(), Path(__file__))]
    rest = repr((compiler, said.stdout, sorted(variants), os.environ.get("ARCHFLAGS"))).encode()
    return hashlib.sha256(b"\0".join((*texts, rest))).hexdigest()


def _compile(
    compiler: tuple[str, ...], options: tuple[str, ...], source: Path, library: Path
) -> bool:
    """Compile one library, unless the compiler does not support the processor."""
    whole = SHARED.read_bytes() + source.read_bytes()
    # softiou._native compares it with the C files, to detect outdated libraries.
    whole += f'\nconst char softiou_sources[] = "{hashlib.sha256(whole).hexdigest()}";\n'.encode()
    system = _of_the_system()
    command = [*compiler, *FLAGS, *options, *system, "-o", str(library), "-x", "c", "-", "-lm"]
    try:
        done = subprocess.run(
            command, check=False, capture_output=True, input=whole, timeout=LONGEST
        )
    except subprocess.TimeoutExpired:
        _say(f"{library.name} is missing: {shlex.join(compiler)} took over {LONGEST} s")
        return False
    if done.returncode == 0 and library.exists():
        return True
    library.unlink(missing_ok=True)
    lines = done.stderr.decode(errors="replace").strip().splitlines()
    _say(f"{library.name} is missing: {shlex.join(compiler)} failed: {lines[-1:]}")
    return False


def _say(line: str) -> None:
    sys.stdout.write(f"softiou: {line}\n")


def _of_the_system() -> tuple[str, ...]:
    if sys.platform == "darwin":
        return tuple(shlex.split(os.environ.get("ARCHFLAGS", "")))
    if sys.platform == "win32":
        return ("-static",)  # link the thread library statically, as other machines lack it
    return ("-lpthread",)


if __name__ == "__main__":
    sys.exit(0 if build() else 1)
