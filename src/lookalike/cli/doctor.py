"""lookalike doctor: what is wrong with a run, and which setting to change."""

from typing import Annotated

import typer

RunPath = Annotated[str, typer.Argument(metavar="RUN", help="The folder that pretrain made")]


def doctor(run: RunPath) -> None:
    """Say what is wrong with a run, in plain words.

    Collapse, a loss that does not fall, dropped steps, waiting for images, damaged checkpoints, a dead queue, a stale
    momentum encoder, skipped images. Nothing in RUN is changed.
    """
    from lookalike.api import doctor as examine

    found = examine(run)
    for finding in found.findings:
        print(f"{finding.what}: {' '.join(finding.sentence.split())}")
    if not found.findings:
        print("nothing wrong found")
    print(f"looked at: {', '.join(found.looked)}")
    print(f"next: {found.next}")
