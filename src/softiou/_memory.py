"""How the C library hands out memory to large tensors on the CPU."""

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_LARGEST_HEAP_BLOCK = 32 << 20  # what glibc comes to by itself, and its maximum


def keep_freed_memory() -> None:
    """Let the process keep what tensors free, for those of the next step.

    By default glibc gives more than 64 MiB at the end of the heap back to the system, and asks for
    them again, page by page, at the next step: a tenth of the time of training on the CPU. The peak
    of the memory stays as it is. Nothing happens where the C library is another one, or where the
    environment says how to allocate (MALLOC_..., GLIBC_TUNABLES).
    """
    said = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    if said or not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_HEAP_BLOCK)  # the next line would stop it from growing
        mallopt(_M_TRIM_THRESHOLD, -1)
