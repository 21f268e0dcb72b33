"""pretrain, resume: from images to a trained encoder in a run folder."""

import os
import signal
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from os import PathLike
from pathlib import Path
from typing import Any

import torch

from lookalike.api.assembly import Job, assemble, demand_possible, median_side, settle
from lookalike.api.closing import close
from lookalike.api.folder import RunFolder, differences, facts, new_folder
from lookalike.api.run import Run
from lookalike.api.sources import opened, opened_early
from lookalike.data import Folder, Images, address
from lookalike.functional.collectives import agree, rank
from lookalike.recipes import Recipe, asked_for, choose, load, method_name
from lookalike.training.files import CheckpointError
from lookalike.training.lock import alone
from lookalike.training.loop import Stopped, train
from lookalike.training.processes import pick, processes, spread_text
from lookalike.training.progress import Line

FEW = 100  # images; below, a run shows no more than that it runs: our choice


def pretrain(
    data: Any,
    *,
    method: str | None = None,
    recipe: str | None = None,
    with_: str | Sequence[str] = (),
    overrides: str | Sequence[str] = (),
    backbone: str | None = None,
    epochs: float | None = None,
    batch: int | None = None,
    seed: int | None = None,
    out: str | PathLike[str] | None = None,
    init: str | None = None,
    label_spec: str | None = None,
    quiet: bool = True,
) -> Run:
    """Learns from the images of `data` and returns the finished run.

    data: a folder (flat or nested), a list, tar shards, a Hub data set, a torch data set (docs/data.md). recipe: a
    library name or a file; without one it is chosen by a printed rule from the images, the device and `method`.
    overrides: dotted "key=value"; with_ ("rotation,curation"), backbone, epochs, batch, seed are short for some.
    out: the run folder (default runs/METHOD-N). init: timm:NAME, FILE.safetensors or a run folder to start from.
    label_spec: "folders", "cls", "json:FIELD", "column:NAME", a CSV file; watched only, unless the method learns so.
    Torch's number of threads becomes the recipe's.
    Raises ValueError in one sentence for what a user can mend, loop.Stopped after a signal (saved, to be resumed).
    """
    asked = {"backbone.name": backbone, "epochs": epochs, "batch": batch, "seed": seed}
    given = [f"{key}={value}" for key, value in asked.items() if value is not None]
    settled, source, notes = chosen(data, method, recipe, [*asked_for(with_), *given, *listed(overrides)], quiet)
    with processes(settled.runtime.device) as device:
        folder = RunFolder(Path(spread_text(str(out or new_folder(Path("runs"), method_name(settled))))))
        folder.demand_free()
        agree(True)  # nobody writes before all have looked
        job = Job(folder=folder, recipe=settled, source=source, init=init, label_spec=label_spec)
        with _alone(folder), _line(folder, quiet) as line, _nothing_left(folder):
            demand_possible(job, device)
            for note in (*notes, f"{len(source):,} images, run folder {folder.path}", *_left_out(source)):
                line.say(note)
            _write(job, settle(job, device, line) if rank() == 0 else settled, data)
            return _trained(job, folder.recipe(), device, line)


def resume(
    run: str | PathLike[str], *, data: Any = None, allow_different_numerics: bool = False, quiet: bool = True
) -> Run:
    """Goes on where a run stands, bit for bit as if it had not stopped; a finished run is returned as it is.

    data: the same images, where they have moved. Raises ValueError where they are not those of the run, or where this
    machine cannot compute as the run did and `allow_different_numerics` is not given.
    """
    folder = RunFolder(Path(run))
    recipe = folder.recipe()
    here = _device_here(recipe)  # where a run on CUDA is not allowed to go on without it, that is said below
    with processes(here.runtime.device) as device, _alone(folder), _line(folder, quiet) as line:
        if folder.finished():
            line.say(f"{folder.path} has finished: evaluate it with lookalike evaluate {folder.path} --data LABELLED")
            return Run(folder.path)
        manifest = folder.manifest()
        source = _same_images(folder, manifest, recipe, data, line)
        if not allow_different_numerics:
            _demand_same_numerics(recipe, manifest)
        agree(True)  # nobody writes before all have read
        if rank() == 0:
            folder.resumed(manifest)
        job = Job(folder=folder, recipe=here, source=source, init=manifest["init"], label_spec=manifest["labels"])
        return _trained(job, here, device, line)


def _same_images(folder: RunFolder, manifest: dict[str, Any], recipe: Recipe, data: Any, line: Line) -> Images:
    """The images that a run began with, at `data` or where they were. Raises ValueError for others."""
    place = manifest["data"] if data is None else data
    if place is None:
        raise ValueError(f"{folder.path} was trained on a data set in memory: resume it in Python with data=")
    try:
        source = opened(place, recipe.data, line)
    except ValueError as error:
        if data is not None:
            raise
        remedy = f"where they have moved: lookalike pretrain THERE --resume {folder.path}"
        raise ValueError(f"{error}; {remedy}") from None
    if manifest["identity"] != source.identity():
        then, now = manifest["images"], len(source)
        change = f"{then:,} then, {now:,} now" if then != now else f"as many, {now:,}, of other names or sizes"
        raise ValueError(
            f"the images are not those that {folder.path} began with ({change}): restore them, or start a new run "
            "with --init"
        )
    return source


def chosen(
    data: Any,
    method: str | None,
    recipe: str | None,
    overrides: Sequence[str],
    quiet: bool = True,
    least: int = 2,
) -> tuple[Recipe, Images, list[str]]:
    """The recipe, by name or by the rule; the images, `least` or more; what to say about the choice."""
    overrides = listed(overrides)
    if recipe is not None:
        settled = load(recipe, overrides)
        if method is not None and method != method_name(settled):
            raise ValueError(
                f"the recipe {recipe} is for {method_name(settled)}, not {method}: leave one of the two out"
            )
        source = _several(opened(data, settled.data, _line(None, quiet)), least)
        return settled, source, [f"recipe {recipe}", *_few(source)]
    source = _several(opened_early(data, overrides, _line(None, quiet)), least)
    device = next((o.partition("=")[2] for o in overrides if o.startswith("runtime.device=")), "auto")
    choice = choose(
        method, side=median_side(source), images=max(2, len(source)), device=pick(device).type, given=overrides
    )
    settled = load(choice.recipe, (*choice.overrides, *overrides))
    if settled.data.channels != source.channels:
        source = opened(data, settled.data, _line(None, quiet))
    return settled, source, [*(f"recipe {choice.recipe}: {reason}" for reason in choice.reasons), *_few(source)]


def _write(job: Job, recipe: Recipe, data: Any) -> None:
    """Recipe and manifest, by the first process; nobody reads them before they are there."""
    assert job.folder is not None
    if rank() == 0:
        told = {"data": address(data), "init": _kept(job.init), "labels": job.label_spec, "images": len(job.source)}
        job.folder.begin(recipe, {**told, "identity": job.source.identity(), **facts()})
    agree(True)


def listed(overrides: str | Sequence[str]) -> Sequence[str]:
    """One override, or several, as a list."""
    return [overrides] if isinstance(overrides, str) else overrides


def _left_out(source: Images) -> list[str]:
    """A note about files that are no images, so that nobody trains on a part without knowing."""
    ignored = source.ignored if isinstance(source, Folder) else None
    kinds = ", ".join(f"{count:,} {kind}" for kind, count in ignored.most_common(5)) if ignored else ""
    return [f"other files are left out: {kinds}"] if kinds else []


def _few(source: Images) -> list[str]:
    """A warning where training runs, and its encoder will be worth nothing."""
    if len(source) >= FEW:
        return []
    return [
        f"warning: {len(source)} images are too few to learn what makes images alike: give hundreds, better thousands"
    ]


def _several(source: Images, least: int) -> Images:
    if len(source) < least:
        raise ValueError("one image is not enough to learn what makes images alike: give at least 2, better thousands")
    return source


def _trained(job: Job, recipe: Recipe, device: torch.device, line: Line) -> Run:
    assert job.folder is not None
    with _asked_to_stop() as asked:
        try:
            training = assemble(job, recipe, device, line, stop=asked)
            train(training, recipe.epochs)
        except Stopped as stopped:
            stopped.signal = asked.number
            saved = (job.folder.path / "checkpoints").exists()
            line.say(
                f"{stopped}; {f'go on with: lookalike pretrain --resume {job.folder.path}' if saved else 'start again'}"
            )
            raise
    if rank() == 0:
        files = job.folder.finish(training.method.exports(), recipe)
        if training.journal.skips:
            line.say(f"unreadable images, left out: {len(training.journal.skips):,}, listed in {job.folder.skipped}")
        line.say(f"wrote {', '.join(map(str, files))}")
        close(training, line)
        line.say(f"next, without labels: lookalike report {job.folder.path}")
        role = next(iter(training.method.exports()))
        which = "" if role == "encoder" else f" --role {role}"
        line.say(f"next: lookalike evaluate {job.folder.path} --data LABELLED{which}")
    agree(True)
    return Run(job.folder.path)


@contextmanager
def _nothing_left(folder: RunFolder) -> Iterator[None]:
    """What fails before the first checkpoint leaves no run folder behind: the same command works once mended."""
    try:
        yield
    except BaseException:
        if rank() == 0:
            folder.forget()
        raise


@contextmanager
def _alone(folder: RunFolder) -> Iterator[None]:
    """No other command trains in the run folder meanwhile; held by the first process, in time for all of them."""
    with ExitStack() as held:
        failure = None
        try:
            if rank() == 0:
                held.enter_context(alone(folder.path))
        except CheckpointError as error:
            failure = error
        if not agree(failure is None):
            raise failure or CheckpointError("the first process cannot go on: see what it says")
        yield


class Asked:
    """Says whether a signal asked to stop, and which; a second Ctrl-C stops at once."""

    number = 0

    def __call__(self) -> bool:
        return self.number != 0

    def note(self, number: int, frame: Any) -> None:
        if self.number and number == signal.SIGINT:
            raise KeyboardInterrupt
        self.number = number


@contextmanager
def _asked_to_stop() -> Iterator[Asked]:
    """Notes SIGTERM, Ctrl-C and a closed terminal inside, instead of dying from them."""
    asked, numbers = Asked(), [signal.SIGINT, signal.SIGTERM]
    if sys.platform != "win32" and signal.getsignal(signal.SIGHUP) is signal.SIG_DFL:  # nohup has it ignored
        numbers.append(signal.SIGHUP)
    try:
        before = {number: signal.signal(number, asked.note) for number in numbers}
    except ValueError:  # not the main thread: there signals are somebody else's
        before = {}
    try:
        yield asked
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def _demand_same_numerics(recipe: Recipe, manifest: dict[str, Any]) -> None:
    found = differences(manifest)
    if recipe.runtime.device == "cuda" and not torch.cuda.is_available():
        found.append("there is no CUDA device and the run used one")
    if found:
        raise ValueError(
            f"the run cannot go on bit for bit ({'; '.join(found)}): restore that, or accept other rounding with "
            "--allow-different-numerics"
        )


def _device_here(recipe: Recipe) -> Recipe:
    if recipe.runtime.device == "cuda" and not torch.cuda.is_available():
        return recipe.model_copy(update={"runtime": recipe.runtime.model_copy(update={"device": "cpu"})})
    return recipe


def _line(folder: RunFolder | None, quiet: bool) -> Line:
    """The progress line, which only the first process shows and logs; also before the processes have joined."""
    first = rank() == 0 and os.environ.get("RANK", "0") == "0"
    if folder is not None and first:
        folder.path.mkdir(parents=True, exist_ok=True)
    return Line(log=folder.log if folder and first else None, quiet=quiet or not first)


def _kept(init: str | None) -> str | None:
    """`init`, found again from another working folder."""
    return str(Path(init).absolute()) if init is not None and Path(init).exists() else init
