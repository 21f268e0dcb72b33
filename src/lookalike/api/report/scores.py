"""Score cards: each a number with its protocol, beside the references that were measured in the same way."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from lookalike.api.closing import IMAGES
from lookalike.evaluation import Score

TRAINED = "trained"
TITLES = {"knn": "k-NN", "linear": "Linear probe"}
RECOGNIZED = "recognized/"


@dataclass(frozen=True)
class Bar:
    """What was scored, its value from 0 to 1, and the 95 % interval, if there is one."""

    who: str
    value: float
    interval: tuple[float, float] | None = None


@dataclass(frozen=True)
class Card:
    """Scores under one protocol, the trained encoder's first; protocol: names and values as they are shown."""

    title: str
    bars: tuple[Bar, ...]
    protocol: tuple[tuple[str, str], ...]
    note: str = ""


def cards(evaluations: Sequence[Mapping[str, Any]], rows: Sequence[Mapping[str, Any]], encoder: str) -> list[Card]:
    """A card for each protocol that `evaluate` has measured, by its last measurement; then what training itself saw.

    encoder: the fingerprint of the run's weights, "" where there are none yet. Entries that are no scores are left out.
    """
    found: dict[tuple, Card] = {}
    for entry in reversed(evaluations):
        for score in _scores(entry, TRAINED):
            key = (str(entry.get("data")), *map(str, _protocol(score)), str(score.protocol.crop))
            found.setdefault(key, _card(entry, score, encoder))
    beside_references = sorted(found.values(), key=lambda card: len(card.bars) == 1)
    return [*beside_references, *_recognition(rows), *_online(rows)]


def _scores(entry: Mapping[str, Any], who: str) -> Iterator[Score]:
    """The scores of one model, as far as they are such."""
    models = entry.get("scores")
    listed = models.get(who) if isinstance(models, dict) else None
    for flat in listed if isinstance(listed, list) else []:
        if not (isinstance(flat, dict) and isinstance(flat.get("name"), str) and _number(flat.get("value"))):
            continue
        with suppress(KeyError, TypeError, ValueError):
            yield Score.from_dict(flat)


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _protocol(score: Score) -> tuple[str, Any]:
    """What two scores share that stand on one card, as `evaluate` compares them."""
    return score.name, score.protocol.settings


def _card(entry: Mapping[str, Any], score: Score, encoder: str) -> Card:
    bars = [_bar(TRAINED, score)]
    for who in entry["scores"]:
        if who != TRAINED:
            bars += [_bar(str(who), other) for other in _scores(entry, who) if _protocol(other) == _protocol(score)]
    k = score.protocol.settings.get("k")
    other = bool(encoder) and score.backbone not in ("", encoder)
    return Card(
        title=TITLES.get(score.name, score.name) + (f", k = {_text(k)}" if _number(k) else ""),
        bars=tuple(bars),
        protocol=(*_terms(score), ("data", str(entry.get("data", "unknown")))),
        note="Measured on other weights than those that the run holds now." if other else "",
    )


def _bar(who: str, score: Score) -> Bar:
    ends = score.interval
    known = ends is not None and len(ends) == 2 and all(map(_number, ends))
    return Bar(who, float(score.value), ends if known else None)


def _terms(score: Score) -> Iterator[tuple[str, str]]:
    """The protocol and the pretraining, settings of the probe first, what the probe found last."""
    protocol = score.protocol
    yield from ((name, _text(value)) for name, value in protocol.settings.items())
    yield "features", _text(protocol.features)
    yield from [("crop", _text(protocol.crop))] * bool(protocol.crop)
    yield "when", "online" if protocol.online else "offline, encoder frozen"
    yield "images", f"{_text(protocol.n_train)} train, {_text(protocol.n_test)} test"
    yield from (
        (name, _text(value)) for name, value in (("epochs", score.epochs), ("seed", score.seed)) if value is not None
    )
    yield from ((name, _text(value)) for name, value in score.found.items())


def _text(value: Any) -> str:
    if isinstance(value, int) and not isinstance(value, bool):
        return f"{value:,}"
    return f"{value:g}" if isinstance(value, float) else str(value)


def _recognition(rows: Sequence[Mapping[str, Any]]) -> list[Card]:
    """What a finished run says of itself without labels."""
    last = next((row for row in reversed(rows) if _number(row.get(f"{RECOGNIZED}{TRAINED}"))), None)
    if last is None:
        return []
    shares = {name.removeprefix(RECOGNIZED): last[name] for name in last if name.startswith(RECOGNIZED)}
    bars = tuple(Bar(who, float(share)) for who, share in shares.items() if _number(share))
    protocol = (
        ("asks", "is an image's other view its nearest, by cosine?"),
        ("images", f"up to {IMAGES:,} of the training images"),
        ("views", "the training plan's own"),
        ("labels", "none"),
    )
    return [Card("An image known by another view", bars, protocol, "Shows that training did something, not what for.")]


def _online(rows: Sequence[Mapping[str, Any]]) -> list[Card]:
    last = next((row for row in reversed(rows) if row.get("probe") and _number(row.get("knn"))), None)
    if last is None:
        return []
    protocol = (("when", f"online, at step {last['step']:,}"), ("images", "training images, some held out as queries"))
    return [Card("k-NN, online", (Bar(TRAINED, float(last["knn"])),), protocol, str(last.get("says", "")))]
