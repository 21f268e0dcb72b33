"""What a method that surrounds another one passes on to it."""

from collections.abc import Mapping

from torch import Tensor, nn

from lookalike.methods.corpus import Corpus
from lookalike.methods.method import Group, Method, Phase, Progress


class Around:
    """A second base, before Method: `self.method` hears of all that the one around it does not see to itself."""

    method: Method

    def groups(self) -> Mapping[str, Group]:
        return {f"method.{name}": group for name, group in self.method.groups().items()}

    def uniform(self, rows: int) -> float | None:
        return self.method.uniform(rows)

    def enter(self, phase: Phase, corpus: Corpus) -> None:
        self.method.enter(phase, corpus)

    def prepare(self, phase: Phase, corpus: Corpus) -> None:
        self.method.prepare(phase, corpus)

    def before_update(self, progress: Progress) -> None:
        self.method.before_update(progress)

    def after_update(self, progress: Progress, kept: Mapping[str, Tensor]) -> None:
        self.method.after_update(progress, kept)

    def exports(self) -> Mapping[str, nn.Module]:
        return self.method.exports()
