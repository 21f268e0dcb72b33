"""lookalike pretrain: learn from images, go on with a run, or look at what a run would be."""

import json
from pathlib import Path
from typing import Annotated

import typer
from rich import box
from rich.console import Console
from rich.table import Table

Data = Annotated[
    str | None,
    typer.Argument(metavar="DATA", help="Folder of images; list of paths or URIs; tar files; hf:OWNER/NAME; a URI"),
]
Changes = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Changes to the recipe, as method.temperature=0.2", show_default=False),
]
Method = Annotated[str | None, typer.Option(metavar="NAME", help="What to train: lookalike methods")]
RecipeName = Annotated[str | None, typer.Option("--recipe", metavar="NAME|FILE", help="Settings: lookalike recipes")]
Around = Annotated[
    str | None,
    typer.Option("--with", metavar="NAME,NAME", help="Add to any method: rotation, curation (lookalike methods)"),
]
Out = Annotated[str | None, typer.Option(metavar="DIR", help="Run folder; default runs/METHOD-N")]
Epochs = Annotated[float | None, typer.Option(metavar="N", help="Passes over the images")]
Seed = Annotated[int | None, typer.Option(metavar="N", help="Other random numbers")]
Backbone = Annotated[str | None, typer.Option(metavar="NAME", help="A timm name, resnet18_quarter or resnet18_half")]
BatchSize = Annotated[int | None, typer.Option("--batch", metavar="N", help="Images per step, over all processes")]
Init = Annotated[
    str | None, typer.Option(metavar="SPEC", help="Weights to start from: RUN, FILE.safetensors or timm:NAME")
]
Labels = Annotated[
    str | None,
    typer.Option(
        metavar="folders|FILE.csv|cls|json:FIELD|column:NAME",
        help="Labels to score with while training; only supcon learns from them, and none are needed",
    ),
]
MaxBad = Annotated[float | None, typer.Option(metavar="X", help="Share of images that may be unreadable (0.001)")]
Channels = Annotated[int | None, typer.Option(metavar="N", help="1 for gray images, 3 for color")]
Column = Annotated[
    str | None, typer.Option(metavar="NAME", help="Which image of a sample, where it has several: column or extension")
]
Download = Annotated[str | None, typer.Option(metavar="DIR", help="Keep copies of files behind URIs in this folder")]
Resume = Annotated[str | None, typer.Option(metavar="RUN", help="Go on with a run where it stopped")]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show recipe, memory and hours; keep nothing")]
Profiled = Annotated[bool, typer.Option("--profile", help="Show where the time of a step goes; keep nothing")]
OtherNumerics = Annotated[
    bool, typer.Option("--allow-different-numerics", help="Resume on a machine that rounds differently")
]

KEYS = ("epochs", "seed", "backbone.name", "batch", "data.max_bad", "data.channels", "data.column", "data.download")
OF_A_NEW_RUN = ("--method", "--recipe", "--with", "--out", "--init", "--labels")


def pretrain(
    data: Data = None,
    changes: Changes = None,
    method: Method = None,
    recipe: RecipeName = None,
    around: Around = None,
    out: Out = None,
    epochs: Epochs = None,
    seed: Seed = None,
    backbone: Backbone = None,
    batch: BatchSize = None,
    init: Init = None,
    labels: Labels = None,
    max_bad: MaxBad = None,
    channels: Channels = None,
    column: Column = None,
    download: Download = None,
    resume: Resume = None,
    dry_run: DryRun = False,
    profile: Profiled = False,
    allow_different_numerics: OtherNumerics = False,
) -> None:
    """Learn from images, without labels.

    Without --method and --recipe, a printed rule picks the recipe. The weights end in RUN/encoder.safetensors.
    Ctrl-C finishes the step, saves, and says how to go on.
    """
    values = (epochs, seed, backbone, batch, max_bad, channels, column, download)
    overrides = [f"{key}={json.dumps(value)}" for key, value in zip(KEYS, values, strict=True) if value is not None]
    overrides += _whole(data, changes or [])
    if resume is not None:
        _go_on(resume, data, (method, recipe, around, out, init, labels), overrides, allow_different_numerics)
    elif data is None or _is_change(data):
        raise ValueError(f"which images? {data or 'nothing'} was given: lookalike pretrain FOLDER [KEY=VALUE]...")
    elif profile:
        _measure(data, method, recipe, _added(around, overrides), init, labels)
    elif dry_run:
        _show(data, method, recipe, _added(around, overrides), init, labels)
    else:
        _begin(data, method, recipe, _added(around, overrides), out, init, labels)


def _added(around: str | None, overrides: list[str]) -> list[str]:
    """The overrides, after those that --with stands for."""
    from lookalike.recipes import asked_for

    return [*asked_for(() if around is None else around), *overrides]


def _begin(
    data: str,
    method: str | None,
    recipe: str | None,
    overrides: list[str],
    out: str | None,
    init: str | None,
    labels: str | None,
) -> None:
    from lookalike.api import pretrain

    pretrain(
        data, method=method, recipe=recipe, overrides=overrides, out=out, init=init, label_spec=labels, quiet=False
    )


def _go_on(
    run: str, data: str | None, new: tuple[str | None, ...], overrides: list[str], allow_different_numerics: bool
) -> None:
    from lookalike.api import resume

    refused = [name for name, value in zip(OF_A_NEW_RUN, new, strict=True) if value is not None] + overrides
    if data is not None and _is_change(data):
        refused, data = [data, *refused], None
    if refused:
        raise ValueError(f"a resumed run keeps its recipe: leave out {', '.join(refused)}, or start a new run")
    resume(run, data=data, allow_different_numerics=allow_different_numerics, quiet=False)


def _is_change(word: str) -> bool:
    """Whether the first word is KEY=VALUE, and no folder or URI."""
    return "=" in word and "://" not in word.partition("=")[0] and not Path(word).exists()


def _whole(data: str | None, changes: list[str]) -> list[str]:
    """The changes, after looking whether the shell has made many words of a pattern, or two folders were given."""
    if any(word.endswith(".tar") and "=" not in word for word in changes):
        raise ValueError(
            "several tar files were given: quote the pattern, as 'shards-{0000..0009}.tar', or give their folder"
        )
    other = next((word for word in changes if "=" not in word and Path(word).exists()), None)
    if other is not None:
        raise ValueError(
            f"one set of images is learned from, and two were given, {data} and {other}: move them into one folder, or "
            "give a text file with one path a line"
        )
    return changes


def _show(
    data: str, method: str | None, recipe: str | None, overrides: list[str], init: str | None, labels: str | None
) -> None:
    from lookalike.api import dry_run
    from lookalike.training.progress import duration

    seen = dry_run(data, method=method, recipe=recipe, overrides=overrides, init=init, label_spec=labels)
    print(seen.recipe)
    for reason in seen.reasons:
        print(f"# {reason}")
    print(f"# memory: {seen.megabytes:,.0f} MB at the most")
    print(f"# time: {duration(3600 * seen.hours)} ({seen.hours:.2g} hours), at {seen.images_per_second:,.0f} images/s")
    print("# nothing was kept; to train, the same without --dry-run")


def _measure(
    data: str, method: str | None, recipe: str | None, overrides: list[str], init: str | None, labels: str | None
) -> None:
    from lookalike.api import profile

    seen = profile(data, method=method, recipe=recipe, overrides=overrides, init=init, label_spec=labels)
    table = Table("part of a step", "share", "ms", "mostly", box=box.SIMPLE, pad_edge=False)
    for cost in seen.costs:
        table.add_row(cost.part, f"{cost.share:.0%}", f"{cost.milliseconds:.1f}", ", ".join(cost.operators))
    Console(highlight=False).print(table)
    first = ", ".join(f"{cost.part} {cost.share:.0%}" for cost in seen.costs[:3])
    print(f"the three largest costs: {first}; {seen.images_per_second:,.0f} images/s while watched")
    for sentence in seen.advice:
        print(f"advice: {sentence}")
    print("nothing was kept; to train, the same without --profile")
