"""Weight files: every dtype and stride, the same bytes every time, and no harm from a hostile file."""

import json
import random
import time

import pytest
import safetensors.torch
import torch

from lookalike.training.checkpoint import CheckpointError, load_metadata, load_weights, save_weights

DTYPES = (
    torch.float64,
    torch.float32,
    torch.float16,
    torch.bfloat16,
    torch.int64,
    torch.int32,
    torch.int16,
    torch.int8,
    torch.uint8,
    torch.bool,
)


def tensors() -> dict[str, torch.Tensor]:
    """All dtypes, and the shapes and strides that checkpoints of modules meet."""
    draw = torch.Generator().manual_seed(3)
    images = torch.randn(2, 3, 4, 5, generator=draw)
    column = images.flatten()
    return {
        **{f"dtype/{dtype}": (torch.randn(7, 3, generator=draw) * 9).to(dtype) for dtype in DTYPES},
        **{f"single/{dtype}": torch.tensor(1, dtype=dtype) for dtype in DTYPES},
        "last": images.to(memory_format=torch.channels_last),
        "transposed": images.transpose(0, 3),
        "strided": column[1::3],
        "alias": column,
        "expanded": torch.tensor([[1.0], [2.0]]).expand(2, 6),
        "empty": torch.empty(0, 4),
        "parameter": torch.nn.Parameter(images[0].clone()),
        "special": torch.tensor([float("nan"), float("inf"), -0.0, 1e-45]),
        "Größe/ü": torch.ones(1),
    }


def test_what_is_written_is_read_by_the_public_package_and_by_us(tmp_path):
    save_weights(tmp_path / "w.safetensors", tensors())
    for found in (load_weights(tmp_path / "w.safetensors"), safetensors.torch.load_file(tmp_path / "w.safetensors")):
        assert found.keys() == tensors().keys()
        for name, value in tensors().items():
            assert found[name].dtype == value.dtype
            assert found[name].shape == value.shape
            assert found[name].is_contiguous()
            raw = value.detach().contiguous().reshape(-1).view(torch.uint8)  # bits: NaN and -0.0 too
            assert torch.equal(found[name].reshape(-1).view(torch.uint8), raw)


def test_a_loaded_tensor_can_be_changed(tmp_path):
    save_weights(tmp_path / "w.safetensors", {"a": torch.ones(3)})
    assert load_weights(tmp_path / "w.safetensors")["a"].add_(1).tolist() == [2, 2, 2]


def test_what_the_public_package_writes_is_read(tmp_path):
    value = {"a": torch.arange(6).view(2, 3), "b": torch.ones(5, dtype=torch.bfloat16)}
    safetensors.torch.save_file(value, tmp_path / "w.safetensors", {"format": "pt"})
    found = load_weights(tmp_path / "w.safetensors")
    assert all(torch.equal(found[name], value[name]) for name in value)
    assert load_metadata(tmp_path / "w.safetensors") == {"format": "pt"}


def test_same_weights_same_bytes(tmp_path):
    """Neither order, nor strides, nor place, nor time leave a trace."""
    one, other = tmp_path / "a.safetensors", tmp_path / "elsewhere" / "b.safetensors"
    other.parent.mkdir()
    metadata = {f"key {number}": str(number) for number in range(20)}
    save_weights(one, tensors(), metadata)
    time.sleep(0.02)
    reverse = {name: value.contiguous() for name, value in reversed(tensors().items())}
    save_weights(other, reverse, dict(reversed(metadata.items())))
    assert one.read_bytes() == other.read_bytes()
    assert load_metadata(other) == metadata


def test_values_start_where_their_dtype_likes_it(tmp_path):
    save_weights(tmp_path / "w.safetensors", tensors())
    data = (tmp_path / "w.safetensors").read_bytes()
    length = int.from_bytes(data[:8], "little")
    assert length % 8 == 0
    for entry in json.loads(data[8 : 8 + length]).values():
        bits = {"BOOL": 8, "BF16": 16}.get(entry["dtype"]) or int(entry["dtype"][1:])
        assert entry["data_offsets"][0] % (bits // 8) == 0


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("z", torch.zeros(2, dtype=torch.complex64)),
        ("s", torch.eye(3).to_sparse()),
        ("__metadata__", torch.zeros(1)),
    ],
)
def test_what_has_no_place_in_the_format_is_named(tmp_path, name, value):
    with pytest.raises(ValueError, match=rf"tensor '{name}' .* cannot be saved: use a dense tensor of float64"):
        save_weights(tmp_path / "w.safetensors", {"fine": torch.zeros(1), name: value})
    assert list(tmp_path.iterdir()) == []


def written(header: object, values: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little") + text + values


def entry(start: int, stop: int, shape: object, dtype: object = "U8") -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop]}


MALFORMED = {
    "nothing": b"",
    "seven bytes": b"\0" * 7,
    "a header of no bytes": written(b""),
    "a header of 2^63 bytes": written({}, length=2**63),
    "a header longer than the file": written({}, length=1000),
    "a header over 10 MB": written(b" " * 10_000_001 + b"{}"),
    "no JSON": written(b"{nonsense"),
    "no object": written([1, 2]),
    "no text": written(b"\xff\xfe\xfd"),
    "deep JSON": written(b"[" * 100_000),
    "huge number": written(b'{"a":{"dtype":"U8","shape":[' + b"9" * 5000 + b'],"data_offsets":[0,1]}}', b"x"),
    "50,001 tensors": written({str(number): entry(0, 0, [0]) for number in range(50_001)}),
    "twice the same name": written(b'{"a":%b,"a":%b}' % ((json.dumps(entry(0, 1, [1])).encode(),) * 2), b"x"),
    "unknown dtype": written({"a": entry(0, 1, [1], "OBJECT")}, b"x"),
    "dtype that is no text": written({"a": entry(0, 1, [1], ["U8"])}, b"x"),
    "negative shape": written({"a": entry(0, 1, [-1, -1])}, b"x"),
    "shape of truths": written({"a": entry(0, 1, [True])}, b"x"),
    "shape that is a number": written({"a": entry(0, 1, 1)}, b"x"),
    "shape and bytes disagree": written({"a": entry(0, 2, [3])}, b"xx"),
    "a shape of 17 dimensions": written({"a": entry(0, 1, [1] * 17)}, b"x"),
    "three offsets": written({"a": {"dtype": "U8", "shape": [1], "data_offsets": [0, 1, 2]}}, b"x"),
    "overlap": written({"a": entry(0, 2, [2]), "b": entry(1, 3, [2])}, b"xxx"),
    "gap": written({"a": entry(0, 1, [1]), "b": entry(2, 3, [1])}, b"xxx"),
    "backwards": written({"a": entry(1, 0, [1])}, b"x"),
    "one byte too few": written({"a": entry(0, 3, [3])}, b"xx"),
    "one byte too many": written({"a": entry(0, 1, [1])}, b"xx"),
    "an archive behind the values": written({"a": entry(0, 1, [1])}, b"xPK\3\4"),
    "metadata that is no text": written({"__metadata__": {"a": 1}}),
    "metadata that is a list": written({"__metadata__": [1]}),
    "an entry that is a number": written({"a": 1}),
}


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_malformed_files_end_in_a_sentence(tmp_path, data):
    (tmp_path / "w.safetensors").write_bytes(data)
    start = time.process_time()
    with pytest.raises(CheckpointError, match=r"no whole safetensors file: .*; fetch or save it again"):
        load_weights(tmp_path / "w.safetensors")
    assert time.process_time() - start < 5  # of the processor: a file may not keep it busy


def test_what_is_no_file_is_named(tmp_path):
    for path in (tmp_path, tmp_path / "missing.safetensors"):
        with pytest.raises(CheckpointError, match="is no file: check the path"):
            load_weights(path)


@pytest.mark.parametrize("count", [300, pytest.param(10_000, marks=pytest.mark.slow)])
def test_mutated_files_load_or_end_in_a_sentence(tmp_path, count):
    """Bytes changed, cut, doubled or moved: never another exception, never values of another size."""
    path, draw = tmp_path / "w.safetensors", random.Random(4)
    save_weights(path, {"a": torch.arange(6.0).view(2, 3), "b": torch.ones(3, dtype=torch.int16)}, {"made": "here"})
    original = path.read_bytes()
    refused = 0
    for _ in range(count):
        data = bytearray(original)
        for _ in range(draw.randint(1, 4)):
            at, other = draw.randrange(len(data) or 1), draw.randrange(len(data) or 1)
            match draw.randrange(4):
                case 0:
                    data[at : at + 1] = bytes([draw.randrange(256)])
                case 1:
                    data[at : at + draw.randrange(9)] = b""
                case 2:
                    data[at:at] = data[other : other + draw.randrange(20)]
                case 3:
                    data[at : at + 1] = draw.choice([b"0", b"9", b'"', b"[", b"}", b","])
        path.write_bytes(data)
        try:
            found = load_weights(path)
        except CheckpointError:
            refused += 1
        else:
            assert sum(value.numel() * value.itemsize for value in found.values()) <= len(data)
    assert refused > count / 2
