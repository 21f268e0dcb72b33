"""The cast of a run, put together from a recipe, images and a device: what `pretrain`, `resume` and `dry_run` share."""

import os
import statistics
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import torch

from lookalike.api.folder import RunFolder
from lookalike.api.probes import HealthProbe, KnnProbe
from lookalike.api.sources import Others, tell_duplicates
from lookalike.api.start import holds_pair, start_from, start_pair
from lookalike.data import (
    Cached,
    Files,
    Images,
    Skipped,
    Skips,
    Unreadable,
    available_memory,
    cached,
    labels,
    still_unreadable,
    stored,
)
from lookalike.data.cache import SHARE
from lookalike.functional.collectives import agree, rank, world
from lookalike.functional.memory import STEPS, keep_freed_memory
from lookalike.methods.method import Method
from lookalike.modules import Bank, InstanceClasses, split, with_batch_statistics
from lookalike.recipes import (
    METHODS,
    Recipe,
    build_encoder,
    build_method,
    build_optimization,
    build_views,
    delays,
    method_name,
    notes,
    view_size,
    with_values,
)
from lookalike.training.checkpoint import Checkpoints
from lookalike.training.journal import Journal
from lookalike.training.loop import Probe, Stopped, Training
from lookalike.training.metrics import Metrics
from lookalike.training.mirror import EventFile, Mirror
from lookalike.training.progress import Line, steps_of
from lookalike.training.runtime import Precision, Runtime
from lookalike.training.saver import Saver
from lookalike.training.streams import Streams
from lookalike.training.timeline import timeline
from lookalike.training.trial import choose_runtime, tell_of_kernels

FREE = ("runtime", "saving", "watching", "data")  # sections of a recipe that may differ when a run is taken up again
TRIAL_PIXELS = 2**17  # of the views on which precision and memory format are timed: 128 of 32 x 32, 8 of 224 x 224


@dataclass(frozen=True, kw_only=True)
class Job:
    """What is to be trained: folder None keeps nothing; init and label_spec as in `pretrain`."""

    folder: RunFolder | None
    recipe: Recipe
    source: Images
    init: str | None = None
    label_spec: str | None = None


@dataclass(frozen=True, kw_only=True)
class Chosen:
    """The section `runtime` of a settled recipe: nothing is "auto" any more."""

    device: str
    precision: Precision
    channels_last: bool
    compile: bool
    workers: int
    threads: int


def settle(job: Job, device: torch.device, line: Line) -> Recipe:
    """The recipe with every "auto" decided, by the one-time trial where it must be measured."""
    keep_freed_memory(STEPS)
    recipe = job.recipe
    asked = recipe.runtime
    threads = torch.get_num_threads() if asked.threads == "auto" else asked.threads
    workers = 0 if asked.workers == "auto" and device.type == "cpu" else 4 if asked.workers == "auto" else asked.workers
    torch.set_num_threads(threads)
    size = view_size(recipe)
    encoder = build_encoder(recipe.backbone, channels=recipe.data.channels, size=size, seed=recipe.seed)
    with_batch_statistics(encoder, split(world()))  # the layers of the run; of the own rows, so no process waits
    rows = min(TRIAL_PIXELS // size**2, recipe.batch // recipe.accumulate // world())
    rows = max(8, rows)
    views = len(build_views(recipe).plan)
    runtime = choose_runtime(
        encoder,
        torch.zeros(rows, recipe.data.channels, size, size, dtype=torch.uint8),
        device=device,
        precision=asked.precision,
        channels_last=asked.channels_last,
        compile=False if job.folder is None and asked.compile == "auto" else asked.compile,  # a dry run is quick
        passes=recipe.epochs * len(job.source) * views / rows / world(),
        say=line.say,
    )
    tell_of_kernels(runtime, line.say)
    chosen = {
        "device": device.type,
        "precision": runtime.precision,
        "channels_last": runtime.channels_last,
        "compile": runtime.compile,
        "workers": workers,
        "threads": threads,
    }
    return with_values(recipe, {"runtime": chosen})


def demand_possible(job: Job, device: torch.device, say: Callable[[str], None] = lambda note: None) -> None:
    """Raises what `assemble` would, before anything is timed, on an encoder that nobody else uses; says its notes."""
    recipe = job.recipe
    method = started(job, recipe, device, say, job.init)
    tell_of(method, job, recipe, say)
    build_optimization(recipe, say)
    if job.label_spec:
        labels(job.source, job.label_spec)


def assemble(job: Job, recipe: Recipe, device: torch.device, line: Line, stop: Callable[[], bool]) -> Training:
    """Everything that `train` needs, for a settled recipe. What a user can mend is found before images are decoded."""
    asked, folder = Chosen(**recipe.runtime.model_dump()), job.folder
    keep_freed_memory(STEPS)
    torch.set_num_threads(asked.threads)
    checkpoints = Checkpoints(folder.path, keep=recipe.saving.keep) if folder else None
    begins = checkpoints is None or checkpoints.latest_step() is None
    method = made(job, recipe, device, line, job.init if begins else None)  # a checkpoint holds what became of it
    timeline(method.plan(recipe.epochs), size=len(job.source), batch=recipe.batch)  # raises where they do not fit
    streams = streamed(job, recipe, asked.workers, line, stop)
    if folder and rank() == 0 and any(isinstance(part, Bank | InstanceClasses) for part in method.modules()):
        tell_duplicates(streams.source, line, files=isinstance(job.source, Files) and not recipe.data.merge_duplicates)
    runtime = Runtime(
        device=device, precision=asked.precision, channels_last=asked.channels_last, compile=asked.compile
    )
    metrics = measured(folder, recipe, line) if folder and rank() == 0 else None
    said = recipe.model_dump(mode="json")
    return Training(
        method=method,
        streams=streams,
        optimization=build_optimization(recipe, line.say),
        runtime=runtime,
        saver=Saver(
            checkpoints=checkpoints,
            every=recipe.saving.every,
            facts={"recipe": said, "manifest": folder.manifest() if folder else None},
            identity={key: value for key, value in said.items() if key not in FREE and value is not None},
            check_space=recipe.saving.check_space,
        ),
        journal=Journal(metrics, line, images=recipe.batch, every=recipe.saving.log_every, skips=streams.skips),
        probes=watching(recipe, streams, metrics, device),
        stop=stop,
    )


def made(job: Job, recipe: Recipe, device: torch.device, line: Line, init: str | None) -> Method:
    """The method with its first weights, or those of `init`; what is to be known of it is said."""
    method = started(job, recipe, device, line.say, init)
    tell_of(method, job, recipe, line.say)
    return method


def tell_of(method: Method, job: Job, recipe: Recipe, say: Callable[[str], None]) -> None:
    """What is to be known of a method and of what is around it."""
    cast = METHODS[method_name(recipe)]
    own = [note for part in method.modules() if isinstance(part, cast) for note in part.notes(recipe.epochs) or ()]
    for note in filter(None, (cast.reconstruction, "" if job.label_spec else cast.facts.unlabeled, *own)):
        say(f"{method_name(recipe)}: {note}")
    end = timeline(method.plan(recipe.epochs), size=len(job.source), batch=recipe.batch)[-1]  # raises: they do not fit
    for note in (*notes(recipe, method), *delays(recipe, method, end.progress(end.stop - 1, recipe.seed).run)):
        say(note)


def started(job: Job, recipe: Recipe, device: torch.device, say: Callable[[str], None], init: str | None) -> Method:
    """The method with its first weights, or those of `init`. Raises ValueError where these cannot be had or fit."""
    encoder = build_encoder(recipe.backbone, channels=recipe.data.channels, size=view_size(recipe), seed=recipe.seed)
    pair = init is not None and holds_pair(init)
    if init is not None and not pair:
        start_from(encoder, init)  # before momentum encoders and second sides are made as copies of it
    method = build_method(recipe, encoder, len(job.source), say, place_of_banks(job, device))
    if init is not None and pair:
        start_pair(method, init)
    return method


def place_of_banks(job: Job, device: torch.device) -> Path | None:
    """The run folder, where the disk may stand in for memory: an accelerator cannot read from there."""
    return job.folder.path if job.folder and device.type == "cpu" else None


def measured(folder: RunFolder, recipe: Recipe, line: Line) -> Metrics:
    """metrics.jsonl, and what is made of its lines."""
    tensorboard = recipe.saving.log_to == "tensorboard"
    return Metrics(folder.metrics, Mirror(EventFile(folder.path / "tensorboard"), line.say) if tensorboard else None)


def streamed(job: Job, recipe: Recipe, workers: int, line: Line, stop: Callable[[], bool]) -> Streams:
    """The images as batches, decoded into memory where they fit; what then cannot be read is listed at once."""
    found = labels(job.source, job.label_spec)[0] if job.label_spec else None
    source = keep_in_memory(job, recipe, line, stop)
    path = job.folder.skipped if job.folder and rank() == 0 else None
    skips = Skips(path, len(source), allowed=recipe.data.max_bad)
    if isinstance(source, Cached):  # alike on every process, so that all of them stop where there are too many
        skips.add(Skipped(index, source.name(index), e.reason) for index, e in source.failures.items())
    elif job.folder:
        skips.add(still_unreadable(job.folder.skipped, source))
    return Streams(
        source=source,
        views=build_views(recipe, Others(source)),
        batch=recipe.batch,
        accumulate=recipe.accumulate,
        workers=workers,
        seed=recipe.seed,
        labels=found,
        rank=rank(),
        world=world(),
        skips=skips,
        identity=job.source.identity() if job.folder else None,
    )


def watching(recipe: Recipe, streams: Streams, metrics: Metrics | None, device: torch.device) -> list[Probe]:
    """What looks at training: health on every process, k-NN on the first one where labels are given."""
    rows = recipe.batch // recipe.accumulate
    probes: list[Probe] = [HealthProbe(every=recipe.watching.health_every, rows=rows, history=metrics)]
    if streams.labels is not None and recipe.watching.knn_every and streams.rank == 0:
        steps = max(1, round(recipe.watching.knn_every * (streams.size // recipe.batch)))
        probes.append(
            KnnProbe(
                streams.source, streams.labels, size=view_size(recipe), every=steps, seed=recipe.seed, device=device
            )
        )
    return probes


def keep_in_memory(job: Job, recipe: Recipe, line: Line, stop: Callable[[], bool]) -> Images:
    """The images decoded once, where they fit and the recipe wants it; every process holds a copy of its own.

    What does not fit goes into a file of the folder `data.store`, if there is one; a dry run keeps nothing there.
    Raises Stopped where `stop` asks for it meanwhile.
    """
    source, store = job.source, recipe.data.store if job.folder else None
    if recipe.data.cache is False and store is None:
        return source
    with line.track(f"Decoding {len(source):,} images", len(source)) as advance:
        hear = steps_of(advance)

        def heard(done: int, total: int) -> None:
            hear(done, total)
            if job.folder and stop():  # a trial counts its steps by being asked
                raise Stopped("stopped while images were decoded")

        if recipe.data.cache is not False:
            limit = int(SHARE * available_memory() / world())
            found = cached(source, limit_bytes=limit, on_progress=heard)
            if store is None or agree(isinstance(found, Cached)):  # processes may see different memory
                return found
        return in_file(source, store or "", heard, line)


def in_file(source: Images, store: str, heard: Callable[[int, int], None], line: Line) -> Images:
    """The images decoded into a file of `store`, by the first process of each machine while the others wait."""
    first = os.environ.get("LOCAL_RANK", str(rank())) == "0"
    found = source
    for turn in (True, False):
        failure = None
        try:
            found = stored(source, store, on_progress=heard, say=line.say) if first == turn else found
        except ValueError as error:
            failure = error
        if not agree(failure is None):
            raise failure or ValueError("decoded pixels cannot be kept: another process says why")
    return found


def median_side(source: Images, probes: int = 64) -> int:
    """Median of the shorter sides of some images, by their headers. Raises ValueError if none can be read."""
    sides, step = [], max(1, len(source) // probes)
    for index in range(0, len(source), step):
        try:
            sides.append(min(source.size(index)))
        except Unreadable:
            continue
    if not sides:
        raise ValueError(f"none of the {len(source)} images can be read: check that they open in an image viewer")
    return int(statistics.median(sides))
