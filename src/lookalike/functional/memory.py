"""Memory that a step frees, kept for the next step.

By default glibc gives large blocks back to the system as soon as they are freed and asks for them again a moment later;
the system hands them out page by page, zeroed: up to a seventh of a training step on a CPU.
"""

import ctypes
import os
import sys
from functools import cache

# parameters of mallopt(3) with what they are set to; 32 MiB is the largest threshold that glibc accepts
MMAP_THRESHOLD, TRIM_THRESHOLD, TOP_PAD = (-3, 2**25), (-1, 2**31 - 1), (-2, 2**28)


@cache
def keep_freed_memory() -> bool:
    """Has this process keep up to 2 GiB of freed memory; False where that is not possible or not wanted.

    It is possible with glibc (Linux), and not wanted where the environment sets MALLOC_... variables of its own.
    """
    if not sys.platform.startswith("linux") or any(name.startswith("MALLOC_") for name in os.environ):
        return False
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    return all(mallopt(*setting) == 1 for setting in (MMAP_THRESHOLD, TRIM_THRESHOLD, TOP_PAD))
