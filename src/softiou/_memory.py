"""How the C library allocates large tensors on the CPU."""

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # of malloc.h
_LARGEST_HEAP_BLOCK = 32 << 20  # the maximum, which glibc reaches by itself


def keep_freed_memory() -> None:
    """Let the process keep memory that tensors free, for those of the next step.

    By default glibc returns more than 64 MiB at the end of the heap to the system, and requests
    them again, page by page, at the next step: a tenth of the training time on the CPU. Peak memory
    does not change. This does nothing with another C library, or if the environment configures the
    allocation (MALLOC_..., GLIBC_TUNABLES).
    """
    configured = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    if configured or not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_HEAP_BLOCK)  # the next line would stop its growth
        mallopt(_M_TRIM_THRESHOLD, -1)
