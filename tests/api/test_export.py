"""export: the printed lines load the file and give the run's features; same bytes, no paths, cards, and the Hub."""

import json
import shutil
import subprocess
import sys
from collections.abc import Callable
from functools import cache
from pathlib import Path

import huggingface_hub.constants
import pytest
import timm
import torch
from huggingface_hub import HfApi
from safetensors.torch import load_file, save_file
from torch.nn import functional as F

from lookalike.api import Exported, Run, export
from lookalike.api import targets as targets_module
from lookalike.api.export import demand_equal
from lookalike.api.folder import RunFolder, facts
from lookalike.api.targets import TARGETS, Target
from lookalike.evaluation import Protocol, Score, fingerprint
from lookalike.modules import Encoder, backbone
from lookalike.recipes import load

RESNET = ("resnet18_quarter", "small", 16)
VIT = ("test_vit", "small", 32)  # of timm: a small network with all that a ViT has
FULL = ("resnet18", "imagenet", 32)
WITHOUT = "import sys; sys.modules['lookalike'] = sys.modules['timm'] = None; "
ONNX = "needs the packages of pip install 'lookalike[export]'"
MakeRun = Callable[..., Path]


@pytest.fixture(scope="module")
def make_run(tmp_path_factory: pytest.TempPathFactory) -> MakeRun:
    """A run folder of that network, as training leaves it; no layer is at its first value."""

    def made(name: str, stem: str, size: int, *, init: str | None = None) -> Path:
        recipe = load("simclr_small_smoke", [f"backbone.name={name}", f"backbone.stem={stem}", f"views.size={size}"])
        torch.manual_seed(1)
        encoder = backbone(name, stem=stem, image_size=size).eval()
        for tensor in encoder.body.state_dict().values():
            if tensor.dim() == 1:
                tensor.copy_(torch.rand(tensor.shape) + 0.5)
        folder = RunFolder(tmp_path_factory.mktemp("runs") / "simclr-1")
        manifest = {"data": "/home/me/secret/photos", "images": 64, "identity": "f00d", "init": init, "labels": None}
        folder.begin(recipe, {**manifest, **facts()})
        folder.finish({"encoder": encoder}, recipe)
        return folder.path

    return made


@pytest.fixture(scope="module")
def resnet(make_run: MakeRun) -> Path:
    """Not to be changed but for its folder export/."""
    return make_run(*RESNET)


@pytest.fixture(scope="module")
def program(make_run: MakeRun, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., tuple[Encoder, Exported]]:
    """The encoder of such a run, and its export as a program, made once."""

    @cache
    def made(network: tuple[str, str, int], to: str, kind: str) -> tuple[Encoder, Exported]:
        run, place = make_run(*network), tmp_path_factory.mktemp("programs")
        return Run(run).encoder, export(run, to=to, out=place / f"p{TARGETS[to].suffix}", pixels=kind)

    return made


def some_pixels(encoder: Encoder, size: int, count: int = 5) -> torch.Tensor:
    return torch.randint(0, 256, (count, encoder.channels, size, size), dtype=torch.uint8)


@torch.no_grad()
def loaded(code: str, pixels: torch.Tensor) -> torch.Tensor:
    """The features that the printed lines give."""
    names: dict = {"pixels": pixels}
    exec(code, names)
    return torch.as_tensor(names["features"])


@pytest.mark.parametrize(
    ("network", "to"),
    [
        *((network, to) for network in (RESNET, VIT) for to in ("safetensors", "timm")),
        (FULL, "timm"),
        (("resnet18_half", "imagenet", 32), "timm"),
        (("resnet18", "small", 16), "timm"),
        (("resnet18", "small", 16), "torchvision"),
        (("test_convnext", "small", 64), "timm"),
        (FULL, "torchvision"),
    ],
)
def test_weights_are_loaded_by_the_printed_lines(make_run, network, to, tmp_path):
    run = make_run(*network)
    done = export(run, to=to, out=tmp_path / "w.safetensors")
    encoder = Run(run).encoder
    pixels = some_pixels(encoder, network[2])
    with torch.no_grad():
        assert torch.equal(loaded(done.code, pixels), encoder(pixels))
    assert done.difference == 0
    own = encoder.state_dict() if to == "safetensors" else encoder.body.state_dict()
    state = load_file(done.path)
    assert state.keys() == own.keys()
    assert all(torch.equal(tensor, own[name]) for name, tensor in state.items())


def test_our_own_file_is_the_one_of_the_run(resnet):
    done = Run(resnet).export("safetensors")
    assert done.path == resnet / "export" / "encoder.safetensors"
    assert done.path.read_bytes() == (resnet / "encoder.safetensors").read_bytes()


def test_a_small_stem_is_told_in_a_sentence(make_run, tmp_path):
    done = export(make_run("resnet18", "small", 16), to="timm", out=tmp_path / "w.safetensors")
    assert done.hint == "timm builds resnet18 otherwise: replace conv1 and maxpool before loading."
    assert "checkpoint_path" not in done.code
    done = export(make_run(*VIT), to="timm", out=tmp_path / "v.safetensors")
    assert done.hint == ""
    assert f'img_size=32, patch_size=4, dynamic_img_size=True, checkpoint_path="{tmp_path}/v.safetensors")' in done.code


def test_the_file_for_detectron2_has_its_names_and_all_weights(make_run, tmp_path):
    run = make_run(*FULL)
    done = export(run, to="detectron2", out=tmp_path / "d.safetensors")
    there, own = load_file(done.path), Run(run).encoder.body.state_dict()
    pairs = {
        "stem.conv1.weight": "conv1.weight",
        "stem.conv1.norm.running_mean": "bn1.running_mean",
        "res2.0.conv2.weight": "layer1.0.conv2.weight",
        "res3.0.shortcut.weight": "layer2.0.downsample.0.weight",
        "res5.0.shortcut.norm.bias": "layer4.0.downsample.1.bias",
        "res5.1.conv2.norm.weight": "layer4.1.bn2.weight",
    }
    assert all(torch.equal(there[name], own[other]) for name, other in pairs.items())
    assert len(there) == len(own)
    assert 'settings["MODEL.RESNETS.DEPTH"] = 18' in done.code
    compile(done.code, "code", "exec")


@pytest.mark.parametrize(("network", "kind"), [(RESNET, "uint8"), (VIT, "float")])
def test_a_program_of_torch_runs_without_lookalike(program, network, kind, tmp_path):
    encoder, done = program(network, "torch", kind)
    pixels = some_pixels(encoder, network[2])
    given = pixels if kind == "uint8" else pixels.float() / 255
    assert b"data.pkl" not in done.path.read_bytes()  # torch would pickle sample inputs
    save_file({"pixels": given}, tmp_path / "in.safetensors")
    script = f"""{WITHOUT}
import torch
from safetensors.torch import load_file, save_file
one, batch = [], load_file("in.safetensors")["pixels"]
for pixels in (batch, batch[:1]):
    {done.code.splitlines()[-1]}
    one.append(features.detach().contiguous())
save_file({{"batch": one[0], "alone": one[1]}}, "out.safetensors")
"""
    said = subprocess.run([sys.executable, "-c", script], cwd=tmp_path, capture_output=True, text=True, timeout=240)
    assert said.returncode == 0, said.stderr
    found = load_file(tmp_path / "out.safetensors")
    with torch.no_grad():
        assert torch.allclose(found["batch"], encoder(pixels), atol=1e-5)
        assert torch.allclose(found["alone"], encoder(pixels[:1]), atol=1e-5)
    other = given.float() if kind == "uint8" else pixels
    with pytest.raises(RuntimeError, match="dtype"):
        loaded(done.code, other)  # never taken for what it is not


@pytest.mark.parametrize(("network", "kind"), [(RESNET, "uint8"), (VIT, "float")])
def test_an_onnx_model_computes_the_same_for_any_batch(program, network, kind):
    onnx = pytest.importorskip("onnx", reason=ONNX)
    encoder, done = program(network, "onnx", kind)
    model = onnx.load(done.path)
    onnx.checker.check_model(model, full_check=True)
    assert [(one.domain, one.version) for one in model.opset_import] == [("", 18)]
    assert sorted(path.name for path in done.path.parent.iterdir()) == ["p.onnx", "p.onnx.md"]  # no external data
    for count in (1, 5):
        pixels = some_pixels(encoder, network[2], count)
        with torch.no_grad():
            wanted = encoder(pixels)
        found = loaded(done.code, pixels if kind == "uint8" else pixels.float() / 255)
        assert found.shape == wanted.shape
        assert float((found - wanted).abs().max()) <= 1e-4
    assert done.difference <= 1e-4


@pytest.mark.slow
@pytest.mark.parametrize("stem", ["small", "imagenet"])
@pytest.mark.parametrize("to", ["timm", "torch", "onnx"])
def test_a_vit_of_full_depth_leaves_in_each_format(make_run, stem, to, tmp_path):
    run = make_run("vit_tiny_patch16_224", stem, 32)
    done = export(run, to=to, out=tmp_path / f"v{TARGETS[to].suffix}")
    pixels, encoder = some_pixels(Run(run).encoder, 32), Run(run).encoder
    with torch.no_grad():
        wanted = encoder(pixels)
    assert float((loaded(done.code, pixels) - wanted).abs().max()) <= 1e-4 * max(1, float(wanted.abs().max()))


@pytest.mark.parametrize("to", ["timm", "torch", "onnx"])
def test_the_same_weights_give_the_same_bytes(make_run, program, to, tmp_path):
    if to == "onnx":
        pytest.importorskip("onnx", reason=ONNX)
    _, first = program(RESNET, to, "uint8")
    second = export(make_run(*RESNET), to=to, out=tmp_path / f"p{TARGETS[to].suffix}")
    written = [{path.name: path.read_bytes() for path in done.files} for done in (first, second)]
    assert written[0] == written[1]
    places = [
        str(first.path.parent),
        str(tmp_path),
        str(Path(torch.__file__).parent),
        str(Path(targets_module.__file__).parent),
        "secret",
    ]
    assert [place for place in places for content in written[0].values() if place.encode() in content] == []


def test_features_that_differ_are_not_written(resnet, tmp_path, monkeypatch):
    encoder, images = Run(resnet).encoder, some_pixels(Run(resnet).encoder, 16)
    with torch.no_grad():
        largest = max(1.0, float(encoder(images).abs().max()))
    assert 0 < demand_equal(lambda pixels: encoder(pixels) + 0.5e-4 * largest, encoder, images) < 1e-4
    with pytest.raises(ValueError, match=r"differ by 2\.0e-04 from the run's, above 0\.0001: nothing is written"):
        demand_equal(lambda pixels: encoder(pixels) + 2e-4 * largest, encoder, images)
    with pytest.raises(ValueError, match="differ by nan"):
        demand_equal(lambda pixels: encoder(pixels) * float("nan"), encoder, images)
    with pytest.raises(ValueError, match="nothing is written"):  # one image alone, which is what is asked for most
        demand_equal(lambda pixels: encoder(pixels) + (len(pixels) == 1), encoder, images)

    def unscaled(subject: targets_module.Subject) -> targets_module.Artifact:
        right = targets_module.for_timm(subject)
        body = subject.encoder.body
        return targets_module.Artifact(right.content, right.code, lambda images: body(images.float()))

    monkeypatch.setitem(TARGETS, "timm", Target(".safetensors", unscaled))
    with pytest.raises(ValueError, match="nothing is written"):
        export(resnet, to="timm", out=tmp_path / "w.safetensors")
    assert list(tmp_path.iterdir()) == []


def test_a_card_tells_what_the_weights_are(make_run, tmp_path):
    run = make_run(*RESNET, init="/home/me/secret/runs/simclr-0")
    own = fingerprint(Run(run).encoder)
    text = card(run, tmp_path / "a.safetensors")
    for fact in (
        "64 images",
        "simclr, 2 epochs",
        "f00d",
        own,
        f"torch {torch.__version__.split('+')[0]}",
        "kind: simclr",
    ):
        assert fact in text
    assert "| first weights | the weights simclr-0 |" in text
    assert "derive from the images that the network learned from, and from the weights simclr-0" in text
    assert "secret" not in text
    assert "Nobody had measured it" in text


def test_a_card_tells_the_scores_of_these_weights_alone(make_run, tmp_path):
    run = make_run(*RESNET)
    protocol = Protocol(
        probe="knn", n_train=24, n_test=12, crop="center 16 px", settings={"k": 20, "temperature": 0.07}
    )
    score = {
        who: Score(value=value, protocol=protocol, seed=0, epochs=2.0, interval=(0.4, 0.6), backbone=backbone)
        for who, value, backbone in (
            ("trained", 0.5, fingerprint(Run(run).encoder)),
            ("stale", 0.9, "other"),
            ("raw pixels", 0.25, ""),
        )
    }
    kept = [
        {"data": "/home/me/secret/cats", "scores": {who: [score[who].as_dict()] for who in ("trained", "raw pixels")}},
        {"data": "/home/me/secret/dogs", "scores": {"trained": [score["stale"].as_dict()]}},
    ]
    (run / "evaluation.json").write_text(json.dumps(kept))
    text = card(run, tmp_path / "a.safetensors")
    assert f"- cats, trained: {score['trained'].line()}" in text
    assert f"- cats, raw pixels: {score['raw pixels'].line()}" in text
    assert "dogs" not in text
    assert "secret" not in text
    for number, damaged in enumerate(('{"a": 1}', "[", '[{"data": "d", "scores": {"trained": [{}]}}]', "[1]")):
        (run / "evaluation.json").write_text(damaged)
        with pytest.raises(ValueError, match="is no list of scores: move it away"):
            card(run, tmp_path / f"{number}.safetensors")


def card(run: Path, out: Path) -> str:
    """The card of an export to timm."""
    return export(run, to="timm", out=out).files[1].read_text()


def test_the_folder_for_the_hub_is_one_that_timm_opens(make_run, tmp_path, monkeypatch):
    run = make_run(*VIT)
    folder = tmp_path / "hub"

    def kept(self: HfApi, *, repo_id: str, folder_path: str, commit_message: str) -> None:
        assert (repo_id, commit_message) == ("me/photos", "Export of lookalike")
        shutil.copytree(folder_path, folder)

    def made(self: HfApi, name: str, *, private: bool, exist_ok: bool) -> str:
        assert (private, exist_ok) == (True, True)
        return f"https://huggingface.co/{name}"

    monkeypatch.setattr(HfApi, "create_repo", made)
    monkeypatch.setattr(HfApi, "upload_folder", kept)
    done = export(run, to="timm", out=tmp_path / "w.safetensors", push="me/photos")
    assert done.address == "https://huggingface.co/me/photos"
    assert sorted(path.name for path in folder.iterdir()) == ["README.md", "config.json", "model.safetensors"]
    readme = (folder / "README.md").read_text()
    assert readme.startswith("---\nlibrary_name: timm\n")
    assert 'checkpoint_path="model.safetensors"' in readme
    model, encoder = timm.create_model(f"local-dir:{folder}", pretrained=True).eval(), Run(run).encoder
    pixels = some_pixels(encoder, 32)
    settings = timm.data.resolve_model_data_config(model)
    mean, std = (torch.tensor(settings[name]).view(-1, 1, 1) for name in ("mean", "std"))
    with torch.no_grad():
        assert torch.equal(model((pixels / 255 - mean) / std), encoder(pixels))
    assert tuple(settings["input_size"]) == (3, 32, 32)


def test_without_the_network_the_hub_is_a_sentence_and_the_files_are_there(resnet, tmp_path, monkeypatch):
    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)
    with pytest.raises(OSError, match=r"the files are written, but me/photos did not take them \(\w+\): see that"):
        export(resnet, to="safetensors", out=tmp_path / "w.safetensors", push="me/photos")
    assert (tmp_path / "w.safetensors").is_file()


@pytest.mark.parametrize("missing", ["onnx", "onnxscript", "onnxruntime"])
def test_a_package_that_is_missing_is_named(resnet, tmp_path, monkeypatch, missing):
    monkeypatch.setitem(sys.modules, missing, None)
    with pytest.raises(ValueError, match=rf"ONNX needs the package {missing}: pip install 'lookalike\[export\]'"):
        export(resnet, to="onnx", out=tmp_path / "m.onnx")
    assert list(tmp_path.iterdir()) == []


def test_weights_too_large_for_one_file_are_refused(resnet, tmp_path, monkeypatch):
    pytest.importorskip("onnx", reason=ONNX)
    monkeypatch.setattr("lookalike.api.programs.ONNX_LIMIT", 1_000_000)
    with pytest.raises(ValueError, match=r"one ONNX file holds up to 2 GiB, and the weights have 2,[0-9,]+ bytes"):
        export(resnet, to="onnx", out=tmp_path / "m.onnx")


def test_generated_images_are_the_same_each_time_and_not_flat(resnet):
    from lookalike.api.export import generated

    recipe = load(str(resnet / "recipe.yaml"))
    subject = targets_module.Subject(Run(resnet).encoder, recipe)
    images = generated(subject)
    assert torch.equal(images, generated(subject))
    assert (images.float().std(dim=(1, 2, 3)) > 20).all()
    assert float(F.mse_loss(images[0].float(), images[1].float())) > 400
