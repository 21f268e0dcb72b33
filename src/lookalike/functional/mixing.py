"""Negatives mixed from the hardest keys of each query (MoCHi: Kalantidis et al. 2020).

    n_1 ... n_H     the H keys with the largest q . key
    of two keys     h = unit(a n_i + (1 - a) n_j),    a uniform in (0, 1)
    with the query  h = unit(b q + (1 - b) n_j),      b uniform in (0, 1/2): less of the query than of the key

with i and j uniform in 1 ... H; they may be equal. All are constants: no gradient.
B queries, N keys, S mixed negatives of a query, D dimensions.
"""

import torch
from jaxtyping import Bool, Float, Int64
from torch import Tensor

from lookalike.functional.chunks import chunks
from lookalike.functional.neighbors import nearest_keys
from lookalike.functional.similarity import demand_temperature, unit
from lookalike.functional.sweep import Swept

SCRATCH = 2**26  # bytes of the mixed negatives that exist at a time


@torch.no_grad()
def mixed_negatives(
    q_BD: Float[Tensor, "B D"],
    keys_ND: Float[Tensor, "N D"],
    chances_BS3: Float[Tensor, "B S 3"],
    *,
    pairs: int,
    hardest: int,
    temperature: float,
    mask: Bool[Tensor, "B N"] | None = None,
) -> Swept:
    """What q / t knows of its S mixed negatives, for `soft_contrast(beside=...)`.

    The first `pairs` are of two keys, the others with the query. chances are uniform numbers in [0, 1): which i, which
    j, and a, or twice b. hardest is H; of fewer keys all are taken. Keys that are true in `mask` are not mixed.
    Raises ValueError for a temperature <= 0.
    """
    demand_temperature(temperature)
    wide = torch.float64 if q_BD.dtype == torch.float64 else torch.float32
    with torch.autocast(q_BD.device.type, enabled=False):
        q_BD, chances_BS3 = q_BD.detach().to(wide), chances_BS3.double()  # fp32 would round the largest chances to 1
        near = nearest_keys(q_BD, keys_ND, min(hardest, len(keys_ND)), mask=mask)
        count_B1 = near.similarity.isfinite().sum(1, keepdim=True)
        seen = Swept(q_BD.new_empty(len(q_BD)), torch.empty_like(q_BD))
        mixed = chances_BS3.shape[1] * q_BD.shape[1] * q_BD.element_size()
        for part in chunks(len(q_BD), bytes_of_a_row=mixed, scratch=SCRATCH):
            h_cSD = mixes(q_BD[part], keys_ND, near.rows[part], count_B1[part], chances_BS3[part], pairs)
            logits_cS = torch.einsum("cd,csd->cs", q_BD[part] / temperature, h_cSD)
            seen.log_sum[part] = logits_cS.logsumexp(1)
            seen.mean[part] = torch.einsum("cs,csd->cd", logits_cS.softmax(1), h_cSD)
    none_B = count_B1[:, 0] == 0
    return Swept(seen.log_sum.masked_fill(none_B, -torch.inf), seen.mean.masked_fill(none_B[:, None], 0.0))


def mixes(
    q_cD: Float[Tensor, "c D"],
    keys_ND: Float[Tensor, "N D"],
    near_cH: Int64[Tensor, "c H"],
    count_c1: Int64[Tensor, "c 1"],
    chances_cS3: Float[Tensor, "c S 3"],
    pairs: int,
) -> Float[Tensor, "c S D"]:
    """The mixed negatives of some queries, from the first `count` of their nearest keys."""
    i_cS, j_cS = ((chances_cS3[..., n] * count_c1).long() for n in (0, 1))
    one_cSD = keys_ND[near_cH.gather(1, i_cS)].to(q_cD.dtype)
    other_cSD = keys_ND[near_cH.gather(1, j_cS)].to(q_cD.dtype)
    one_cSD[:, pairs:] = q_cD[:, None]
    share_cS1 = chances_cS3[..., 2:].to(q_cD.dtype, copy=True)
    share_cS1[:, pairs:] /= 2
    return unit(share_cS1 * one_cSD + (1 - share_cS1) * other_cSD)
