"""Memory that a step frees, kept for the next step.

By default glibc gives large blocks back to the system as soon as they are freed and asks for them again a moment later;
the system hands them out page by page, zeroed, which takes a part of each training step on a CPU.
"""

import ctypes
import os
import sys
from functools import cache

# parameters of mallopt(3) with what they are set to; 32 MiB is the largest threshold that glibc accepts
MMAP_THRESHOLD, TRIM_THRESHOLD, TOP_PAD = (-3, 2**25), (-1, 2**31 - 1), (-2, 2**28)


@cache
def keep_freed_memory() -> bool:
    """Has this process keep freed memory, up to 2 GiB at the end of its heap; False where that cannot or must not be.

    It can be with glibc (Linux), and must not be where the environment speaks of malloc (MALLOC_..., GLIBC_TUNABLES).
    """
    wanted = not any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
    if not sys.platform.startswith("linux") or not wanted:
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return all(mallopt(*setting) == 1 for setting in (MMAP_THRESHOLD, TRIM_THRESHOLD, TOP_PAD))
