"""lookalike embed: a row of numbers for each image, into one file."""

from typing import Annotated

import typer

RunPath = Annotated[str, typer.Argument(metavar="RUN", help="The folder that pretrain made")]
Data = Annotated[str, typer.Argument(metavar="DATA", help="Images, as pretrain takes them")]
Out = Annotated[str, typer.Option(metavar="FILE", help="FILE.parquet (id, embedding) or FILE.npy with FILE.ids.json")]
Role = Annotated[str, typer.Option(metavar="NAME", help="Which network of the run")]
BatchSize = Annotated[int, typer.Option(metavar="N", help="Images computed at once")]
Device = Annotated[str, typer.Option(metavar="NAME", help="auto, cpu or cuda")]
MaxBad = Annotated[float, typer.Option(metavar="X", help="Share of images that may be unreadable")]


def embed(
    run: RunPath,
    data: Data,
    out: Out,
    role: Role = "encoder",
    batch: BatchSize = 128,
    device: Device = "auto",
    max_bad: MaxBad = 0.001,
) -> None:
    """Write the features of every readable image into one file.

    What was stopped goes on with the same command; under torchrun several processes share the work.
    """
    from lookalike.api import embed
    from lookalike.functional.collectives import rank

    done = embed(run, data, out=out, role=role, batch=batch, device=device, max_bad=max_bad, quiet=False)
    if rank() == 0 and done.rows:
        print(f"{done.rows:,} rows of {done.dim} numbers in {done.path}, {len(done.skipped):,} images skipped")
        read = "pyarrow.parquet.read_table" if done.path.suffix == ".parquet" else "numpy.load"
        print(f'next, in Python: {read}("{done.path}")')
