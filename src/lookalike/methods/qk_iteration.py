"""QK Iteration: learn two networks in turns, each against a million frozen answers of the other. (Wu, Wu, 2021)

A query network Q describes edited copies, a key network K originals; each has its own weights. While one learns, the
other is frozen, so that its answers for the whole data set are consistent negatives, computed once.

    repeat for each round
        k_j <- K(original j) of all images;   Q learns    - mean of log( exp(q_i . k_i / t) / sum_j exp(q_i . k_j / t) )
        q_j <- Q(edited j) of all images;     K learns    - mean of log( exp(k_i . q_i / t) / sum_j exp(k_i . q_j / t) )
    Q(x) = unit(head_Q(backbone_Q(x))),  K(x) = unit(head_K(backbone_K(x)));  copies are found by Q(x) . K(y)

live_head: frozen is the backbone alone, and the head behind its N stored features learns too, in every step anew.
A reconstruction: no more than the abstract was within reach, and all that it leaves open is an argument.
B batch, D embedding, N images.
"""

import copy
import math
from collections.abc import Mapping, Sequence

from torch import nn

from lookalike.functional import contrast, unit
from lookalike.functional.live_keys import live_contrast
from lookalike.methods.corpus import Corpus
from lookalike.methods.facts import Facts
from lookalike.methods.method import Batch, Method, Phase, Step
from lookalike.modules import DerivedBank, Descriptor, unmeasured

OTHER = {"query": "key", "key": "query"}


class QKIteration(Method):
    """encoder: pixels -> (B, dim); projector: (B, dim) -> (B, D): the first weights of both sides. bank: N rows.

    rounds: of a phase of Q and one of K; never more than epochs. query_share: of a round that belongs to Q.
    live_head: the frozen side's head learns too, and the bank holds backbone features. restart: optimizer and schedule
    begin anew in each phase. raw_start: a side that has not learned answers with batch statistics, since with its
    running ones all images look alike. query_view, key_view: what Q and K see, in training and in the bank; random ones
    are drawn anew for the bank of each phase.
    """

    facts = Facts(
        target="the other network's row of the image",
        negatives="all images, by a frozen network",
        networks="two, in turns",
        memory="a row per image",
        when="copies; a query and a key network",
    )
    reconstruction = "a reconstruction: only the paper's abstract was within reach (docs/methods/qk_iteration.md)"

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        bank: DerivedBank,
        *,
        temperature: float = 0.05,
        rounds: int = 10,
        query_share: float = 0.5,
        live_head: bool = False,
        restart: bool = False,
        raw_start: bool = True,
        query_view: str = "edited",
        key_view: str = "original",
    ) -> None:
        super().__init__()
        if not 0 < query_share < 1:
            raise ValueError(f"query_share is {query_share}: give the share of a round for Q, between 0 and 1")
        if live_head and any(isinstance(layer, nn.modules.batchnorm._BatchNorm) for layer in projector.modules()):
            raise ValueError("a live head with BatchNorm would see all images at once: use a projector without it")
        self.query = Descriptor(encoder, projector)
        self.key = copy.deepcopy(self.query)
        self.bank, self.temperature, self.rounds, self.query_share = bank, temperature, rounds, query_share
        self.live_head, self.restart, self.raw_start = live_head, restart, raw_start
        self.views, self.learner = {"query": query_view, "key": key_view}, "query"

    def plan(self, epochs: float) -> Sequence[Phase]:
        rounds, shares = self.possible(epochs), {"query": self.query_share, "key": 1 - self.query_share}
        return [
            Phase(
                name=f"{side}/{number}",
                epochs=epochs / rounds * share,
                trains=(f"{side}.encoder", f"{side}.head", *([f"{OTHER[side]}.head"] if self.live_head else [])),
                reads=(self.views[side],),
                scans=(self.views[OTHER[side]],),
                restart=self.restart,
            )
            for number in range(1, rounds + 1)
            for side, share in shares.items()
        ]

    def possible(self, epochs: float) -> int:
        """Rounds of at least an epoch, our choice: in a round of one, Q and K see a share of the images each."""
        return max(1, min(self.rounds, int(epochs)))

    def prepare(self, phase: Phase, corpus: Corpus) -> None:
        self.learner = phase.name.partition("/")[0]
        side = OTHER[self.learner]
        frozen = self.get_submodule(f"{side}.encoder" if self.live_head else side)
        raw = self.raw_start and unmeasured(frozen)
        self.bank.fill(corpus.encode(frozen, self.views[side], mode="train" if raw else "eval"))

    def forward(self, batch: Batch) -> Step:
        view, learner = self.views[self.learner], self.get_submodule(self.learner)
        h = learner.get_submodule("encoder")(batch.views[view])
        z_BD = unit(learner.get_submodule("head")(h))
        if self.live_head:
            head = self.get_submodule(f"{OTHER[self.learner]}.head")
            found = live_contrast(z_BD, self.bank.rows(), batch.index, head, temperature=self.temperature)
        else:
            found = contrast(z_BD, self.bank.rows(), batch.index, temperature=self.temperature)
        return Step(
            loss=found.loss, metrics={"confidence": found.confidence}, features={view: h}, projections={view: z_BD}
        )

    def uniform(self, rows: int) -> float:
        # a learner that gives one row to all is there or above, whatever the frozen side holds: log-sum-exp is convex
        return math.log(len(self.bank.table))

    def notes(self, epochs: float) -> Sequence[str]:
        said, rows = [], len(self.bank.table)
        if self.possible(epochs) < self.rounds:
            said.append(f"{self.rounds} rounds are more than {epochs:g} epochs: lowered to {self.possible(epochs)}")
        if self.live_head:
            weights = sum(parameter.numel() for parameter in self.key.head.parameters())
            work = 8 * rows * weights / 1e9  # two forwards, and a backward of twice as much; 2 operations a weight
            said.append(
                f"the live head makes all {rows:,} rows anew, twice a step, and learns from them: about {work:,.1f} "
                "GFLOP a step, which method.live_head=false saves"
            )
        return said

    def exports(self) -> Mapping[str, nn.Module]:
        return {"query": self.query, "key": self.key}
