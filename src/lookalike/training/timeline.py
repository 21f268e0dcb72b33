"""From a plan of phases to steps: where each phase starts and stops, and the clocks at every step."""

from collections.abc import Sequence
from dataclasses import dataclass, replace

from lookalike.functional.schedules import Clock
from lookalike.methods.method import Phase, Progress


@dataclass(frozen=True, kw_only=True)
class Stretch:
    """One phase in steps of the run: it holds steps start <= step < stop, `per_round` of them in a round of its order.

    `first` and `last` bound the stretches that share one learning-rate schedule; epochs count passes over the data.
    """

    number: int
    phase: Phase
    start: int
    stop: int
    per_round: int
    before: float  # epochs of the phases before this one
    first: int = 0
    last: int = 0
    run_steps: int = 0
    run_epochs: float = 0.0

    def round_and_slot(self, step: int) -> tuple[int, int]:
        """The round of the order that run step `step` is in, and its place among the round's batches."""
        return divmod(step - self.start, self.per_round)

    def reading(self, view: str) -> "Stretch":
        """The same stretch, with one plain view."""
        return replace(self, phase=replace(self.phase, reads=(view,), partners=()))

    def epoch(self, step: int) -> float:
        """Passes over the data since the start of the phase."""
        return self.phase.epochs * (step - self.start) / (self.stop - self.start)

    def progress(self, step: int, seed: int) -> Progress:
        inside = Clock(
            step=step - self.start,
            steps=self.stop - self.start,
            epoch=self.epoch(step),
            epochs=self.phase.epochs,
        )
        run = Clock(step=step, steps=self.run_steps, epoch=self.before + self.epoch(step), epochs=self.run_epochs)
        return Progress(phase=inside, run=run, seed=seed)


def timeline(plan: Sequence[Phase], *, size: int, batch: int) -> list[Stretch]:
    """The stretches of a plan over `size` samples in global batches of `batch`; the last incomplete batch is dropped.

    Boundaries are the rounded cumulative steps, so that fractions of epochs never add up to a drift.
    Raises ValueError where a batch does not fit into a round, or a phase is shorter than one step.
    """
    edge, stretches = 0.0, list[Stretch]()
    for number, phase in enumerate(plan):
        per_round = phase.order.length(size) // batch
        if per_round < 1:
            raise ValueError(
                f"a batch of {batch} is larger than the {phase.order.length(size)} images of a round: "
                f"lower the batch size to {phase.order.length(size)} or less (--batch)"
            )
        start, edge = round(edge), edge + phase.order.rounds(phase.epochs, size) * per_round
        if round(edge) <= start:
            raise ValueError(
                f"phase {phase.name!r} with {phase.epochs:g} epochs is shorter than one step: train for more epochs"
            )
        before = sum((earlier.phase.epochs for earlier in stretches), 0.0)
        stretches.append(
            Stretch(
                number=number,
                phase=phase,
                start=start,
                stop=round(edge),
                per_round=per_round,
                before=before,
            )
        )
    return _joined(stretches)


def _joined(stretches: list[Stretch]) -> list[Stretch]:
    """The same stretches, knowing the run's length and their schedule's first and last step."""
    heads = [s.start for s in stretches if s.number == 0 or s.phase.restart]
    tails = [*heads[1:], stretches[-1].stop]
    epochs = sum((s.phase.epochs for s in stretches), 0.0)

    def bounds(stretch: Stretch) -> tuple[int, int]:
        return next((a, b) for a, b in zip(heads, tails, strict=True) if a <= stretch.start < b)

    return [
        replace(s, first=bounds(s)[0], last=bounds(s)[1], run_steps=stretches[-1].stop, run_epochs=epochs)
        for s in stretches
    ]


def schedule_clock(stretches: Sequence[Stretch], current: Stretch, step: int) -> Clock:
    """The clock of the learning rate: it runs over all stretches since the last restart."""
    shared = [s for s in stretches if s.first == current.first]
    return Clock(
        step=step - current.first,
        steps=current.last - current.first,
        epoch=current.before - shared[0].before + current.epoch(step),
        epochs=sum((s.phase.epochs for s in shared), 0.0),
    )
