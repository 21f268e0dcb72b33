"""How much memory is free for this process, the limits of its container counted in."""

import os
from pathlib import Path


def available_memory(proc: Path = Path("/proc"), groups: Path = Path("/sys/fs/cgroup")) -> int:
    """Bytes that can be taken without swapping: what the kernel calls available, or what the control group leaves.

    proc, groups: where the kernel's tables are. Without them half of the machine's memory, or 0 if that is unknown.
    """
    free = _kernel(proc)
    return min([free, *_left(proc, groups)])


def _kernel(proc: Path) -> int:
    try:
        for line in (proc / "meminfo").read_text().splitlines():
            if line.startswith("MemAvailable:"):
                return int(line.split()[1]) * 1024
    except OSError:
        pass
    try:
        return os.sysconf("SC_PHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") // 2
    except (AttributeError, ValueError, OSError):  # no such table on this system
        return 0


def _left(proc: Path, groups: Path) -> list[int]:
    """What each control group around this process still allows (version 2: its own and those above it; version 1)."""
    left = [_room(groups / "memory", "memory.limit_in_bytes", "memory.usage_in_bytes", "total_inactive_file")]
    try:
        own = (proc / "self" / "cgroup").read_text().split("::", 1)[-1].strip().lstrip("/")
    except OSError:
        own = ""
    for folder in (groups / own, *(groups / own).parents):
        left.append(_room(folder, "memory.max", "memory.current", "inactive_file"))
        if folder == groups:
            break
    return [room for room in left if room is not None]


def _room(folder: Path, limit: str, usage: str, reclaimable: str) -> int | None:
    try:
        most, used = (folder / limit).read_text().strip(), int((folder / usage).read_text())
        rows = dict(line.split() for line in (folder / "memory.stat").read_text().splitlines())
    except (OSError, ValueError):
        return None
    return None if most == "max" else max(0, int(most) - used + int(rows.get(reclaimable, 0)))
