"""What is said at the end of a run: counts by a plain loop, and the weights left alone."""

import torch
from torch import nn

from lookalike.api.closing import drawn, phase_of, recognition
from lookalike.data import Wrapped
from lookalike.evaluation import fingerprint
from lookalike.functional import random
from lookalike.methods.qk_iteration import QKIteration
from lookalike.modules import Bank
from lookalike.training.progress import Line
from lookalike.training.streams import Streams
from lookalike.transforms import Views, simclr

CPU = torch.device("cpu")


class Tones(nn.Module):
    """Mean of each quarter: nearly blind to crops, so that many noise images are mistaken for others of their tone."""

    def forward(self, x):
        return nn.functional.adaptive_avg_pool2d(x.float(), 2).flatten(1)


def streams(count: int) -> Streams:
    generator = torch.Generator().manual_seed(count)
    tones = torch.randint(0, 256, (count, 3, 1, 1), generator=generator)
    noise = torch.randint(-20, 20, (count, 3, 12, 12), generator=generator)
    images = (tones + noise).clamp(0, 255).to(torch.uint8)
    return Streams(source=Wrapped(list(images)), views=Views(simclr(size=8, strength=0.2, blur=False)), batch=4)


def test_the_share_is_that_of_a_plain_loop():
    data, model, key = streams(40), Tones(), random.key("closing views", 3)
    before = fingerprint(model)
    found = recognition(2 * [(model, "view/1")], data, seed=3, device=CPU, line=Line(quiet=True))
    views = [
        [
            data.views.render(
                [data.source.read(i)],
                data.views.draw(torch.tensor([i]), seed=key, epoch=(0, 0), attempt=attempt, names=["view/1"]),
            )["view/1"]
            for i in range(40)
        ]
        for attempt in (0, 1)
    ]
    rows = [[model(pixels)[0] for pixels in draws] for draws in views]
    hits = 0
    for i in range(40):
        near = max(range(40), key=lambda j: float(torch.cosine_similarity(rows[0][i], rows[1][j], dim=0)))
        hits += near == i
    assert 4 < hits < 40
    assert found["trained"] == hits / 40
    assert list(found) == ["trained", "random weights", "raw pixels"]
    assert fingerprint(model) == before


def test_an_unreadable_image_gives_way_in_both_draws():
    class Torn(list):
        def __getitem__(self, i):
            if i == 5:
                raise OSError("gone")
            return super().__getitem__(i)

    whole = streams(12)
    torn = Streams(source=Wrapped(Torn(whole.source.dataset)), views=whole.views, batch=4)
    draws = [
        torch.cat([index for index, _ in drawn(torn, torch.arange(12), "view/1", seed=0, attempt=attempt)])
        for attempt in (0, 1)
    ]
    assert draws[0].equal(draws[1])
    assert 5 not in draws[0]
    assert len(draws[0]) == 12


def test_a_role_is_shown_the_view_that_it_learned_from_also_where_its_head_learns_in_the_other_phase():
    for live_head in (False, True):
        method = QKIteration(nn.Linear(6, 5), nn.Linear(5, 4), Bank(8, 4, derived=True), live_head=live_head)
        plan = method.plan(10.0)
        assert phase_of("query", plan).reads == ("edited",)
        assert phase_of("key", plan).reads == ("original",)
