"""lightly's losses beside ours on the same random rows, in float64: value, and gradient with respect to the rows.

Ours is the method of the recipe <method>_bench without its networks and heads, so that temperatures and weights are
compared too. MoCo's is not here: lightly's second direction already sees the keys of the first among its negatives.
"""

from collections.abc import Callable, Mapping

import torch
from torch import Tensor, nn

from lookalike.api.tiny import NothingElse, moment, reads
from lookalike.functional.random import generator
from lookalike.methods.method import Batch, Method
from lookalike.recipes import build_encoder, build_method, load
from peer_methods import METHODS, Moment, Peer

ROWS, DIM, IMAGES = 128, 128, 10_000
NETWORKS, COPIES = ("encoder", "projector", "predictor"), ("teacher", "target")
OURS = {"nnclr_paper": "nnclr"}  # what ours is called, where it is called something else
Rows = tuple[Tensor, Tensor]


def compared(method: str) -> Mapping[str, float] | None:
    """Both losses, and the largest difference of their gradients as a share of the largest entry of ours."""
    if method == "moco":
        return None
    one, two = (torch.randn(ROWS, DIM, dtype=torch.float64, generator=generator("rows", view)) for view in (1, 2))
    rows = one, one + two  # views of an image are alike
    peer, method = METHODS[method]().double(), OURS.get(method, method)
    bare = without_networks(method)
    share(method, bare, peer)
    mine, slopes = with_gradient(lambda *rows: bare(batch_of(bare, rows)).loss, rows)
    theirs, others = with_gradient(lambda *rows: peer.loss(*asked(method, rows)), rows)
    apart = max(float((a - b).abs().max() / a.abs().max()) for a, b in zip(slopes, others, strict=True))
    return {"lookalike": mine, "lightly": theirs, "gradient": apart}


def without_networks(method: str) -> Method:
    """Our method of the bench: what it is given is what it compares."""
    recipe = load(f"{method}_bench")
    encoder = build_encoder(recipe.backbone, channels=3, size=32, seed=0)
    bare = build_method(recipe, encoder, IMAGES, lambda note: None).double()
    for name, part in list(bare.named_children()):
        if name in NETWORKS:
            setattr(bare, name, nn.Identity())
        elif name in COPIES:
            part.copies = nn.ModuleList(nn.Identity() for _ in part.copies)
    return bare


@torch.no_grad()
def share(method: str, bare: Method, peer: Peer) -> None:
    """Our prototypes and support set for lightly's method."""
    if method == "swav":
        (layer,) = peer.prototypes.heads
        layer.weight.copy_(bare.prototypes.weight)
        layer.bias.zero_()
        peer.begin(Moment(0, 1, 1))
    elif method == "nnclr":
        peer.support.bank.copy_(bare.queue.rows())
    elif method == "dino":
        for head in (peer.projector, peer.slow_projector):
            head.layers = nn.Identity()
            head.last_layer.weight_v.copy_(bare.prototypes.weight)


def batch_of(method: Method, rows: Rows) -> Batch:
    views = dict(zip(reads(method), rows, strict=True))
    places = torch.arange(ROWS)
    return Batch(views=views, index=places, position=places, progress=moment(0), redraw=NothingElse())


def asked(method: str, rows: Rows) -> tuple[Tensor, ...]:
    """The rows as the loss of peer_methods.py wants them: predictions before targets, where it has both."""
    if method in ("simsiam", "nnclr"):
        return *rows, *rows
    return (*rows, *(x.detach() for x in rows)) if method in ("byol", "dino") else rows


def with_gradient(loss: Callable[..., Tensor], rows: Rows) -> tuple[float, Rows]:
    leaves = tuple(x.clone().requires_grad_() for x in rows)
    value = loss(*leaves)
    one, two = torch.autograd.grad(value, leaves)
    return value.item(), (one, two)
