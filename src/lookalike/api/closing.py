"""The end of a run: whether the encoder knows an image by another view of it, beside references that cost little."""

import re
from collections.abc import Iterator, Sequence

import torch
from torch import Tensor, nn

from lookalike.data import read_or_next
from lookalike.evaluation import RawPixels, extract, nearest, random_weights
from lookalike.functional import random
from lookalike.methods.method import Phase
from lookalike.training.loop import Training
from lookalike.training.progress import Line, steps_of
from lookalike.training.streams import Streams

IMAGES = 1000
CHUNK = 100


def recognition(
    sides: Sequence[tuple[nn.Module, str]], streams: Streams, *, seed: int, device: torch.device, line: Line
) -> dict[str, float]:
    """Share of images whose other view is nearest by cosine: of "trained", "random weights" and "raw pixels".

    Up to 1,000 training images, each drawn twice, for each of two sides: a network, and its view of the training plan.
    That is what contrastive training asks for, on the images it asked it of: it shows whether training did anything,
    not what the features mean. No labels.
    """
    order = torch.randperm(streams.size, generator=random.generator("closing", seed))[:IMAGES]
    trained, fresh = [network for network, _ in sides], random_weights(sides[0][0], seed)
    plain: nn.Module = RawPixels()
    models = {"trained": trained, "random weights": 2 * [fresh], "raw pixels": 2 * [plain]}
    shares = {}
    with line.track("Recognizing images by another view", 2 * len(models) * len(order)) as advance:
        for name, networks in models.items():
            one, two = (
                extract(
                    network.to(device),
                    drawn(streams, order, view, seed=seed, attempt=attempt),
                    device=device,
                    on_progress=steps_of(advance),
                )
                for attempt, (network, (_, view)) in enumerate(zip(networks, sides, strict=True))
            )
            found = nearest(one.rows, two.rows, 1, exclude_self=False)
            shares[name] = float((two.index[found.rows[:, 0]] == one.index).double().mean())
    return shares


def drawn(streams: Streams, order: Tensor, view: str, *, seed: int, attempt: int) -> Iterator[tuple[Tensor, Tensor]]:
    """(index, pixels) of one view of the images of `order`; an unreadable one gives way to the next, for every draw."""
    key = random.key("closing views", seed)
    for place in torch.arange(len(order)).split(CHUNK):
        images, index, _ = read_or_next(streams.source, order, place, stride=CHUNK)
        parameters = streams.views.draw(index, seed=key, epoch=(0, 0), attempt=attempt, names=[view])
        yield index, streams.views.render(images, parameters, names=[view])[view]


def close(run: Training, line: Line) -> None:
    """Says what `recognition` found for a finished run's first role, and writes it into metrics.jsonl."""
    plan, exports = run.method.plan(1.0), run.method.exports()
    sides = [(network, phase_of(role, plan).reads[0]) for role, network in exports.items()]
    streams, device = run.streams, run.runtime.device
    shares = recognition([sides[0], sides[-1]], streams, seed=streams.seed, device=device, line=line)
    told = ", ".join(f"{name} {100 * share:.1f} %" for name, share in shares.items())
    line.say(f"an image known by another view of it, among {min(IMAGES, streams.size):,} training images: {told}")
    if run.journal.metrics:
        rows = {f"recognized/{name}": share for name, share in shares.items()}
        run.journal.metrics.write({"step": run.journal.done, "probe": True, **rows})


def phase_of(role: str, plan: Sequence[Phase]) -> Phase:
    """The last phase that trains most parts of a role: with a live head the other side's phases train one of them."""
    parts = [[re.sub(r"^(method\.)+", "", name).partition(".")[0] for name in phase.trains] for phase in plan]
    return max(reversed(list(zip(plan, parts, strict=True))), key=lambda pair: pair[1].count(role))[0]
