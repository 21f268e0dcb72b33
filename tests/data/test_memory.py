"""Free memory from the tables of the kernel and of control groups."""

from pathlib import Path

import psutil
import pytest

from lookalike.data import available_memory

GB = 10**9


def tables(folder: Path, available: int = 8 * GB, own: str = "/") -> tuple[Path, Path]:
    proc, groups = folder / "proc", folder / "groups"
    (proc / "self").mkdir(parents=True)
    groups.mkdir()
    (proc / "meminfo").write_text(f"MemTotal: 99 kB\nMemAvailable: {available // 1024} kB\n")
    (proc / "self/cgroup").write_text(f"0::{own}\n")
    return proc, groups


def group(folder: Path, most: int | str, used: int, inactive: int = 0) -> None:
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "memory.max").write_text(f"{most}\n")
    (folder / "memory.current").write_text(f"{used}\n")
    (folder / "memory.stat").write_text(f"anon 5\ninactive_file {inactive}\n")


def test_without_groups_the_kernel_says_it(tmp_path):
    assert available_memory(*tables(tmp_path)) == 8 * GB // 1024 * 1024


@pytest.mark.parametrize(
    ("most", "used", "inactive", "left"),
    [("max", 5 * GB, 0, 8 * GB), (4 * GB, GB, 0, 3 * GB), (4 * GB, 3 * GB, 2 * GB, 3 * GB), (GB, 2 * GB, 0, 0)],
)
def test_a_container_limits_it(most, used, inactive, left, tmp_path):
    proc, groups = tables(tmp_path)
    group(groups, most, used, inactive)
    assert available_memory(proc, groups) == left


def test_so_does_any_group_above(tmp_path):
    proc, groups = tables(tmp_path, own="/a/b")
    group(groups / "a", 2 * GB, GB)
    group(groups / "a/b", 7 * GB, GB)
    assert available_memory(proc, groups) == GB


def test_version_one(tmp_path):
    proc, groups = tables(tmp_path)
    (groups / "memory").mkdir()
    (groups / "memory/memory.limit_in_bytes").write_text(f"{3 * GB}\n")
    (groups / "memory/memory.usage_in_bytes").write_text(f"{2 * GB}\n")
    (groups / "memory/memory.stat").write_text(f"total_inactive_file {GB // 2}\n")
    assert available_memory(proc, groups) == 3 * GB // 2


def test_the_real_machine():
    assert 0 < available_memory() <= psutil.virtual_memory().total


def test_without_tables_it_is_half_of_the_machine(tmp_path):
    half = psutil.virtual_memory().total // 2
    assert abs(available_memory(tmp_path, tmp_path) - half) < 0.02 * half
