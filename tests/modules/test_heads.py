"""Heads against the shapes that the papers' code builds."""

import pytest
import torch
from torch import nn

from lookalike.modules import SHAPES, gives, head, mlp, takes, with_batch_statistics


def described(module: nn.Sequential) -> list[str]:
    """One word per layer; + marks a bias (or offset), ~ a BatchNorm with scale only, - one without either."""
    words = []
    for layer in module:
        if isinstance(layer, nn.Linear):
            words.append(f"{layer.in_features}>{layer.out_features}{'+' if layer.bias is not None else ''}")
        elif isinstance(layer, nn.BatchNorm1d):
            words.append("bn" + ("+" if layer.bias is not None else "~" if layer.weight is not None else "-"))
        else:
            words.append(type(layer).__name__.lower())
    return words


PAPERS = {
    ("simclr", 512): "512>512 bn+ relu 512>128 bn~",
    ("simclr_v2", 2048): "2048>2048 bn+ relu 2048>2048 bn+ relu 2048>128 bn~",
    ("moco_v1", 2048): "2048>128+",
    ("moco_v2", 2048): "2048>2048+ relu 2048>128+",
    ("moco_cifar", 512): "512>128+",
    ("moco_v3/projector", 2048): "2048>4096 bn+ relu 4096>256 bn-",
    ("moco_v3/predictor", 256): "256>4096 bn+ relu 4096>256",
    ("moco_v3_vit/projector", 384): "384>4096 bn+ relu 4096>4096 bn+ relu 4096>256 bn-",
    ("moco_v3_vit/predictor", 256): "256>4096 bn+ relu 4096>256 bn-",
    ("byol/projector", 2048): "2048>4096+ bn+ relu 4096>256",
    ("byol/predictor", 256): "256>4096+ bn+ relu 4096>256",
    ("sce/projector", 2048): "2048>2048 bn+ relu 2048>2048 bn+ relu 2048>256 bn-",
    ("sce/predictor", 256): "256>4096 bn+ relu 4096>256",
    ("sce_cifar", 512): "512>512 bn+ relu 512>128+",
    ("simsiam/projector", 2048): "2048>2048 bn+ relu 2048>2048 bn+ relu 2048>2048 bn-",
    ("simsiam_cifar/projector", 512): "512>2048 bn+ relu 2048>2048 bn-",
    ("simsiam/predictor", 2048): "2048>512 bn+ relu 512>2048+",
    ("barlow_twins", 2048): "2048>8192 bn+ relu 8192>8192 bn+ relu 8192>8192",
    ("vicreg", 2048): "2048>8192+ bn+ relu 8192>8192+ bn+ relu 8192>8192",
    ("dcl", 2048): "2048>512 bn+ relu 512>128+",
    ("nnclr/projector", 512): "512>2048+ bn+ relu 2048>2048+ bn+ relu 2048>256+ bn+",
    ("nnclr/predictor", 256): "256>4096+ bn+ relu 4096>256+",
    ("ressl", 2048): "2048>4096+ relu 4096>512+",
    ("ascl", 512): "512>2048+ relu 2048>128+",
    ("ascl/predictor", 128): "128>512+ bn+ relu 512>128+",
    ("npid", 512): "512>128+",
    ("supcon", 2048): "2048>2048+ relu 2048>128+",
    ("swav", 2048): "2048>2048+ bn+ relu 2048>128+",
    ("dino", 384): "384>2048+ gelu 2048>2048+ gelu 2048>256+",
    ("dino_bn", 2048): "2048>2048+ bn+ gelu 2048>2048+ bn+ gelu 2048>256+",
}


@pytest.mark.parametrize(("name", "dim"), list(PAPERS))
def test_layers_are_the_papers(name: str, dim: int) -> None:
    with torch.device("meta"):
        assert described(head(name, dim)) == PAPERS[name, dim].split()


def test_every_shape_is_checked_against_its_paper() -> None:
    assert {name for name, _ in PAPERS} == set(SHAPES)


@pytest.mark.parametrize(
    ("name", "dim", "count"),
    [
        ("simclr", 512, 512 * 512 + 2 * 512 + 512 * 128 + 128),
        ("moco_v2", 2048, 2048 * 2048 + 2048 + 2048 * 128 + 128),
        ("byol/projector", 2048, 2048 * 4096 + 4096 + 2 * 4096 + 4096 * 256),
        ("sce/projector", 2048, 2 * (2048 * 2048 + 2 * 2048) + 2048 * 256),
        ("sce_cifar", 512, 512 * 512 + 2 * 512 + 512 * 128 + 128),
    ],
)
def test_number_of_parameters(name: str, dim: int, count: int) -> None:
    with torch.device("meta"):
        assert sum(p.numel() for p in head(name, dim).parameters()) == count


def test_widths_can_be_replaced() -> None:
    with torch.device("meta"):
        multi_crop = head("sce/projector", 2048, hidden=4096)
        small = head("simclr", 128, out=64)
    assert described(multi_crop) == ["2048>4096", "bn+", "relu", "4096>4096", "bn+", "relu", "4096>256", "bn-"]
    assert described(small) == ["128>128", "bn+", "relu", "128>64", "bn~"]


@pytest.mark.parametrize(("last_norm", "mean", "std"), [("no_bias", 0.0, 3.0), ("no_affine", 0.0, 1.0)])
def test_the_last_norm_has_no_offset_to_learn(last_norm: str, mean: float, std: float) -> None:
    projector = mlp(4, [5], last_norm=last_norm)
    if last_norm == "no_bias":
        nn.init.constant_(projector[-1].weight, 3.0)
    z = projector(torch.randn(256, 4) + 7)
    torch.testing.assert_close(z.mean(0), torch.full((5,), mean), rtol=0, atol=1e-4)
    torch.testing.assert_close(z.std(0, unbiased=False), torch.full((5,), std), rtol=1e-3, atol=0)
    z.sin().sum().backward()
    assert not any(name.endswith("1.bias") for name, _ in projector.named_parameters())


def test_a_norm_without_offset_takes_every_policy_and_can_be_reset() -> None:
    x = torch.randn(8, 4)
    plain = mlp(4, [5], last_norm="no_bias")
    expected = plain(x)
    for policy in ("global", "split:1"):
        converted = with_batch_statistics(plain, policy)
        torch.testing.assert_close(converted(x), expected)
        assert "1.bias" not in converted.state_dict()
    converted[-1].reset_parameters()


def test_widths_are_those_of_the_first_and_the_last_linear_layer() -> None:
    layers = nn.Sequential(nn.ReLU(), mlp(4, [5, 3], last_norm="plain"), nn.Identity())
    assert (takes(layers), gives(layers)) == (4, 3)
    for width in (takes, gives):
        with pytest.raises(ValueError, match="a head has linear layers, and ReLU has none: give one that has"):
            width(nn.ReLU())


def test_other_activation_and_no_norm() -> None:
    assert described(mlp(4, [3, 2], norm="none", activation=nn.GELU)) == ["4>3+", "gelu", "3>2+"]


def test_mistakes_are_sentences() -> None:
    with pytest.raises(ValueError, match=r"unknown head 'simcrl': it is one of simclr, .*swav"):
        head("simcrl", 4)
    with pytest.raises(ValueError, match="no width was given"):
        mlp(4, [])


def test_dinos_first_weights_are_narrow_and_its_biases_zero() -> None:
    """Truncated normal with deviation 0.02 (facebookresearch/dino, DINOHead)."""
    layers = [layer for layer in head("dino", 384) if isinstance(layer, nn.Linear)]
    for layer in layers:
        assert layer.weight.std().item() == pytest.approx(0.02, rel=0.01)
        assert torch.equal(layer.bias, torch.zeros_like(layer.bias))
