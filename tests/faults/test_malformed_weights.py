"""Malformed and mutated safetensors, through every reader: a sentence each, or values that fit; memory is bounded."""

import json
import random
import struct
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from counts import note
from spent import spending
from torch import nn

from lookalike.modules import Encoder, load_weights
from lookalike.training.checkpoint import load_metadata, save_weights
from lookalike.training.checkpoint import load_weights as load_tensors

SECONDS, MEGABYTES = 2.0, 300.0


def encoder() -> Encoder:
    """Four small tensors beside mean and std."""
    body = nn.Sequential(nn.Conv2d(3, 4, 3), nn.BatchNorm2d(4))
    return Encoder(body, 4, mean=(0.5, 0.5, 0.5), std=(0.2, 0.2, 0.2))


def entry(start: int, stop: int, shape: object, dtype: object = "U8", **more: object) -> dict:
    return {"dtype": dtype, "shape": shape, "data_offsets": [start, stop], **more}


def file(header: object, values: bytes = b"", length: int | None = None) -> bytes:
    text = header if isinstance(header, bytes) else json.dumps(header).encode()
    return (len(text) if length is None else length).to_bytes(8, "little", signed=False) + text + values


def text(header: object, encoding: str) -> bytes:
    return json.dumps(header).encode(encoding)


ONE = {"a": entry(0, 1, [1])}
FLAT = b'{"a":{"dtype":"U8","shape":%s,"data_offsets":[0,1]}}'
MALFORMED: dict[str, bytes] = {
    "eight bytes of nothing": bytes(8),
    "a length of 2^64 - 1": file(ONE, b"x", 2**64 - 1),
    "a length of 2^63 - 1": file(ONE, b"x", 2**63 - 1),
    "a length of 2^31": file(ONE, b"x", 2**31),
    "a length one too small": file(ONE, b"x", len(json.dumps(ONE)) - 1),
    "a length one too large": file(ONE, b"x", len(json.dumps(ONE)) + 1),
    "a length in the other order": struct.pack(">Q", 60) + json.dumps(ONE).encode() + b"x",
    "header in UTF-16": file(text(ONE, "utf-16"), b"x"),
    "header in UTF-32": file(text(ONE, "utf-32"), b"x"),
    "header behind a mark of byte order": file(text(ONE, "utf-8-sig"), b"x"),
    "header in Latin-1": file('{"\xfc":1}'.encode("latin-1")),
    "half a surrogate in a name": file(b'{"\\ud800":{"dtype":"U8","shape":[1],"data_offsets":[0,1]}}', b"x"),
    "a name of two lines": file({"a\nb": entry(0, 1, [1])}, b"x"),
    "a name of a megabyte": file({"a" * 10**6: entry(0, 1, [1])}, b"x"),
    "text behind the header": file(json.dumps(ONE).encode() + b"}", b"x"),
    "two headers": file(json.dumps(ONE).encode() * 2, b"x"),
    "null": file(b"null"),
    "a number": file(b"7"),
    "a text": file(b'"weights"'),
    "ten megabytes of empty lists": file(b"[" + b"[]," * 3_300_000 + b"[]]"),
    "ten megabytes of empty objects": file(b"[" + b"{}," * 3_300_000 + b"{}]"),
    "ten megabytes of numbers": file(b'{"a":[' + b"1," * 4_900_000 + b"1]}"),
    "ten megabytes of name": file(b'{"' + b"a" * 9_900_000 + b'":1}'),
    "a shape of a million numbers": file(FLAT % (b"[" + b"1," * 1_000_000 + b"1]"), b"x"),
    "deep objects": file(b'{"a":' * 100_000 + b"1" + b"}" * 100_000),
    "a shape of NaN": file(FLAT % b"[NaN]", b"x"),
    "a shape of infinity": file(FLAT % b"[Infinity]", b"x"),
    "a shape with a point": file(FLAT % b"[1.0]", b"x"),
    "a shape with an exponent": file(FLAT % b"[1e0]", b"x"),
    "a shape of null": file(FLAT % b"[null]", b"x"),
    "a shape of text": file(FLAT % b'["1"]', b"x"),
    "a shape of lists": file(FLAT % b"[[1]]", b"x"),
    "a shape of nothing": file(FLAT % b"null", b"x"),
    "a product that overflows": file({"a": entry(0, 1, [2**33, 2**33, 2**33])}, b"x"),
    "a product that wraps around": file({"a": entry(0, 1, [2**32, 2**32])}, b"x"),
    "nothing of 2^63": file({"a": entry(0, 0, [0, 2**63])}),
    "nothing of 2^64": file({"a": entry(0, 0, [2**64, 0])}),
    "offsets of 2^64": file({"a": entry(2**64, 2**64 + 1, [1])}, b"x"),
    "negative offsets": file({"a": entry(-1, 0, [1])}, b"x"),
    "one offset": file({"a": {"dtype": "U8", "shape": [1], "data_offsets": [1]}}, b"x"),
    "no dtype": file({"a": {"shape": [1], "data_offsets": [0, 1]}}, b"x"),
    "dtype in small letters": file({"a": entry(0, 1, [1], "u8")}, b"x"),
    "dtype of eight bits of another kind": file({"a": entry(0, 1, [1], "F8_E4M3")}, b"x"),
    "complex dtype": file({"a": entry(0, 8, [1], "C64")}, bytes(8)),
    "two tensors at one place": file({"a": entry(0, 1, [1]), "b": entry(0, 1, [1])}, b"x"),
    "one inside the other": file({"a": entry(0, 4, [4]), "b": entry(1, 2, [1])}, b"xxxx"),
    "values before the first": file({"a": entry(1, 2, [1])}, b"xx"),
    "metadata twice": file(b'{"__metadata__":{"a":"b"},"__metadata__":{"a":"c"}}'),
    "metadata of numbers": file({"__metadata__": {"a": 1.5}, **ONE}, b"x"),
    "metadata of nothing": file(b'{"__metadata__":null}'),
    "a zip that begins as weights": file(ONE, b"x" + b"PK\3\4" + bytes(60) + b"PK\5\6" + bytes(18)),
    "HDF5": b"\x89HDF\r\n\x1a\n" + bytes(2000),
    "ONNX": b"\x08\x07\x12\x07pytorch" + bytes(2000),
}


def readers(target: Encoder) -> list[Callable[[Path], object]]:
    """All that reads weights from a path."""
    return [load_tensors, load_metadata, lambda path: load_weights(target, path)]


def demand_sentence(error: ValueError) -> None:
    assert "\n" not in str(error)
    assert "w.safetensors" in str(error)
    assert len(str(error)) < 600


@pytest.mark.parametrize("data", MALFORMED.values(), ids=MALFORMED.keys())
def test_every_reader_refuses_a_malformed_file(tmp_path, data):
    path, target = tmp_path / "w.safetensors", encoder()
    before = [value.clone() for value in target.state_dict().values()]
    path.write_bytes(data)
    with spending() as spent:
        for read in readers(target):
            with pytest.raises(ValueError) as caught:
                read(path)
            demand_sentence(caught.value)
    assert spent.seconds < SECONDS
    assert spent.megabytes < MEGABYTES
    assert all(torch.equal(a, b) for a, b in zip(before, target.state_dict().values(), strict=True))


def test_there_are_forty_and_more():
    assert len(MALFORMED) >= 40
    note(10, "malformed safetensors, through each reader", cases=len(MALFORMED), right=len(MALFORMED))


@pytest.mark.parametrize("value", [float("nan"), float("inf"), -float("inf")])
def test_weights_that_are_not_finite_are_refused_before_training(tmp_path, value):
    source, target = encoder(), encoder()
    before = [tensor.clone() for tensor in target.state_dict().values()]
    source.get_parameter("body.0.weight").data[1, 2, 0, 0] = value
    save_weights(tmp_path / "w.safetensors", source.state_dict())
    with pytest.raises(ValueError, match=r"hold NaN or infinite values in body\.0\.weight") as caught:
        load_weights(target, tmp_path / "w.safetensors")
    demand_sentence(caught.value)
    assert all(torch.equal(a, b) for a, b in zip(before, target.state_dict().values(), strict=True))


def mutated(data: bytes, draw: random.Random) -> bytes:
    """One to four changes: of bits, bytes, ranges, digits of the header, and of its length."""
    changed = bytearray(data)
    for _ in range(draw.randint(1, 4)):
        at, other = draw.randrange(len(changed) or 1), draw.randrange(len(changed) or 1)
        match draw.randrange(7):
            case 0:
                changed[at : at + 1] = bytes([draw.randrange(256)])
            case 1:
                changed[at : at + draw.randrange(40)] = b""
            case 2:
                changed[at:at] = changed[other : other + draw.randrange(60)]
            case 3:
                digits = [place for place in range(8, len(changed)) if chr(changed[place]).isdigit()]
                if digits:
                    changed[draw.choice(digits)] = draw.choice(b"0123456789")
            case 4:
                changed[at : at + 1] = draw.choice(
                    [b"0", b"9", b'"', b"[", b"}", b",", b":", b"-", b"e", b"\\", b"null"]
                )
            case 5:
                changed[:8] = draw.choice([0, 1, len(changed), 2**24, 2**40, 2**63]).to_bytes(8, "little")
            case 6:
                changed += draw.randbytes(draw.randrange(30))
    return bytes(changed)


@pytest.mark.parametrize(
    "count", [300, pytest.param(10_000, marks=[pytest.mark.slow, pytest.mark.timeout(3600)])], ids=["300", "10000"]
)
def test_a_mutated_file_fits_or_is_refused(tmp_path, count):
    """Never another error; never half of the weights; what is loaded is finite."""
    path, target, draw = tmp_path / "w.safetensors", encoder(), random.Random(21)
    save_weights(path, target.state_dict(), {"made": "here"})
    original, refused = path.read_bytes(), 0
    with spending() as spent:
        for _ in range(count):
            path.write_bytes(mutated(original, draw))
            before = [value.clone() for value in target.state_dict().values()]
            try:
                load_weights(target, path)
            except ValueError as error:
                refused += 1
                demand_sentence(error)
                assert all(torch.equal(a, b) for a, b in zip(before, target.state_dict().values(), strict=True))
            assert all(torch.isfinite(value).all() for value in target.state_dict().values())
    assert refused > 0.8 * count
    assert spent.megabytes < MEGABYTES
    note(10, "mutated safetensors", cases=count, right=count, refused=refused, megabytes=round(spent.megabytes))
