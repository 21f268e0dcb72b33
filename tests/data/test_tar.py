"""Members of tar files: those that the standard library finds, and a reason in words for what is no whole tar."""

import bz2
import gzip
import io
import lzma
import tarfile
import time
import zlib

import numpy as np
import pytest
from tars import header, padded, png, tar_bytes

from lookalike.data.tar import BLOCK, members

END = bytes(2 * BLOCK)
KINDS = {"ustar": tarfile.USTAR_FORMAT, "gnu": tarfile.GNU_FORMAT, "pax": tarfile.PAX_FORMAT}


def found(data: bytes) -> list[tuple[bytes, int, int, int]]:
    return list(members(io.BytesIO(data), len(data)))


def expected(data: bytes) -> list[tuple[bytes, int, int]]:
    with tarfile.open(fileobj=io.BytesIO(data)) as tar:
        return [(m.name.encode("utf-8", "surrogateescape"), m.offset_data, m.size) for m in tar if m.isreg()]


def refused(data: bytes) -> str:
    with pytest.raises(ValueError) as caught:
        found(data)
    assert "\n" not in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("sizes", [[0], [1], [511, 512, 513], [0, 0, 7, 100_000, 3]], ids=str)
def test_the_members_are_those_of_the_standard_library(kind, sizes):
    contents = {f"a/{number:03}.jpg": bytes([number]) * size for number, size in enumerate(sizes)}
    data = tar_bytes(contents, KINDS[kind])
    assert [member[:3] for member in found(data)] == expected(data)
    for (name, start, size, check), content in zip(found(data), contents.values(), strict=True):
        assert data[start : start + size] == content
        assert zlib.crc32(data[start - BLOCK : start]) == check, name


@pytest.mark.parametrize("kind", ["gnu", "pax"])
@pytest.mark.parametrize("name", ["a" * 101 + ".jpg", "d/" * 200 + "x.jpg", "北京/图.png", "ü" * 90 + ".png"], ids=len)
def test_long_and_foreign_names(kind, name):
    data = tar_bytes({"before.jpg": b"1", name: b"22", "after.jpg": b"333"}, KINDS[kind])
    assert [member[:3] for member in found(data)] == expected(data)
    assert found(data)[1][0] == name.encode()
    assert [member[0] for member in found(data)][2] == b"after.jpg"  # the long name is of one member alone


def test_a_prefix_of_ustar_and_names_that_lead_to_the_root():
    data = b"".join(
        [
            header(b"x.jpg", 0, prefix=b"long/way"),
            header(b"/etc/y.jpg", 0),
            header(b"./z.jpg", 0),
            header(b"raw\xff.jpg", 0),
        ]
    )
    assert [member[0] for member in found(data + END)] == [b"long/way/x.jpg", b"etc/y.jpg", b"z.jpg", b"raw\xff.jpg"]


def test_links_folders_devices_and_pipes_are_no_files_and_have_no_data():
    file = io.BytesIO()
    with tarfile.open(fileobj=file, mode="w") as tar:
        for kind in (tarfile.SYMTYPE, tarfile.LNKTYPE, tarfile.DIRTYPE, tarfile.FIFOTYPE, tarfile.CHRTYPE):
            member = tarfile.TarInfo("odd.jpg")
            member.type, member.linkname = kind, "/etc/passwd"
            tar.addfile(member)
        member = tarfile.TarInfo("real.jpg")
        member.size = 3
        tar.addfile(member, io.BytesIO(b"abc"))
    assert [member[0] for member in found(file.getvalue())] == [b"real.jpg"]
    lying = header(b"link.jpg", 700, b"2") + header(b"real.jpg", 3) + padded(b"abc") + END  # a link of 700 bytes
    assert [member[:3] for member in found(lying)] == [(b"real.jpg", 2 * BLOCK, 3)] == expected(lying)


def test_headers_of_unix_version_7():
    folder, file = bytearray(header(b"old/", 0, b"\0")), bytearray(header(b"old/a.jpg", 2, b"\0"))
    for block in (folder, file):
        block[257:345] = bytes(88)  # no magic
        block[148:156] = b" " * 8
        block[148:156] = b"%06o\0 " % sum(block)
    data = bytes(folder) + bytes(file) + padded(b"ab") + END
    assert [member[:3] for member in found(data)] == [(b"old/a.jpg", 2 * BLOCK, 2)]


def test_unknown_kinds_are_stepped_over_by_their_size():
    data = header(b"volume", 0, b"V") + header(b"dump", 600, b"D") + bytes(1024) + header(b"a.jpg", 1) + padded(b"x")
    assert [member[0] for member in found(data + END)] == [b"a.jpg"]
    assert [member[0] for member in found(header(b"g", 9, b"g") + padded(b"9 path=x\n") + data + END)] == [b"a.jpg"]


def test_a_size_of_a_pax_header_counts_for_the_next_member_alone():
    data = header(b"p", 9, b"x") + padded(b"9 size=3\n") + header(b"a.jpg", 0) + padded(b"abc")
    data += header(b"b.jpg", 2) + padded(b"de")
    assert [(name, size) for name, _, size, _ in found(data + END)] == [(b"a.jpg", 3), (b"b.jpg", 2)]


def test_a_tar_may_end_without_its_end_or_with_something_behind_it():
    whole = header(b"a.jpg", 3) + padded(b"abc")
    names = [[b"a.jpg"]] * 4
    for data, name in zip([whole, whole[:-500], whole + bytes(BLOCK), whole + END + b"junk" * 500], names, strict=True):
        assert [member[0] for member in found(data)] == name
    assert found(b"") == found(END) == []


@pytest.mark.parametrize(
    ("data", "kind"),
    [
        (gzip.compress(tar_bytes({"a.png": png(1)})), "gzip"),
        (bz2.compress(tar_bytes({"a.png": png(1)})), "bzip2"),
        (lzma.compress(tar_bytes({"a.png": png(1)})), "xz"),
        (b"\x28\xb5\x2f\xfd" + bytes(600), "zstd"),
        (b"\x04\x22\x4d\x18" + bytes(600), "lz4"),
        (b"PK\x03\x04" + bytes(20), "zip"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_compressed_files_are_named_with_the_command_that_helps(data, kind):
    assert refused(data).startswith(f"is compressed ({kind}), and in a compressed file nothing can be found by its pl")
    assert "decompress it once, with " in refused(data)


FIRST = header(b"a.jpg", 3) + padded(b"abc")


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"hello", "is no tar, it does not begin with the header of one: give what tar or webdataset wrote"),
        (b"\xff\xd8\xff" + bytes(5000), "is no tar"),
        (bytes(700) + b"x", None),  # two empty blocks end a tar, whatever comes behind
        (
            FIRST + b"garbage" * 100,
            "is damaged at byte 1,024, where a header should be: copy it again, or leave it out",
        ),
        (FIRST + header(b"b.jpg", 3)[:300], "is cut off inside a header: copy it again, or leave it out"),
        (header(b"a.jpg", 3000) + bytes(900), "is cut off inside a.jpg, 900 of its 3,000 bytes are there: copy it"),
        (header(b"a.jpg", 3000), "is cut off inside a.jpg, 0 of its 3,000 bytes are there"),
        (header(b"a.jpg", b"\x80" + b"\xff" * 11) + END, "is cut off inside a.jpg, 1,024 of its "),
        (header(b"a.jpg", b"\xff" * 12) + END, "is damaged at byte 0"),  # minus one
        (header(b"a.jpg", b"-0000000007\0") + END, "is damaged at byte 0"),
        (header(b"a.jpg", b"00000000789\0") + END, "is damaged at byte 0"),
        (FIRST + header(b"p", 1 << 21, b"x") + bytes(1 << 21), "is damaged at byte 1,024"),  # 2 MB of a name
        (FIRST + header(b"p", 5, b"x") + padded(b"99 x=") + FIRST, "is damaged at byte 1,024"),
        (FIRST + header(b"p", 5, b"x") + padded(b"0 a=b") + FIRST, "is damaged at byte 1,024"),
        (FIRST + header(b"p", 5, b"x") + padded(b"-5 a=") + FIRST, "is damaged at byte 1,024"),
        (FIRST + header(b"p", 14, b"x") + padded(b"14 size=-5000\n") + FIRST, "is damaged at byte 2,048"),
        (FIRST + header(b"p", 10, b"x") + padded(b"10 size=x\n") + FIRST, "is damaged at byte 1,024"),
        (FIRST + header(b"s.jpg", 3, b"S") + padded(b"abc"), "holds sparse files: pack it again, without --sparse"),
    ],
)
def test_what_is_no_whole_tar_is_said(data, reason):
    if reason is None:
        assert found(data) == []
    else:
        assert refused(data).startswith(reason)


def test_odd_names_are_escaped_in_sentences():
    assert "a\\nb\\udcff.jpg" in refused(header(b"a\nb\xff.jpg", 3000))


def test_every_way_to_cut_a_tar_off_is_found_or_loses_nothing():
    data = tar_bytes({"a.jpg": b"x" * 700, "b.jpg": b"y" * 10})
    names = [b"a.jpg", b"b.jpg"]
    for length in range(1, len(data), 37):
        piece = data[:length]
        try:
            got = [name for name, *_ in members(io.BytesIO(piece), length)]
        except ValueError:
            continue
        assert got == names[: len(got)]
        assert length in range(1212, 1537) or got == names  # a cut in the padding, or at the border, loses what follows


def test_mutated_tars_end_soon_and_never_lead_outside():
    original = np.frombuffer(tar_bytes({f"{n}.jpg": bytes([n]) * 300 * n for n in range(6)}, KINDS["pax"]), np.uint8)
    extended = np.frombuffer(tar_bytes({"d/" * 120 + "x.png": b"ab", "y.png": b"c"}, KINDS["gnu"]), np.uint8)
    random = np.random.default_rng(5)
    start, whole = time.monotonic(), 0
    for turn in range(1500):
        data = (original if turn % 2 else extended).copy()
        place = random.integers(0, len(data), random.integers(1, 4))
        data[place] = random.integers(0, 256, len(place))
        if turn % 3 == 0:  # sums made true again, so that the lie is believed
            for block in range(0, len(data) - BLOCK, BLOCK):
                if data[block + 257 : block + 262].tobytes() == b"ustar":
                    data[block + 148 : block + 156] = 32
                    text = b"%06o\0 " % int(data[block : block + BLOCK].sum())
                    data[block + 148 : block + 156] = np.frombuffer(text, np.uint8)
        try:
            got = found(data.tobytes())
        except ValueError:
            continue
        whole += 1
        assert all(first >= BLOCK and first + size <= len(data) for _, first, size, _ in got)
    assert whole > 100
    assert time.monotonic() - start < 60
