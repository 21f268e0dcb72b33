"""Kernels compiled by numba, where the user has it (the extra `[cpu]`); who calls them has another way to the result.

A kernel is for a CPU, takes arrays, and runs in as many threads as torch has.
"""

import os
import sys
from collections.abc import Callable
from functools import cache
from inspect import unwrap
from types import ModuleType
from typing import Any

import torch
from torch import Tensor

Load = Callable[[], ModuleType]
_process = os.getpid()  # threads do not survive a fork: OpenMP ends a child that asks for them


@cache
def _loaded(load: Load) -> ModuleType | str:
    """The module, with its threads started, or why there is none."""
    if not sys.platform.startswith("linux"):  # only there numba's threads are OpenMP's, as torch's are
        return "they are for Linux"
    os.environ.setdefault("NUMBA_THREADING_LAYER", "omp")  # numba reads it when it is imported
    threads = torch.get_num_threads()
    try:
        module = load()
        if not forked():
            import numba

            numba.set_num_threads(1)  # starts them, or says that there is no OpenMP for them
    except Exception as error:  # numba is missing, or does not fit the numpy, the compiler or the OpenMP at hand
        return f"{type(error).__name__}: {error}".partition("\n")[0]
    finally:
        if torch.get_num_threads() != threads:  # numba's start is heard by torch too, and results depend on the number
            torch.set_num_threads(threads)
    return module


def kernels(load: Load) -> ModuleType | None:
    """The module of kernels that `load` imports; None without numba, outside Linux and under torch.compile."""
    if torch.compiler.is_compiling():
        return None
    found = _loaded(load)
    return None if isinstance(found, str) else found


def missing(load: Load) -> str | None:
    """Why there are no kernels, in a few words; None where there are."""
    found = _loaded(load)
    return found if isinstance(found, str) else None


def forked() -> bool:
    """Whether this process was forked from the one that imported this file: a kernel has one thread there."""
    return os.getpid() != _process


def call(load: Load, kernel: str, *values: Tensor | float | bool) -> None:
    """Calls a kernel of a module in as many threads as torch has; in one if `forked`, where "..._serially" must exist.

    values: tensors on the CPU, whose memory the kernel sees, and numbers. Raises RuntimeError where `kernels` has none.
    """
    module = _loaded(load)
    if isinstance(module, str):
        raise RuntimeError(f"the kernel {kernel} needs numba and Linux ({module}): ask kernels() first")
    import numba

    limit: int = numba.config.NUMBA_NUM_THREADS  # type: ignore[attr-defined]
    count = 1 if forked() else min(torch.get_num_threads(), limit)
    alone = getattr(module, f"{kernel}_serially", None) if count == 1 else None
    if alone is None:
        numba.set_num_threads(count)
    (alone or getattr(module, kernel))(*(value.numpy() if isinstance(value, Tensor) else value for value in values))


def compiled(function: Any, threads: bool = False, **options: Any) -> Any:
    """The function as machine code, made at its first call and kept beside its file or in the user's cache."""
    from numba import njit

    function = unwrap(function)  # checks of shapes, which tests put around every function, cannot be compiled
    options |= {"nogil": True, "error_model": "numpy", "parallel": threads}
    try:
        return njit(cache=True, **options)(function)
    except RuntimeError:  # there is nowhere to keep it
        return njit(**options)(function)
