"""Extraction: rows in order, from any module, which is left exactly as it was."""

import pytest
import timm
import torch
from torch import Tensor, nn

from lookalike.evaluation import extract, fingerprint, stream
from lookalike.modules import evaluating


def small_net() -> nn.Sequential:
    return nn.Sequential(
        nn.Conv2d(3, 8, 3, padding=1),
        nn.BatchNorm2d(8),
        nn.ReLU(),
        nn.Dropout(0.5),
        nn.AdaptiveAvgPool2d(1),
        nn.Flatten(),
    )


def batches(count: int = 4, size: int = 8) -> list[tuple[Tensor, Tensor]]:
    return [(torch.arange(5) + 5 * b, torch.randn(5, 3, size, size) + 1) for b in range(count)]


class Counting(nn.Module):
    """A foreign module that moves a buffer in eval mode as well, and replaces another."""

    def __init__(self) -> None:
        super().__init__()
        self.register_buffer("calls", torch.zeros(()))
        self.register_buffer("mean", torch.zeros(3))

    def forward(self, x: Tensor) -> Tensor:
        self.calls += 1
        self.mean = x.mean((0, 2, 3))
        return x.flatten(1)


class Stubborn(nn.Module):
    """Batch norm that ignores eval(), as in a momentum encoder with its own statistics."""

    def __init__(self) -> None:
        super().__init__()
        self.norm = nn.BatchNorm2d(3)

    def train(self, mode: bool = True) -> "Stubborn":
        super().train(mode)
        self.norm.train(True)
        return self

    def forward(self, x: Tensor) -> Tensor:
        return self.norm(x).flatten(1)


def test_rows_are_the_eval_mode_outputs_in_the_order_given():
    net, data = small_net(), batches()
    features = extract(net, data)
    net.eval()
    with torch.no_grad():
        expected = torch.cat([net(pixels) for _, pixels in data])
    assert torch.equal(features.index, torch.arange(20))
    assert torch.equal(features.rows, expected)
    assert not features.rows.requires_grad
    assert not features.rows.is_inference()  # a probe may train on them


def test_modes_of_every_submodule_buffers_and_hash_are_left_as_they_were():
    net = small_net()
    net[1].eval()  # a mixture of modes, as when a part is frozen
    before, modes = fingerprint(net), [part.training for part in net.modules()]
    extract(net, batches())
    assert [part.training for part in net.modules()] == modes == [True, True, False, True, True, True, True]
    assert fingerprint(net) == before
    net[1].train()
    net(batches()[0][1])
    assert fingerprint(net) != before  # the hash sees batch statistics move


def test_everything_is_restored_after_a_failure_too():
    net = nn.Sequential(Counting(), nn.Linear(7, 2))  # the wrong width
    before = fingerprint(net)
    with pytest.raises(RuntimeError):
        extract(net, batches())
    assert net.training
    assert fingerprint(net) == before
    assert torch.is_grad_enabled()


def test_buffers_that_a_module_writes_in_eval_mode_are_written_back():
    net = Counting()
    mean = net.mean
    extract(net, batches())
    assert net.calls.item() == 0
    assert net.mean is mean
    assert torch.equal(mean, torch.zeros(3))


def test_a_batch_norm_that_refuses_eval_mode_is_in_eval_mode_inside_and_back_after():
    net = Stubborn()
    before = fingerprint(net)
    net.eval()
    with evaluating(net):
        assert not net.norm.training
    data = batches(1)
    rows = extract(net, data).rows
    torch.testing.assert_close(rows, data[0][1].flatten(1) / (1 + net.norm.eps) ** 0.5)  # mean 0, variance 1
    assert net.norm.training
    assert fingerprint(net) == before


def test_a_backward_under_way_survives_an_extraction_in_between():
    net = small_net()
    net[1].eval()  # its statistics are saved for backward
    x = torch.randn(5, 3, 8, 8)
    loss = net[:3](x).square().mean()
    extract(net, batches())
    loss.backward()
    assert net[0].weight.grad.abs().sum() > 0


def test_between_two_batches_of_a_stream_the_encoder_can_be_trained():
    net = small_net()
    for _, rows in stream(net, batches()):
        assert net.training
        assert torch.is_grad_enabled()
        assert rows.dtype == torch.float32


def test_a_stream_keeps_double_precision_and_an_extraction_is_float32():
    net = small_net().double()
    data = [(index, pixels.double()) for index, pixels in batches(1)]
    ((_, rows),) = stream(net, data)
    assert rows.dtype == torch.float64
    assert torch.equal(extract(net, data).rows, rows.float())


def test_a_foreign_network_with_feature_maps_is_pooled_by_the_mean():
    net = timm.create_model("resnet18", num_classes=0, global_pool="")
    data = batches(2, size=64)
    features = extract(net, data)
    net.eval()
    with torch.no_grad():
        maps = torch.cat([net(pixels) for _, pixels in data])
    assert maps.shape == (10, 512, 2, 2)
    torch.testing.assert_close(features.rows, maps.flatten(2).mean(2))


def test_autocast_gives_float32_rows_near_the_exact_ones():
    net, data = small_net(), batches()
    exact, low = extract(net, data).rows, extract(net, data, autocast=torch.bfloat16).rows
    assert low.dtype == torch.float32
    assert not torch.equal(low, exact)
    torch.testing.assert_close(low, exact, atol=2e-2, rtol=2e-2)


def test_an_outer_autocast_does_not_reach_in():
    net, data = small_net(), batches()
    exact = extract(net, data).rows
    with torch.autocast("cpu", dtype=torch.bfloat16):
        assert torch.equal(extract(net, data).rows, exact)


def test_progress_counts_rows():
    heard: list[int] = []
    extract(small_net(), batches(3), on_progress=heard.append)
    assert heard == [5, 10, 15]


def test_rows_that_are_not_finite_are_counted_in_one_sentence():
    data = batches()
    data[1][1][2] = torch.nan
    data[3][1][4, 0, 0, 0] = torch.inf
    with pytest.raises(ValueError, match=r"2 of 20 feature rows are not finite \(first: sample 7\)"):
        extract(nn.Flatten(), data)


@pytest.mark.parametrize(
    ("net", "message"),
    [
        (nn.Flatten(0), r"returns shape \(960,\) for 5 images"),
        (nn.Flatten(2), r"returns shape \(5, 3, 64\)"),
        (nn.Unflatten(0, (1, 5)), r"returns shape \(1, 5, 3, 8, 8\)"),
        (nn.Sequential(nn.Flatten(1), nn.Unflatten(1, (2, 96)), nn.Flatten(0, 1)), r"\(10, 96\) for 5 images"),
    ],
)
def test_other_outputs_are_refused(net, message):
    with pytest.raises(ValueError, match=message):
        extract(net, batches())


def test_outputs_that_are_no_tensor_are_named():
    class Two(nn.Module):
        def forward(self, x: Tensor) -> tuple[Tensor, Tensor]:
            return x, x

    with pytest.raises(ValueError, match="the encoder returns tuple"):
        extract(Two(), batches())


def test_no_data_is_an_error():
    with pytest.raises(ValueError, match="the data gave no batch"):
        extract(small_net(), [])


def test_fingerprint_sees_every_bit_name_dtype_and_shape_and_nothing_else():
    net = small_net()
    plain = fingerprint(net)
    assert fingerprint(net.eval()) == plain
    assert fingerprint(net.to(memory_format=torch.channels_last)) == plain
    assert fingerprint(nn.Sequential(*net)) == plain
    others = {plain, fingerprint(nn.ModuleDict({"a": net})), fingerprint(net.double())}
    net.float()
    with torch.no_grad():
        net[0].bias[0] = torch.nextafter(net[0].bias[0], torch.tensor(9.0))
    others.add(fingerprint(net))
    flat, square = nn.Module(), nn.Module()
    flat.register_buffer("x", torch.zeros(4))
    square.register_buffer("x", torch.zeros(2, 2))
    others |= {fingerprint(flat), fingerprint(square)}
    assert len(others) == 6


def test_fingerprint_reads_every_dtype():
    net = nn.Module()
    for n, dtype in enumerate((torch.bfloat16, torch.float16, torch.bool, torch.int64, torch.uint8)):
        net.register_buffer(f"b{n}", torch.ones(3, dtype=dtype))
    net.register_buffer("scalar", torch.tensor(1.0))
    net.register_buffer("empty", torch.empty(0, 4))
    before = fingerprint(net)
    net.b0[1] = 2
    assert fingerprint(net) != before
