"""Memory that a step frees is there for the next: counted in page faults of a process of its own."""

import os
import subprocess
import sys

import pytest

PAGES = 64_000_000 // 4096  # of one step
STEPS = """
import resource, sys
import torch
from lookalike.functional.memory import STEPS, keep_freed_memory
kept = keep_freed_memory(STEPS) if sys.argv[1] == "keep" else False

def step():
    held = [torch.ones(2_000_000) for _ in range(8)]  # 64 MB

def faults():
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt

step()
before = faults()
for _ in range(20):
    step()
print(int(kept), faults() - before)
"""


def seen(how: str, **variables: str) -> tuple[bool, int]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MALLOC_")}
    words = [sys.executable, "-c", STEPS, how]
    out = subprocess.run(words, env=environment | variables, capture_output=True, text=True, check=True).stdout
    kept, faults = map(int, out.split())
    return bool(kept), faults


@pytest.mark.skipif(not sys.platform.startswith("linux"), reason="glibc only")
def test_freed_memory_is_kept_for_the_next_step():
    kept, faults = seen("keep")
    if not kept:
        pytest.skip("this C library has no mallopt")
    assert faults < 2 * PAGES, f"{faults} page faults in 20 steps of {PAGES} pages"


def test_what_the_environment_says_of_malloc_stands():
    kept, _ = seen("keep", MALLOC_ARENA_MAX="2")
    assert not kept
