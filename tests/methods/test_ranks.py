"""Loss and gradient of two and three processes equal those of one process with the joined batch, uneven shares too."""

import pytest
import torch
import torch.distributed as dist

from lookalike import recipes
from lookalike.functional.collectives import rank, world
from lookalike.methods.byol import BYOL
from lookalike.methods.dino import DINO
from lookalike.methods.method import Batch, Method
from lookalike.methods.moco import MoCo
from lookalike.methods.relicv2 import ReLICv2
from lookalike.methods.sce import SCE
from lookalike.methods.simclr import SimCLR
from lookalike.methods.swav import SwAV
from lookalike.modules import NormedPrototypes, Prototypes, Queue, Rows, mlp, with_batch_statistics
from methods.fixtures import Redraws, progress

METHODS = [
    "simclr",
    "moco",
    "byol",
    "sce",
    "sce symmetric",
    "swav",
    "swav queue",
    "dino",
    "relicv2",
]  # a method, or a method and what is special
VIEWS = ("view/1", "view/2")


def build(name: str) -> Method:
    torch.manual_seed(3)
    encoder, projector, predictor = mlp(6, [8, 5], last_norm="plain"), mlp(5, [7, 4]), mlp(4, [7, 4])
    queue = Queue(20, 4, seed=1)
    method = {
        "simclr": lambda: SimCLR(encoder, projector, temperature=0.5),
        "moco": lambda: MoCo(encoder, projector, queue, temperature=0.2, shuffle=True),
        "byol": lambda: BYOL(encoder, projector, predictor),
        "sce": lambda: SCE(encoder, projector, queue, predictor, shuffle=True),
        "sce symmetric": lambda: SCE(encoder, projector, queue, keys=VIEWS, queries=VIEWS),
        "swav": lambda: SwAV(encoder, projector, Prototypes(9, 4)),
        "dino": lambda: DINO(encoder, projector, NormedPrototypes(9, 4, learned_length=True)),
        "relicv2": lambda: ReLICv2(encoder, projector, others=3),
        "swav queue": lambda: filled(SwAV(encoder, projector, Prototypes(9, 4), queue=Rows(20))),
    }[name]()
    return with_batch_statistics(method, "global").double()


def filled(method: SwAV) -> SwAV:
    assert method.queue is not None
    method.queue.push(**{view: queue.rows() for view in method.codes for queue in [Queue(20, 4, seed=2)]})
    return method


def one_step(name: str, rows: int) -> dict[str, torch.Tensor]:
    """Loss, gradients averaged over ranks, and BatchNorm's buffers, of this rank's share of a batch of `rows`."""
    method = build(name)
    generator = torch.Generator().manual_seed(5)
    reads = {view for phase in method.plan(1.0) for view in phase.reads}
    pixels = {view: torch.randn(rows, 6, dtype=torch.float64, generator=generator) for view in sorted(reads)}
    position = torch.arange(rank(), rows, world())
    views = {view: x[position] for view, x in pixels.items()}
    step = method(Batch(views=views, index=position, position=position, progress=progress(), redraw=Redraws()))
    step.loss.backward()
    found = {"loss": step.loss.detach()}
    for key, parameter in method.named_parameters():
        if parameter.grad is not None:
            gradient = parameter.grad.clone()
            if world() > 1:
                dist.all_reduce(gradient)
            found[f"gradient of {key}"] = gradient / world()
    return found | {f"buffer {key}": buffer.clone() for key, buffer in method.named_buffers()}


def test_every_method_of_the_table_is_here():
    assert {name.split()[0] for name in METHODS} == set(recipes.METHODS)


@pytest.mark.parametrize(("processes", "rows"), [(2, 12), (3, 12), (2, 7), (3, 7), (3, 8)])
@pytest.mark.parametrize("name", METHODS)
def test_processes_equal_the_joined_batch(name: str, processes: int, rows: int, gloo) -> None:
    whole = one_step(name, rows)
    assert any(key.startswith("gradient") for key in whole)
    for share in gloo.run(processes, one_step, name, rows):
        assert share.keys() == whole.keys()
        for key, value in whole.items():
            torch.testing.assert_close(
                share[key], value, atol=1e-10, rtol=0, msg=lambda text, key=key: f"{key}: {text}"
            )
