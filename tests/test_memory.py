"""Freed memory is kept for the next step: seen by the pages that the system has to hand out."""

import os
import platform
import subprocess
import sys

import pytest

PAGES = """
import ctypes, resource
from softiou._memory import keep_freed_memory
{first}
c = ctypes.CDLL(None)
c.malloc.restype = ctypes.c_void_p
c.free.argtypes = [ctypes.c_void_p]
def fill():
    blocks = [c.malloc(16 << 20) for _ in range(12)]
    for block in blocks:
        ctypes.memset(block, 1, 16 << 20)
    for block in reversed(blocks):
        c.free(block)
for _ in range(3):
    fill()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
for _ in range(4):
    fill()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def pages(first: str, **environment: str) -> int:
    """Return how many fresh pages four times 192 MiB of blocks take."""
    inherited = {key: value for key, value in os.environ.items() if not key.startswith("MALLOC_")}
    found = subprocess.run(
        [sys.executable, "-c", PAGES.format(first=first)],
        env=inherited | {"OMP_NUM_THREADS": "1"} | environment,
        capture_output=True,
        text=True,
        check=True,
    )
    return int(found.stdout)


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc of glibc")
def test_freed_blocks_are_used_again() -> None:
    assert pages("") > 20_000
    assert pages("keep_freed_memory()") < 1_000


@pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="malloc of glibc")
def test_the_environment_has_the_last_word() -> None:
    assert pages("keep_freed_memory()", MALLOC_TRIM_THRESHOLD_="1000000") > 20_000
