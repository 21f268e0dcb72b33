"""NPID: unsupervised feature learning via non-parametric instance discrimination. (Wu, Xiong, Yu, Lin, 2018)

Every image is a class, and a memory bank holds one vector for each: a moving average of what the encoder made of the
image, epoch after epoch. A view must be told to be its own image among all, or among a few drawn at random.

    f = unit(projector(encoder(view)))                                                            one view of an image
    nce             P(j) = exp(f . v_j / t) / Z,  Z = N x mean of exp(f . v / t) in the first step, a constant from then
                    loss = mean of - log P(i) / (P(i) + K/N) - sum over K drawn j of log (K/N) / (P(j) + K/N)
    cross_entropy   loss = - mean of log( exp(f . v_i / t) / sum over v_i and the drawn, or all N, of exp(f . v_j / t) )
    proximal term   loss + lambda * mean of |f - v_i|^2
    v_i <- unit(m * v_i + (1 - m) * f)                                             after the loss, with that step's f

B batch, D embedding, N images, K drawn; a drawn row may be the image's own (official code).
"""

import math
from collections.abc import Mapping, Sequence
from typing import Literal

import torch
from torch import Tensor, nn

from lookalike.functional import contrast, drawn_contrast, mean_exponential, nce, unit
from lookalike.functional.collectives import global_mean
from lookalike.methods.corpus import Corpus
from lookalike.methods.facts import Facts
from lookalike.methods.method import Batch, Method, Phase, Progress, Step
from lookalike.modules import Bank

VIEW = "view"


class NPID(Method):
    """encoder: pixels -> (B, dim); projector: (B, dim) -> (B, D); bank: N rows of D, one for each image.

    objective "nce" is the paper's, "cross_entropy" that of the authors' updated model, with K = 65536, and of their
    CIFAR-10 recipe, with negatives=None: all images. bank_momentum is m. proximal is lambda: 0 as in the official code;
    the paper has the term, with 30 by memory, so that the default is our choice.
    """

    facts = Facts(
        target="the image's own row",
        negatives="a memory bank of all images",
        memory="a row per image",
        when="one view per step; the classic to compare with",
    )
    normalizer: Tensor

    def __init__(
        self,
        encoder: nn.Module,
        projector: nn.Module,
        bank: Bank,
        *,
        temperature: float = 0.07,
        objective: Literal["nce", "cross_entropy"] = "nce",
        negatives: int | None = 4096,
        bank_momentum: float = 0.5,
        proximal: float = 0.0,
    ) -> None:
        super().__init__()
        if negatives is None and objective == "nce":
            raise ValueError("nce draws its negatives: give their number, or objective cross_entropy for all images")
        if negatives is not None and negatives < 1:
            raise ValueError(f"negatives is {negatives}: give 1 or more, or null for all images")
        self.encoder, self.projector, self.bank = encoder, projector, bank
        self.temperature, self.objective, self.drawn = temperature, objective, negatives
        self.bank_momentum, self.proximal = bank_momentum, proximal
        self.register_buffer("normalizer", torch.zeros(()))  # Z; 0: not yet known

    def plan(self, epochs: float) -> Sequence[Phase]:
        return [Phase(name="train", epochs=epochs, trains=("encoder", "projector"), reads=(VIEW,))]

    def enter(self, phase: Phase, corpus: Corpus) -> None:
        size, dim = self.bank.rows().shape
        generator = corpus.generator("bank")
        spread = math.sqrt(3 / dim)  # rows of a length of about 1: official code
        rows = (2 * torch.rand(size, dim, generator=generator) - 1) * spread
        self.bank.fill([(torch.arange(size), rows)])

    def forward(self, batch: Batch) -> Step:
        h = self.encoder(batch.views[VIEW])
        f_BD = unit(self.projector(h))
        keep = {"index": batch.index, "rows": f_BD}
        if self.drawn is None:
            loss = contrast(f_BD, self.bank.rows(), batch.index, temperature=self.temperature).loss
        else:
            drawn_BK = (batch.draw("negatives", self.drawn) * len(self.bank.rows())).long()
            compared = (f_BD, self.bank.rows(), batch.index, drawn_BK)
            if self.objective == "cross_entropy":
                loss = drawn_contrast(*compared, temperature=self.temperature)
            else:
                normalizer = self.normalizer
                if normalizer == 0:  # not yet known
                    keep["normalizer"] = len(self.bank.rows()) * mean_exponential(
                        *compared, temperature=self.temperature
                    )
                    normalizer = global_mean(keep["normalizer"])
                loss = nce(*compared, temperature=self.temperature, normalizer=normalizer)
        if self.proximal:
            loss = loss + self.proximal * global_mean((f_BD - self.bank.rows()[batch.index]).square().sum(1))
        return Step(loss=loss, keep=keep, features={VIEW: h}, projections={VIEW: f_BD})

    def after_update(self, progress: Progress, kept: Mapping[str, Tensor]) -> None:
        index = kept["index"]
        mixed = torch.lerp(kept["rows"].to(self.bank.rows()), self.bank.rows()[index], self.bank_momentum)
        self.bank.write(index, unit(mixed))  # after the loss, with the features of before the step: official code
        if "normalizer" in kept:
            self.normalizer.copy_(kept["normalizer"].mean())  # of the whole first batch, once: official code

    def uniform(self, rows: int) -> float | None:
        if self.objective == "nce" or self.proximal:
            return None  # it depends on Z, or on how far the bank lags behind
        return math.log(len(self.bank.rows()) if self.drawn is None else 1 + self.drawn)

    def exports(self) -> Mapping[str, nn.Module]:
        return {"encoder": self.encoder}
