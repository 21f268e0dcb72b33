"""What a measurement depends on, and where it is kept: shared by all benchmarks."""

import datetime
import json
import os
import pathlib
import platform
import subprocess
import sys
from collections.abc import Mapping

import torch

RESULTS = pathlib.Path(__file__).resolve().parent / "results"


def facts() -> dict[str, object]:
    """Processor, memory, versions, threads, load at this moment, revision and command line."""
    return {
        "date": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
        "command": " ".join([pathlib.Path(sys.executable).name, *(relative(part) for part in sys.argv)]),
        "revision": revision(),
        "processor": processor(),
        "cores": os.cpu_count(),
        "memory_GiB": round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30, 1),
        "accelerator": torch.cuda.get_device_name() if torch.cuda.is_available() else None,
        "system": platform.platform(),
        "python": platform.python_version(),
        "torch": torch.__version__,
        "vector_instructions": torch.backends.cpu.get_cpu_capability(),
        "threads": torch.get_num_threads(),
        "load": [round(value, 2) for value in os.getloadavg()],
    }


def save(name: str, body: Mapping[str, object]) -> pathlib.Path:
    """Writes benchmarks/results/<name>-<date>.json: the machine's facts, then the body."""
    RESULTS.mkdir(exist_ok=True)
    path = RESULTS / f"{name}-{datetime.datetime.now(datetime.UTC).date()}.json"
    path.write_text(json.dumps({"machine": facts(), **body}, indent=1) + "\n")
    return path


def newest(kind: str) -> pathlib.Path:
    """The last result file of a kind. Raises ValueError where there is none."""
    return max(RESULTS.glob(f"{kind}-2*.json"))


def methods_of(kind: str) -> dict[str, dict]:
    """What the last file of a kind says of each method, for a bench that goes on; nothing where there is none."""
    found = sorted(RESULTS.glob(f"{kind}-2*.json"))
    return json.loads(found[-1].read_text())["methods"] if found else {}


def processor() -> str:
    """The processor's model and family: /proc/cpuinfo on Linux, else what the platform says."""
    try:
        lines = pathlib.Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor() or platform.machine()
    known = {name.strip(): value.strip() for name, _, value in (line.partition(":") for line in lines)}
    parts = [known.get("model name", platform.machine())]
    parts += [f"{name} {known[name]}" for name in ("cpu family", "model") if name in known]
    return ", ".join(parts)


def revision() -> str:
    """The commit, with "+" where tracked files differ from it; "unknown" outside a repository."""
    folder = pathlib.Path(__file__).parent
    try:
        commit = subprocess.run(["git", "rev-parse", "HEAD"], cwd=folder, capture_output=True, text=True, check=True)
        changes = subprocess.run(["git", "diff", "--quiet", "HEAD"], cwd=folder, check=False)
    except (OSError, subprocess.CalledProcessError):
        return "unknown"
    return commit.stdout.strip() + ("+" if changes.returncode else "")


def relative(part: str) -> str:
    """A path of the command line without the machine's folders; outside the repository its last name alone."""
    root = pathlib.Path(__file__).resolve().parents[1]
    path = pathlib.Path(part)
    if not path.is_absolute():
        return part
    return str(path.relative_to(root)) if path.is_relative_to(root) else path.name
