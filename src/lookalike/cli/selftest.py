"""lookalike selftest: whether losses, precision, checkpoints and processes work on this machine as they should."""

import sys
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from lookalike.api import Check

Device = Annotated[str, typer.Option(metavar="NAME", help="auto, cpu or cuda")]
FAILED = 1


def selftest(device: Device = "auto") -> None:
    """Check every loss on this machine, under a minute.

    fp32 against slow loops in fp64, bf16, a checkpoint, one process against two. Exit code 1 if a check fails.
    """
    from lookalike.api import selftest as examine

    found = examine(device=device, on_check=show, on_wait=lambda why: print(why, file=sys.stderr, flush=True))
    failed = sum(not check.passed for check in found.checks)
    print(f"{len(found.checks)} checks in {found.seconds:.1f} s, {failed} failed")
    if failed:
        print(
            "next: pip install --force-reinstall lookalike; if a check still fails, do not trust what is trained here"
        )
        raise typer.Exit(FAILED)
    print("next: lookalike demo")


def show(check: "Check") -> None:
    """One line: what was compared, the error, its limit."""
    note = f" ({' '.join(check.note.split())})" if check.note else ""
    if check.error is None:
        print(f"not done  {check.what}{note}", flush=True)
        return
    word = "ok" if check.passed else "FAILED"
    print(f"{word:8}  {check.what}: error {check.error:.1e}, limit {check.limit:.0e}{note}", flush=True)
