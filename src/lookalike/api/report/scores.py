"""Score cards: each a number with its protocol, beside the references that were measured in the same way."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from lookalike.api.closing import IMAGES

TRAINED = "trained"
OF_THE_MODEL = {"value", "interval", "seed", "epochs", "backbone", "features"}
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
    """A card for each protocol that `evaluate` has measured, its last measurement; then what training itself saw.

    encoder: the fingerprint of the run's weights, "" where there are none yet. Entries that are no scores are left out.
    """
    found: dict[tuple, Card] = {}
    for entry in reversed(evaluations):
        for score in _scores(entry.get("scores"), TRAINED):
            key = (str(entry.get("data")), *sorted(_protocol(score).items()))
            found.setdefault(key, _card(entry, score, encoder))
    beside_references = sorted(found.values(), key=lambda card: len(card.bars) == 1)
    return [*beside_references, *_recognition(rows), *_online(rows)]


def _scores(scores: Any, who: str) -> Iterator[Mapping[str, Any]]:
    """The scores of one model that look like scores."""
    listed = scores.get(who) if isinstance(scores, dict) else None
    for score in listed if isinstance(listed, list) else []:
        if isinstance(score, dict) and isinstance(score.get("name"), str) and _number(score.get("value")):
            yield score


def _number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _protocol(score: Mapping[str, Any]) -> dict[str, str]:
    """What two scores must share to stand on one card."""
    return {name: str(value) for name, value in score.items() if name not in OF_THE_MODEL}


def _card(entry: Mapping[str, Any], score: Mapping[str, Any], encoder: str) -> Card:
    own = _protocol(score)
    bars = [_bar("trained", score)]
    for who in entry["scores"]:
        if who != TRAINED:
            bars += [_bar(str(who), other) for other in _scores(entry["scores"], who) if _protocol(other) == own]
    other = bool(encoder) and score.get("backbone") not in ("", None, encoder)
    return Card(
        title=", ".join([TITLES.get(score["name"], score["name"]), *_settings(score)]),
        bars=tuple(bars),
        protocol=(*_shown(score), ("data", str(entry.get("data", "unknown")))),
        note="Measured on other weights than those that the run holds now." if other else "",
    )


def _settings(score: Mapping[str, Any]) -> list[str]:
    """What tells two cards of one probe apart at first sight."""
    return [f"k = {_text(score['k'])}"] if _number(score.get("k")) else []


def _bar(who: str, score: Mapping[str, Any]) -> Bar:
    ends = score.get("interval")
    known = isinstance(ends, list) and len(ends) == 2 and all(map(_number, ends))
    return Bar(who, float(score["value"]), (float(ends[0]), float(ends[1])) if ends and known else None)


def _shown(score: Mapping[str, Any]) -> Iterator[tuple[str, str]]:
    """The protocol and the pretraining, settings of the probe first."""
    fixed = {"name", "value", "interval", "backbone", "n_train", "n_test", "online", "features", "crop"}
    yield from ((name, _text(value)) for name, value in score.items() if name not in fixed and value is not None)
    yield from ((name, _text(score[name])) for name in ("features", "crop") if score.get(name))
    yield "when", "online" if score.get("online") else "offline, encoder frozen"
    yield "images", f"{_text(score.get('n_train'))} train, {_text(score.get('n_test'))} test"


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
