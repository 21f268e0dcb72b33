"""Loss and gradient of two and three processes equal those of one process with the joined batch, uneven shares too."""

import pytest
import torch
import torch.distributed as dist

from lookalike import recipes
from lookalike.api.tiny import IMAGES, prepared, tiny
from lookalike.functional.collectives import gather_rows, rank, world
from lookalike.functional.margin import Margin
from lookalike.functional.other_clusters import Sampler
from lookalike.methods.ascl import ASCL
from lookalike.methods.barlow_twins import BarlowTwins
from lookalike.methods.byol import BYOL
from lookalike.methods.dcl import DCL
from lookalike.methods.debiased import Debiased
from lookalike.methods.dino import DINO
from lookalike.methods.instance_classifier import InstanceClassifier
from lookalike.methods.interclr import InterCLR
from lookalike.methods.method import Batch, Method
from lookalike.methods.mochi import MoCHi
from lookalike.methods.moco import MoCo
from lookalike.methods.moco_v3 import MoCoV3
from lookalike.methods.nnclr import NNCLR
from lookalike.methods.npid import NPID
from lookalike.methods.pic import PIC
from lookalike.methods.qk_iteration import QKIteration
from lookalike.methods.relicv2 import ReLICv2
from lookalike.methods.ressl import ReSSL
from lookalike.methods.revisiting import Revisiting
from lookalike.methods.sce import SCE
from lookalike.methods.simclr import SimCLR
from lookalike.methods.simsiam import SimSiam
from lookalike.methods.supcon import SupCon
from lookalike.methods.swav import SwAV
from lookalike.methods.vicreg import VICReg
from lookalike.modules import (
    Bank,
    Clusters,
    InstanceClasses,
    NormedPrototypes,
    Prototypes,
    Queue,
    Rows,
    mlp,
    with_batch_statistics,
)
from methods.fixtures import Redraws, progress
from methods.records import records

METHODS = [  # a method, or a method and what is special
    "simclr",
    "moco",
    "moco margin mask",
    "byol",
    "sce",
    "sce symmetric",
    "swav",
    "swav queue",
    "dino",
    "relicv2",
    "simsiam",
    "barlow_twins",
    "barlow_twins hsic",
    "vicreg",
    "moco_v3",
    "dcl",
    "dcl weighted",
    "debiased",
    "nnclr",
    "nnclr both",
    "ressl",
    "ressl crops",
    "supcon",
    "supcon unlabeled",
    "npid",
    "npid of all",
    "ascl",
    "ascl as byol",
    "mochi",
    "mochi skipping",
    "pic",
    "pic sampled",
    "instance_classifier",
    "interclr",
    "interclr random",
    "qk_iteration",
    "qk_iteration live",
    "revisiting",
]
DERIVED = [name for name in recipes.METHODS if name not in {special.split()[0] for special in METHODS}]  # see tiny
VIEWS = ("view/1", "view/2")


def build(name: str) -> Method:
    if name in DERIVED:
        return prepared(tiny(name).double())
    torch.manual_seed(3)
    encoder, projector, predictor = mlp(6, [8, 5], last_norm="plain"), mlp(5, [7, 4]), mlp(4, [7, 4])
    queue, bank = Queue(20, 4, seed=1), Bank(20, 4)
    bank.fill([(torch.arange(20), queue.rows())])
    plain, derived, features = mlp(5, [7, 4], norm="none"), *(Bank(IMAGES, dim, derived=True) for dim in (4, 5))
    classes = InstanceClasses(20, 4, remember=True, sampled=True, seed=1)
    clusters = Clusters(20, 4, count=4, smallest=3, recenter=1)
    clusters.start(queue.rows(), torch.Generator().manual_seed(1))
    crops = {"large_views": VIEWS, "small_views": ("view/3",)}
    method = {
        "simclr": lambda: SimCLR(encoder, projector, temperature=0.5),
        "moco": lambda: MoCo(encoder, projector, queue, temperature=0.2, shuffle=True),
        "moco margin mask": lambda: MoCo(encoder, projector, queue, margin=Margin(0.2, "arc"), mask_above=0.3),
        "byol": lambda: BYOL(encoder, projector, predictor),
        "sce": lambda: SCE(encoder, projector, queue, predictor, shuffle=True),
        "sce symmetric": lambda: SCE(encoder, projector, queue, keys=VIEWS, queries=VIEWS),
        "swav": lambda: SwAV(encoder, projector, Prototypes(9, 4)),
        "dino": lambda: DINO(encoder, projector, NormedPrototypes(9, 4, learned_length=True)),
        "relicv2": lambda: ReLICv2(encoder, projector, others=3),
        "swav queue": lambda: filled(SwAV(encoder, projector, Prototypes(9, 4), queue=Rows(20))),
        "barlow_twins": lambda: BarlowTwins(encoder, projector),
        "barlow_twins hsic": lambda: BarlowTwins(encoder, projector, redundancy=0.1, variant="hsic"),
        "vicreg": lambda: VICReg(encoder, projector),
        "moco_v3": lambda: MoCoV3(encoder, projector, predictor, temperature=0.2),
        "dcl": lambda: DCL(encoder, projector),
        "dcl weighted": lambda: DCL(encoder, projector, sigma=0.5, weight_gradient=True),
        "debiased": lambda: Debiased(encoder, projector),
        "nnclr": lambda: NNCLR(encoder, projector, predictor, queue),
        "nnclr both": lambda: NNCLR(encoder, projector, predictor, queue, candidates="both"),
        "simsiam": lambda: SimSiam(encoder, projector, predictor),
        "ressl": lambda: ReSSL(encoder, projector, queue, predictor, shuffle=True),
        "ressl crops": lambda: ReSSL(encoder, projector, queue, queries=VIEWS),
        "supcon": lambda: SupCon(encoder, projector, base_temperature=0.07),
        "supcon unlabeled": lambda: SupCon(encoder, projector),
        "npid": lambda: NPID(encoder, projector, bank, negatives=9, proximal=0.3),
        "npid of all": lambda: NPID(encoder, projector, bank, objective="cross_entropy", negatives=None),
        "ascl": lambda: ASCL(encoder, projector, queue, neighbors=3),
        "ascl as byol": lambda: ASCL(encoder, projector, predictor=predictor, neighbors=2),
        "mochi": lambda: MoCHi(encoder, projector, queue, hardest=6, pairs=4, with_query=3),
        "mochi skipping": lambda: MoCHi(encoder, projector, queue, hardest=6, pairs=4, with_query=3, skip_own=True),
        "pic": lambda: PIC(encoder, projector, classes, **crops),
        "pic sampled": lambda: PIC(encoder, projector, classes, recent=5),
        "instance_classifier": lambda: InstanceClassifier(encoder, projector, classes),
        "interclr": lambda: InterCLR(encoder, projector, queue, bank, clusters, Sampler(count=4, pool=8)),
        "interclr random": lambda: InterCLR(
            encoder, projector, queue, bank, clusters, Sampler("random", 9), inter_margin=Margin(0.3, "arc")
        ),
        "qk_iteration": lambda: QKIteration(encoder, projector, derived),
        "qk_iteration live": lambda: QKIteration(encoder, plain, features, live_head=True),
        "revisiting": lambda: Revisiting(encoder, projector, queue, neighbors=3, small_views=("small/1",)),
    }[name]()
    return prepared(with_batch_statistics(method, "global").double())


def filled(method: SwAV) -> SwAV:
    assert method.queue is not None
    method.queue.push(**{view: queue.rows() for view in method.codes for queue in [Queue(20, 4, seed=2)]})
    return method


def one_step(name: str, rows: int) -> dict[str, torch.Tensor]:
    """Loss, gradients averaged over ranks, and buffers after it, of this rank's share of a batch of `rows`."""
    method, moment = build(name), progress(updated=True, rate=0.1)
    generator = torch.Generator().manual_seed(5)
    reads = {view for phase in method.plan(1.0) for view in phase.reads}
    pixels = {view: torch.randn(rows, 6, dtype=torch.float64, generator=generator) for view in sorted(reads)}
    position = torch.arange(rank(), rows, world())
    views = {view: x[position] for view, x in pixels.items()}
    labels = None if name.endswith("unlabeled") else position % 3
    method.before_update(moment)
    step = method(
        Batch(views=views, index=position, position=position, progress=moment, redraw=Redraws(), labels=labels)
    )
    step.loss.backward()
    method.after_update(moment, {key: gather_rows(rows_b.detach()) for key, rows_b in step.keep.items()})
    found = {"loss": step.loss.detach()}
    for key, parameter in method.named_parameters():
        if parameter.grad is not None:
            gradient = parameter.grad.clone()
            if world() > 1:
                dist.all_reduce(gradient)
            found[f"gradient of {key}"] = gradient / world()
    learned = dict(method.named_parameters())
    return found | {f"buffer {key}": value for key, value in method.state_dict().items() if key not in learned}


def test_every_method_of_the_table_is_here():
    assert {name.split()[0] for name in METHODS} | set(DERIVED) == set(recipes.METHODS)
    assert set(DERIVED) == set(records())


@pytest.mark.parametrize(("processes", "rows"), [(2, 12), (3, 12), (2, 7), (3, 7), (3, 8)])
@pytest.mark.parametrize("name", [*METHODS, *DERIVED])
def test_processes_equal_the_joined_batch(name: str, processes: int, rows: int, gloo) -> None:
    whole = one_step(name, rows)
    assert any(key.startswith("gradient") for key in whole)
    for share in gloo.run(processes, one_step, name, rows):
        assert share.keys() == whole.keys()
        for key, value in whole.items():
            torch.testing.assert_close(
                share[key], value, atol=1e-10, rtol=1e-13, msg=lambda text, key=key: f"{key}: {text}"
            )
