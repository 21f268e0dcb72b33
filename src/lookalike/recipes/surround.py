"""The method with what surrounds it, tasks and curation: heads are built here, and each says what it costs."""

import math
from collections.abc import Iterator

from lookalike.functional.agreement import Agreement
from lookalike.methods.method import Method
from lookalike.modules import Task, gives, with_batch_statistics
from lookalike.modules.auxiliary import STAGES
from lookalike.recipes.schema import Recipe, RecipeError
from lookalike.recipes.tables import TASKS, WRAPPERS
from lookalike.recipes.wrappers import CurationSection, TaskSection, With


def surrounded(method: Method, section: With, *, dim: int, policy: str, full: int) -> Method:
    """The method inside the tasks of the section, and these inside its curation; itself where there are none.

    dim: features of the encoder; policy: batch statistics of the heads of tasks; full: how many views of full size the
    method reads. Called where torch's random numbers are seeded: first weights come from them.
    Raises RecipeError where the method lacks a part or a view that is read.
    """
    prefix = ""
    try:
        if section.tasks:
            tasks = {
                name: (build_task(name, one, method, dim, full), one.weight) for name, one in section.tasks.items()
            }
            for task, _ in tasks.values():
                with_batch_statistics(task, policy)
            first, *_ = tasks
            method = WRAPPERS[first](method, tasks, keep_statistics=section.keep_statistics)
            prefix = "method."
        if section.curation is not None:
            method = curated(method, section.curation, prefix)
    except ValueError as error:
        raise RecipeError(f"with: {error}") from None
    return method


def build_task(name: str, section: TaskSection, method: Method, dim: int, full: int) -> Task:
    """A task with its head, on features of `dim` numbers or on what the method's projector makes of them.

    It looks at no more views than the `full` ones that there are. Raises ValueError where it compares two of one.
    """
    given = {key: value for key, value in section if key != "weight"}
    if "views" in given:
        given["views"] = min(given["views"], full)
    task = TASKS[name](dim if section.attach == "backbone" else _output(method, name), **given)
    if task.views > full:
        raise ValueError(f"{name} compares {task.views} views of full size, and the method reads {full}: leave it out")
    return task


def curated(method: Method, section: CurationSection, prefix: str) -> Method:
    """The method inside curation; `prefix` leads to the names of its parts."""
    agreement = Agreement(
        kind=section.criterion,
        threshold=math.inf if section.threshold is None else section.threshold,
        distance=section.distance,
        neighbors=section.neighbors,
        pairs=section.pairs,
    )
    through = tuple(f"{prefix}{stage}" for stage in STAGES[section.attach])
    return WRAPPERS["curation"](
        method, agreement, tries=section.tries, redraw=section.redraw, through=through, warmup=section.warmup
    )


def notes(recipe: Recipe, method: Method) -> Iterator[str]:
    """What is said at the start of a run: what each addition costs in a step, and what no source says of it."""
    tasks = {name.rpartition(".")[2]: part for name, part in method.named_modules() if isinstance(part, Task)}
    for name, section in ({} if recipe.around is None else recipe.around.asked).items():
        added = f"with {name}: {cost(name, section, tasks[name].views if name in tasks else 0)}"
        yield f"{added}; {reason}" if (reason := WRAPPERS[name].reconstruction) else added
        asked = getattr(section, "views", 0) if "views" in section.model_fields_set else 0
        if name in tasks and asked > tasks[name].views:
            yield f"with.{name}.views is {asked}, and the method reads {tasks[name].views}: it looks at these"


def cost(name: str, section: TaskSection | CurationSection, views: int) -> str:
    """What an addition adds to a step, in passes of the encoder over a view of full size of each image."""
    if isinstance(section, CurationSection):
        return f"2 more passes of the encoder, forward alone, for each of 1 to {1 + section.tries} draws"
    passes = TASKS[name].passes * views
    return f"{passes:.2g} more passes of the encoder, forward and backward" if passes else "no more pass of the encoder"


def _output(method: Method, name: str) -> int:
    """How many numbers the method's projector gives."""
    parts = dict(method.named_children())
    if "projector" not in parts:
        raise ValueError(f"{name} with attach: projector needs a method that has one: use attach: backbone")
    return gives(parts["projector"])
