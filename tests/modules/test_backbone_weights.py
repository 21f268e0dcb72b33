"""Weights from files: exact, or refused in a sentence without touching the encoder."""

from pathlib import Path

import huggingface_hub.constants
import pytest
import torch
from safetensors.torch import save_file

from lookalike.modules import Encoder, backbone, load_weights


def same(a: Encoder, b: Encoder) -> bool:
    return all(torch.equal(x, y) for x, y in zip(a.state_dict().values(), b.state_dict().values(), strict=True))


@pytest.mark.parametrize("whole", [True, False])
def test_an_encoder_or_its_network_is_taken_from_a_file(tmp_path: Path, whole: bool) -> None:
    source, target = backbone("resnet18_quarter"), backbone("resnet18_quarter")
    assert not same(source, target)
    save_file((source if whole else source.body).state_dict(), tmp_path / "w.safetensors")
    load_weights(target, tmp_path / "w.safetensors")
    assert same(source, target)


def test_what_does_not_fit_is_named_and_nothing_is_loaded(tmp_path: Path) -> None:
    file, target = tmp_path / "w.safetensors", backbone("resnet18_quarter")
    before = {name: tensor.clone() for name, tensor in target.state_dict().items()}
    state = backbone("resnet18_quarter").body.state_dict()
    state["fc.weight"] = torch.zeros(10, 128)
    del state["layer1.0.conv1.weight"], state["bn1.bias"]
    save_file(state, file)
    with pytest.raises(ValueError, match=r"they lack bn1.bias, layer1.0.conv1.weight; they also hold fc.weight; build"):
        load_weights(target, file)
    save_file(backbone("resnet18_quarter", channels=1).body.state_dict(), file)
    with pytest.raises(
        ValueError, match=r"\(16, 1, 3, 3\) where the encoder has \(16, 3, 3, 3\) \(1 input channels, not 3\)"
    ):
        load_weights(target, file)
    save_file(backbone("resnet18_quarter", stem="imagenet").body.state_dict(), file)
    with pytest.raises(ValueError, match=r"conv1.weight \(16, 3, 7, 7\) .* \(another stem\)"):
        load_weights(target, file)
    save_file(backbone("resnet18_half").body.state_dict(), file)
    with pytest.raises(ValueError, match=r"hold bn1.bias \(32,\) where the encoder has \(16,\), .* and \d+ more"):
        load_weights(target, file)
    assert all(torch.equal(before[name], tensor) for name, tensor in target.state_dict().items())


def test_files_that_are_none(tmp_path: Path) -> None:
    encoder = backbone("resnet18_quarter")
    with pytest.raises(FileNotFoundError, match="there is no weights file"):
        load_weights(encoder, tmp_path / "absent.safetensors")
    (tmp_path / "torn.safetensors").write_bytes(b"\x10\x00\x00\x00\x00\x00\x00\x00{")
    with pytest.raises(ValueError, match="is no whole safetensors file"):
        load_weights(encoder, tmp_path / "torn.safetensors")
    with pytest.raises(ValueError, match=r"'model.pth' was given: convert"):
        load_weights(encoder, "model.pth")


def test_offline_is_a_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(OSError, match=r"'resnet18.a1_in1k' could not be fetched \(\w+\): go online once"):
        load_weights(backbone("resnet18"), "timm:resnet18.a1_in1k")
    with pytest.raises(ValueError, match=r"no weights named 'resnet18.a1_in1': the nearest names are resnet18.a1_in1k"):
        load_weights(backbone("resnet18"), "timm:resnet18.a1_in1")
