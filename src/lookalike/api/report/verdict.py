"""The verdict on a run in plain words: has it finished, is it healthy, what does it score."""

from collections.abc import Sequence
from dataclasses import dataclass

from lookalike.api.report.collect import Told
from lookalike.api.report.marks import COLLAPSE, Mark
from lookalike.api.report.scores import TRAINED, Card
from lookalike.api.symptoms import CHANGES

STOPPED = "stopped by an error"
GRAVE = {COLLAPSE, STOPPED, "changed weights", "damaged checkpoint", "lost manifest", "loss not falling", *CHANGES}


@dataclass(frozen=True)
class Verdict:
    """tone: "good", "wary", "bad" or "busy"; headline: a few words; sentences: what they rest on."""

    tone: str
    headline: str
    sentences: tuple[str, ...]


def verdict(told: Told, marks: Sequence[Mark], cards: Sequence[Card], *, live: bool) -> Verdict:
    """live: somebody watches the run, so that it is taken to be training."""
    whats = {mark.what for mark in marks}
    grave = bool(whats & GRAVE)
    state = _state(told, whats, live)
    better = beaten(cards) if told.folder.finished() else ""
    health = _health(marks, whats, bool(told.rows) and not better)
    tone = "bad" if grave else "wary" if whats or better else "good" if told.folder.finished() else "busy"
    return Verdict(tone, f"{state}{health}{better}", (_progress(told), *_scored(cards, told.folder.finished())))


def beaten(cards: Sequence[Card]) -> str:
    """The end of a headline where, by the first card with references, one of these is as good as the run; else ""."""
    card = next((card for card in cards if len(card.bars) > 1), None)
    if card is None:
        return ""
    best = max((bar for bar in card.bars if bar.who != TRAINED), key=lambda bar: bar.value)
    own = next(bar for bar in card.bars if bar.who == TRAINED)
    return f", no better than {best.who} ({card.title})" if own.value <= best.value else ""


def _state(told: Told, whats: set[str], live: bool) -> str:
    if told.folder.finished():
        return "Finished"
    if STOPPED in whats:
        return "Stopped by an error"
    if not told.rows:
        return "Nothing written down yet"
    return "Training" if live else "Not finished"


def _health(marks: Sequence[Mark], whats: set[str], praised: bool) -> str:
    other = whats - {STOPPED}
    if not other:
        return ", nothing wrong found" if praised and STOPPED not in whats else ""
    count = len([mark for mark in marks if mark.what != STOPPED])
    if whats & GRAVE - {STOPPED}:
        return f", and something is wrong ({', '.join(sorted(other))})"
    return f", with {count} thing{'s' * (count > 1)} to look at"


def _progress(told: Told) -> str:
    images = told.manifest.get("images")
    over = f" on {images:,} images" if isinstance(images, int) else ""
    of = f" of {told.steps:,}" if told.steps else ""
    epoch = max((row["epoch"] for row in told.rows if isinstance(row.get("epoch"), int | float)), default=0)
    epochs = f"{epoch:.3g} of {told.recipe.epochs:g} epochs"
    if told.folder.finished():
        return f"{told.step:,} steps, {told.recipe.epochs:g} epochs{over}."
    return f"Step {told.step:,}{of}, {epochs}{over}."


def _scored(cards: Sequence[Card], finished: bool) -> tuple[str, ...]:
    """The first card in a sentence, beside its references."""
    if not cards:
        return ("It has not been scored yet.",) if finished else ()
    card = cards[0]
    values = {bar.who: f"{100 * bar.value:.1f} %" for bar in card.bars}
    others = [f"{value} with {who}" for who, value in values.items() if who != TRAINED]
    beside = f", beside {' and '.join(others)}" if others else ""
    return (f"{card.title}: {values[TRAINED]}{beside}.",)
