"""lookalike export: the encoder of a run as a file for other software."""

from typing import Annotated

import typer

RunPath = Annotated[str, typer.Argument(metavar="RUN", help="The folder that pretrain made")]
To = Annotated[str, typer.Option(metavar="NAME", help="safetensors, timm, torch, onnx, torchvision or detectron2")]
Out = Annotated[str | None, typer.Option(metavar="FILE", help="Default: RUN/export/ROLE and what the kind ends in")]
Role = Annotated[str, typer.Option(metavar="NAME", help="Which network of the run")]
PixelKind = Annotated[str, typer.Option(metavar="KIND", help="What torch and onnx take: uint8, or float in [0, 1]")]
Data = Annotated[str | None, typer.Option(metavar="DATA", help="Images to compare on; default: generated ones")]
Push = Annotated[str | None, typer.Option(metavar="OWNER/NAME", help="Send it to this model of the Hub, too")]
Force = Annotated[bool, typer.Option("--force", help="Replace files that are there")]


def export(
    run: RunPath,
    to: To,
    out: Out = None,
    role: Role = "encoder",
    pixels: PixelKind = "uint8",
    data: Data = None,
    push: Push = None,
    force: Force = False,
) -> None:
    """Write a trained encoder as a file for other software.

    Its features are compared with the run's before it is written; a card lies beside it. Nothing leaves this machine
    without --push.
    """
    from lookalike.api import export

    done = export(run, to=to, out=out, role=role, pixels=pixels, data=data, push=push, force=force)
    print(f"wrote {', '.join(map(str, done.files))}")
    print(f"compared with the run on {done.compared}")
    if done.address:
        print(f"sent to {done.address}")
    print(f"load it like this{f'. {done.hint}' if done.hint else ':'}")
    print("\n".join(f"    {line}".rstrip() for line in done.code.splitlines()))
