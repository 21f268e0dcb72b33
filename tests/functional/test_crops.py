"""Views of one size go through a network together, those of others apart; order and gradients stay."""

import torch
from torch import nn

from lookalike.functional.crops import by_size

SIZES = {"global/1": 8, "local/1": 4, "global/2": 8, "local/2": 4, "odd": 6}
VIEWS = {name: torch.randn(3, 2, size, size, dtype=torch.float64) for name, size in SIZES.items()}


class Counted(nn.Module):
    """Mean over the pixels; notes the shapes it saw."""

    def __init__(self) -> None:
        super().__init__()
        self.seen: list[tuple[int, ...]] = []

    def forward(self, x):
        self.seen.append(tuple(x.shape))
        return x.mean((2, 3))


def test_one_forward_for_each_size():
    network = Counted()
    rows = by_size(network, VIEWS, ["local/2", "global/1", "odd", "global/2", "local/1"])
    assert network.seen == [(6, 2, 4, 4), (6, 2, 8, 8), (3, 2, 6, 6)]
    assert list(rows) == ["local/2", "global/1", "odd", "global/2", "local/1"]
    for name, found in rows.items():
        torch.testing.assert_close(found, VIEWS[name].mean((2, 3)))


def test_views_of_one_size_share_their_batch_statistics():
    norm = nn.BatchNorm1d(2, affine=False, dtype=torch.float64)
    network = nn.Sequential(Counted(), norm)
    rows = by_size(network, VIEWS, ["global/1", "local/1", "global/2"])
    joined = torch.cat([rows["global/1"], rows["global/2"]])
    torch.testing.assert_close(joined.mean(0), torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-12)
    assert rows["global/1"].mean(0).abs().min() > 1e-6
    torch.testing.assert_close(rows["local/1"].mean(0), torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-12)


def test_views_apart_have_batch_statistics_of_their_own():
    counted, norm = Counted(), nn.BatchNorm1d(2, affine=False, dtype=torch.float64)
    rows = by_size(nn.Sequential(counted, norm), VIEWS, ["global/1", "local/1", "global/2"], joined=False)
    assert counted.seen == [(3, 2, 8, 8), (3, 2, 4, 4), (3, 2, 8, 8)]
    assert list(rows) == ["global/1", "local/1", "global/2"]
    for found in rows.values():
        torch.testing.assert_close(found.mean(0), torch.zeros(2, dtype=torch.float64), rtol=0, atol=1e-12)


def test_gradient_reaches_every_view():
    views = {name: x.clone().requires_grad_() for name, x in VIEWS.items()}
    sum(rows.sum() for rows in by_size(Counted(), views, list(views)).values()).backward()
    for x in views.values():
        torch.testing.assert_close(x.grad, torch.full_like(x, 1 / x[0, 0].numel()))
