"""Memory that a step frees, kept for the next step.

By default glibc gives large blocks back to the system as soon as they are freed and asks for them again a moment later;
the system hands them out page by page, zeroed, which takes a part of each training step on a CPU.
"""

import ctypes
import os
import sys

MMAP_THRESHOLD, TRIM_THRESHOLD, TOP_PAD = -3, -1, -2  # parameters of mallopt(3)
VIEWS, STEPS = 2**21, 2**25  # bytes of the largest blocks of a view, and of a training step; glibc's limit is 2**25
_kept = [0]  # what this process keeps: a setting of the C library, which cannot be asked for it


def keep_freed_memory(block: int) -> bool:
    """Has this process keep freed blocks of up to `block` bytes, 64 of them at the end of its heap.

    False where that cannot or must not be: it can be with glibc (Linux), and must not be where the environment speaks
    of malloc (MALLOC_..., GLIBC_TUNABLES). What is kept grows, and never shrinks.
    """
    wanted = not any(name.startswith(("MALLOC_", "GLIBC_TUNABLES")) for name in os.environ)
    if not sys.platform.startswith("linux") or not wanted:
        return False
    if block <= _kept[0]:
        return True
    try:
        mallopt = ctypes.CDLL(None).mallopt
    except (OSError, AttributeError):  # another C library
        return False
    settings = ((MMAP_THRESHOLD, block), (TRIM_THRESHOLD, min(64 * block, 2**31 - 1)), (TOP_PAD, 8 * block))
    _kept[0] = block
    return all(mallopt(*setting) == 1 for setting in settings)
