"""lookalike views: what the augmentations of a recipe do, as a picture."""

from typing import Annotated

import typer

Data = Annotated[str, typer.Argument(metavar="DATA", help="Images, as pretrain takes them")]
Changes = Annotated[
    list[str] | None,
    typer.Argument(metavar="KEY=VALUE", help="Changes to the recipe, as views.size=96", show_default=False),
]
Method = Annotated[str | None, typer.Option(metavar="NAME", help="Whose views: lookalike methods")]
RecipeName = Annotated[str | None, typer.Option("--recipe", metavar="NAME|FILE", help="Settings: lookalike recipes")]
Out = Annotated[str, typer.Option(metavar="FILE", help="FILE.png, .webp or .jpg")]
Count = Annotated[int, typer.Option(metavar="N", help="Rows of the sheet")]


def views(
    data: Data,
    changes: Changes = None,
    method: Method = None,
    recipe: RecipeName = None,
    out: Out = "views.png",
    images: Count = 6,
) -> None:
    """Draw what the augmentations do to some images.

    Each row is an image as decoded, and then the draws of every view that the first epochs of training would show. To
    be looked at before training: are the views still the same thing?
    """
    from lookalike.api import views as draw

    written = draw(data, out=out, method=method, recipe=recipe, overrides=changes or [], images=images)
    print(f"wrote {written}; next: lookalike pretrain {data}{_given(method, recipe, changes or [])}")


def _given(method: str | None, recipe: str | None, changes: list[str]) -> str:
    """What was asked for, to be typed again."""
    words = [f"--method {method}"] * bool(method) + [f"--recipe {recipe}"] * bool(recipe) + changes
    return "".join(f" {word}" for word in words)
