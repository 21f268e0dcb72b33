"""Negatives from other clusters: which rows of a bank each query is told apart from (InterCLR: Xie et al. 2020).

    hard        the rows that resemble the query most
    semi_hard   rows drawn from the pool of those that do
    semi_easy   rows drawn from the pool of those that resemble it least
    random      rows drawn from all

without the rows of the query's own cluster. They are drawn without replacement, each row of the pool with the same
chance: from a random place of one random order of the pool.
B queries, N rows, K negatives, L candidates, P rows of the pool, D dimensions.
"""

from dataclasses import dataclass
from typing import Literal, TypeAlias

import torch
from jaxtyping import Float, Int64
from torch import Tensor

from lookalike.functional.neighbors import nearest_keys

SamplingRule: TypeAlias = Literal["semi_hard", "hard", "random", "semi_easy"]


@dataclass(frozen=True)
class Sampler:
    """How many negatives by which rule. pool: for the two rules between hard and random.

    None: a tenth of all rows in the pool, an eighth of the pool as negatives. More than there are stand for all.
    Raises ValueError for a number below 1, or more negatives than the pool has rows.

    >>> Sampler(pool=100)
    Traceback (most recent call last):
    ValueError: 16384 negatives from a pool of 100: give a count of at most the pool, or a larger pool
    """

    rule: SamplingRule = "semi_hard"
    count: int | None = 16384
    pool: int | None = 128000

    def __post_init__(self) -> None:
        if not all(number is None or number > 0 for number in (self.count, self.pool)):
            raise ValueError(f"{self.count} negatives from a pool of {self.pool}: give numbers of 1 or more")
        if self.pooled and self.count and self.pool and self.count > self.pool:
            raise ValueError(
                f"{self.count} negatives from a pool of {self.pool}: give a count of at most the pool, or a larger pool"
            )

    @property
    def pooled(self) -> bool:
        return self.rule.startswith("semi")

    def sizes(self, rows: int) -> tuple[int, int]:
        """Negatives, and rows of the pool, of a bank of so many rows."""
        pool = min(max(rows // 10, 1) if self.pool is None else self.pool, rows) if self.pooled else rows
        count = max(min(rows // 10, pool) // 8, 1) if self.count is None else self.count
        return min(count, pool), pool


@torch.no_grad()
def negatives_of_other_clusters(
    q_BD: Float[Tensor, "B D"],
    bank_ND: Float[Tensor, "N D"],
    label_N: Int64[Tensor, "N"],
    cluster_B: Int64[Tensor, "B"],
    chance_B: Float[Tensor, "B"],
    *,
    sampler: Sampler,
    generator: torch.Generator,
) -> Int64[Tensor, "B K"]:
    """Rows of the bank for each query, -1 for each that is missing because its cluster has too much of the pool.

    chance: a number in [0, 1) for each query; generator: equal on all ranks.
    """
    count, pool = sampler.sizes(len(bank_ND))
    enough = min(count + int(label_N.bincount().max()), pool)  # whatever the own cluster takes away
    if sampler.rule == "hard":
        candidate_BL = nearest_keys(q_BD, bank_ND, enough).rows
    else:
        order_P = torch.randperm(pool, generator=generator).to(label_N.device)
        place_B1 = (chance_B[:, None] * pool).long() + torch.arange(enough, device=label_N.device)
        candidate_BL = order_P[place_B1 % pool]
        if sampler.pooled:
            q_BD = q_BD if sampler.rule == "semi_hard" else -q_BD
            candidate_BL = nearest_keys(q_BD, bank_ND, pool).rows.gather(1, candidate_BL)
    own_BL = label_N[candidate_BL] == cluster_B[:, None]
    first_BK = own_BL.long().argsort(dim=1, stable=True)[:, :count]  # the others, in the order of the candidates
    return candidate_BL.masked_fill(own_BL, -1).gather(1, first_BK)
