"""What the tests of this folder leave for benchmarks/faults.py: lines of JSON in the file that FAULT_COUNTS names."""

import json
import os


def note(group: int, what: str, **numbers: float | str) -> None:
    """Appends one line: the group of cases, what was done, how many, how many as they must be."""
    if path := os.environ.get("FAULT_COUNTS"):
        with open(path, "a", encoding="utf-8") as file:
            file.write(json.dumps({"group": group, "what": what, **numbers}) + "\n")
