"""What the checkpoints of a run show: a queue that nothing is pushed into, a momentum encoder that stands still."""

import math
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import TypeVar

import torch
from torch import Tensor, nn

from lookalike.api.symptoms import Finding
from lookalike.methods.method import Method
from lookalike.modules import MomentumEncoder, Queue
from lookalike.recipes import Recipe
from lookalike.recipes.parts import Follow
from lookalike.training.checkpoint import Checkpoint

# our choice, all of them
APART = 100  # steps after which a momentum encoder must have moved
STALE = 0.01  # least share of the encoder's way that it has made by then
REPEATED = 0.1  # share of a queue's rows that may repeat others
GRAIN = 1000  # rows that agree to a thousandth repeat one another

Part = TypeVar("Part", bound=nn.Module)


def unfed(method: Method, saves: Sequence[Checkpoint], known: bool) -> list[Finding]:
    """Queues whose rows are those of an earlier time, or repeat one another.

    method: as it was built for the run; known: its numbers are those that the run began with.
    """
    found = []
    for name, queue in parts(method, Queue):
        for column in queue.columns:
            key = f"{name}.rows_{column}"
            if finding := _queue(name, key, saves, queue.get_buffer(f"rows_{column}") if known else None):
                found.append(finding)
    return found


def stale(method: Method, saves: Sequence[Checkpoint], recipe: Recipe, known: bool) -> list[Finding]:
    """Momentum encoders that equal the encoder, have not moved, or hardly moved; arguments as for `unfed`."""
    start = {f"method/{name}": value for name, value in method.state_dict().items()} if known else None
    found = []
    for name, part in parts(method, MomentumEncoder):
        pair = _pair(method, name, part)
        if pair.copies and saves[-1].step > 0 and pair.copies[0] in saves[-1].tensors:
            found += _momentum_encoder(pair, saves, start, recipe)
    return found


def parts(method: Method, kind: type[Part]) -> Iterator[tuple[str, Part]]:
    """The parts of a kind, with their names."""
    return ((name, part) for name, part in method.named_modules() if isinstance(part, kind))


def _queue(name: str, key: str, saves: Sequence[Checkpoint], start: Tensor | None) -> Finding | None:
    key, last = f"method/{key}", saves[-1]
    now = last.tensors.get(key)
    if now is None or last.step == 0:
        return None
    filled = last.tensors.get(f"method/{name}.count")
    if filled is not None and int(filled) < len(now):  # SwAV's queue begins late, and empty
        return None
    earlier = [(save.step, save.tensors[key]) for save in saves[:-1] if key in save.tensors]
    earlier += [] if start is None else [(0, start)]
    same = [step for step, rows in earlier if torch.equal(now, rows)]
    if same:
        return Finding(
            "dead queue",
            f"The {len(now):,} rows of {name} are those of step {min(same):,}: nothing is pushed into it. No setting "
            "does that: after_update of the method must push the keys.",
        )
    if not now.is_floating_point() or (share := _repeated(now)) <= REPEATED:
        return None
    return Finding(
        "repeated rows in the queue",
        f"{share:.0%} of the {len(now):,} rows of {name} repeat others, and a key that meets itself as a negative "
        "teaches nothing: remove copies among the images, or lower method.queue to less than their number.",
    )


def _repeated(rows: Tensor) -> float:
    """The share of rows that agree with another one to a thousandth."""
    return 1 - len(torch.unique((rows.float() * GRAIN).round(), dim=0)) / len(rows)


@dataclass(frozen=True)
class _Pair:
    """A momentum encoder and what it follows: names of parameters in a checkpoint, one for one."""

    name: str
    copies: list[str]
    followed: list[str]


def _pair(method: Method, name: str, part: MomentumEncoder) -> _Pair:
    """What a momentum encoder follows is what it equals at the start, when it was copied."""
    copies, followed = list[str](), list[str]()
    inside = {child for _, encoder in parts(method, MomentumEncoder) for child in encoder.modules()}
    others = [(other, module) for other, module in method.named_modules() if module not in inside and other]
    for number, copy in enumerate(part.copies):
        of = next((other for other, module in others if _equal(module, copy)), None)
        if of is not None:
            names = [parameter for parameter, _ in copy.named_parameters()]
            copies += [f"method/{name}.copies.{number}.{parameter}" for parameter in names]
            followed += [f"method/{of}.{parameter}" for parameter in names]
    return _Pair(name, copies, followed)


def _equal(module: nn.Module, copy: nn.Module) -> bool:
    """The same parameters by name and value."""
    own, theirs = dict(module.named_parameters()), dict(copy.named_parameters())
    return own.keys() == theirs.keys() and all(torch.equal(own[name], theirs[name]) for name in own)


def _momentum_encoder(
    pair: _Pair, saves: Sequence[Checkpoint], start: Mapping[str, Tensor] | None, recipe: Recipe
) -> list[Finding]:
    last = saves[-1]
    settings = {f"method.{name}": value for name, value in recipe.method if isinstance(value, Follow)}
    setting = next(iter(settings), None)
    change = None if setting is None else f"{setting}=0.99"
    off = any(value.start == value.end == 0 for value in settings.values())
    if off or _distance(last.tensors, pair.copies, last.tensors, pair.followed) == 0:
        sentence = "is no slower than the encoder that it follows, so that keys and queries come from one network"
        return [Finding("momentum encoder equals the encoder", f"{pair.name} {sentence}: raise {setting}.", change)]
    whole = (save for save in saves[:-1] if pair.copies[0] in save.tensors)
    earlier = [(save.step, save.tensors) for save in whole if last.step - save.step >= APART]
    earlier += [] if start is None else [(0, dict(start))]
    for step, then in earlier:
        its_way = _distance(then, pair.copies, last.tensors, pair.copies)
        way = _distance(then, pair.followed, last.tensors, pair.followed)
        steps = last.step - step
        if way > 0 and (its_way == 0 or (step == 0 and steps >= APART and its_way < STALE * way)):
            moved = "has not moved" if its_way == 0 else f"has made {its_way / way:.1%} of the way of its encoder"
            sentence = f"{moved} in {steps:,} steps, so that its keys come from an old network: lower {setting}"
            return [Finding("stale momentum encoder", f"{pair.name} {sentence}.", change)]
    return []


def _distance(
    one: Mapping[str, Tensor], names: Sequence[str], other: Mapping[str, Tensor], others: Sequence[str]
) -> float:
    """Euclidean distance of two sets of tensors, taken in turn."""
    pairs = zip(names, others, strict=True)
    return math.sqrt(sum(float((one[a].double() - other[b].double()).square().sum()) for a, b in pairs))
