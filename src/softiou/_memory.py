"""Configure the allocation of large CPU tensors by the C library."""

import ctypes
import os
import sys

_M_TRIM_THRESHOLD, _M_MMAP_THRESHOLD = -1, -3  # constants of malloc.h
_LARGEST_HEAP_BLOCK = 32 << 20  # the maximum, which glibc reaches on its own


def keep_freed_memory() -> None:
    """Keep freed memory in the process, for reuse in the next training step.

    By default, glibc returns more than 64 MiB at the end of the heap to the system and requests
    them again in the next step, page by page, which takes a tenth of the training time on the CPU.
    Peak memory does not change. The function has no effect with another C library, or if the
    environment configures the allocation (MALLOC_..., GLIBC_TUNABLES).
    """
    configured = any(name.startswith("MALLOC_") or name == "GLIBC_TUNABLES" for name in os.environ)
    if configured or not sys.platform.startswith("linux"):
        return
    mallopt = getattr(ctypes.CDLL(None), "mallopt", None)
    if mallopt is not None:
        mallopt(_M_MMAP_THRESHOLD, _LARGEST_HEAP_BLOCK)  # else fixed by the next line
        mallopt(_M_TRIM_THRESHOLD, -1)
