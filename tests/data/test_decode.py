"""Pixels of every kind of file against values worked out here, and one sentence for every broken one."""

import copy
import io
import os
import struct
import warnings
import zlib
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from lookalike.data import Unreadable, decode, size
from lookalike.data.decode import FORMATS


def noise(*shape: int, seed: int = 0, top: int = 256) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, top, shape).astype(np.uint8 if top <= 256 else np.uint16)


def saved(image: Image.Image, kind: str, **options) -> bytes:
    file = io.BytesIO()
    image.save(file, kind, **options)
    return file.getvalue()


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png(width: int, height: int, depth: int, color: int, rows: bytes) -> bytes:
    """A PNG file byte by byte: no filter, one IDAT."""
    stride = len(rows) // max(1, height)
    lines = b"".join(b"\0" + rows[i * stride : (i + 1) * stride] for i in range(height)) if rows else b""
    head = struct.pack(">IIBBBBB", width, height, depth, color, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", head) + chunk(b"IDAT", zlib.compress(lines)) + chunk(b"IEND", b"")


def planes(pixels_HWC: np.ndarray) -> torch.Tensor:
    """(C, H, W), one value after the other."""
    height, width, channels = pixels_HWC.shape
    return torch.tensor(
        [[[int(pixels_HWC[r, c, k]) for c in range(width)] for r in range(height)] for k in range(channels)],
        dtype=torch.uint8,
    )


def over_white(color: int, alpha: int) -> int:
    return int(color * alpha / 255 + 255 * (1 - alpha / 255) + 0.5)


def equal(a: torch.Tensor, b: torch.Tensor) -> bool:
    return a.dtype == b.dtype and a.shape == b.shape and bool((a == b).all())


def refused(thing, **limits) -> str:
    """The reason, after the promise that it is one sentence on one line was checked."""
    with pytest.raises(Unreadable) as caught:
        decode(thing, **limits)
    sentence = str(caught.value)
    assert "\n" not in sentence
    assert sentence.endswith(f" cannot be read: {caught.value.reason}")
    assert caught.value.reason
    assert "Type-check" not in sentence  # our own mistakes must not pass for bad files
    return caught.value.reason


@pytest.mark.parametrize(
    ("kind", "options"),
    [
        ("PNG", {}),
        ("WEBP", {"lossless": True}),
        ("BMP", {}),
        ("PPM", {}),
        ("TIFF", {}),
        ("TIFF", {"compression": "tiff_lzw"}),
    ],
)
@pytest.mark.parametrize("shape", [(5, 7, 3), (1, 1, 3), (1, 300, 3)])
def test_color_is_exact_where_the_format_is(kind, options, shape):
    pixels = noise(*shape)
    data = saved(Image.fromarray(pixels), kind, **options)
    assert equal(decode(data), planes(pixels))
    assert equal(decode(data), decode(data))


def test_jpeg_comes_close_and_equals_pillow():
    ramp = np.linspace(0, 255, 64 * 48 * 3).reshape(48, 64, 3).round().astype(np.uint8)
    data = saved(Image.fromarray(ramp), "JPEG", quality=95)
    pixels = decode(data)
    assert (pixels.int() - planes(ramp).int()).abs().float().mean() < 2
    assert equal(pixels, planes(np.asarray(Image.open(io.BytesIO(data)))))


def test_progressive_jpeg_equals_baseline():
    image = Image.fromarray(noise(40, 24, 3))
    assert equal(decode(saved(image, "JPEG", progressive=True)), decode(saved(image, "JPEG")))


@pytest.mark.parametrize("kind", ["PNG", "TIFF", "PPM", "JPEG"])
def test_gray_repeats_over_three_channels(kind):
    data = saved(Image.fromarray(noise(6, 4)), kind)
    gray = decode(data, channels=1)
    assert gray.shape == (1, 6, 4)
    assert equal(decode(data), torch.cat([gray] * 3))
    if kind != "JPEG":
        assert equal(gray, planes(noise(6, 4)[..., None]))


def test_one_bit_is_black_and_white():
    bits = noise(9, 9, top=2).astype(bool)
    data = saved(Image.fromarray(bits), "PNG")
    assert equal(decode(data, channels=1), planes((bits * 255)[..., None]))


def test_luma_weighs_as_itu_601_and_as_pillow_does():
    pixels = noise(16, 16, 3)
    data = saved(Image.fromarray(pixels), "PNG")
    luma = decode(data, channels=1)
    exact = pixels @ np.array([0.299, 0.587, 0.114])
    assert (luma[0].numpy() - exact).max() <= 0.51
    assert equal(luma, planes(np.asarray(Image.fromarray(pixels).convert("L"))[..., None]))


@pytest.mark.parametrize("channels", [0, 2, 4])
def test_other_numbers_of_channels_are_a_mistake_not_a_bad_file(channels):
    with pytest.raises(ValueError, match=f"images of {channels} channels are not supported: choose 1") as caught:
        decode(b"", channels=channels)
    assert not isinstance(caught.value, Unreadable)


def test_alpha_is_composited_over_white():
    pixels = noise(8, 8, 4)
    data = saved(Image.fromarray(pixels), "PNG")
    expected = [[[over_white(*map(int, (p[k], p[3]))) for k in range(3)] for p in row] for row in pixels]
    assert equal(decode(data), planes(np.array(expected)))


def test_every_color_at_every_alpha_is_rounded_to_the_nearest():
    color, alpha = np.meshgrid(np.arange(256), np.arange(256))
    data = saved(Image.fromarray(np.stack([color, color, color, alpha], -1).astype(np.uint8)), "PNG")
    expected = (2 * (color * alpha + 255 * (255 - alpha)) + 255) // 510
    assert equal(decode(data), torch.from_numpy(expected.astype(np.uint8)).expand(3, -1, -1))


def test_gray_with_alpha():
    pixels = noise(8, 8, 2)
    data = saved(Image.fromarray(pixels, "LA"), "PNG")
    expected = np.array([[[over_white(int(p[0]), int(p[1]))] for p in row] for row in pixels])
    assert equal(decode(data, channels=1), planes(expected))


def test_palette_with_alpha_and_without():
    index = noise(4, 4, top=4)
    image = Image.fromarray(index, "P")
    image.putpalette([255, 0, 0, 0, 255, 0, 0, 0, 255, 10, 20, 30])
    table = np.array([[255, 0, 0], [0, 255, 0], [0, 0, 255], [10, 20, 30]])
    assert equal(decode(saved(image, "PNG")), planes(table[index]))
    alphas = [0, 128, 255, 64]
    seen = np.array([[over_white(int(v), a) for v in row] for row, a in zip(table, alphas, strict=True)])
    assert equal(decode(saved(image, "PNG", transparency=bytes(alphas))), planes(seen[index]))


def test_one_transparent_color_turns_white():
    pixels = noise(4, 4, 3)
    key = tuple(int(v) for v in pixels[1, 2])
    expected = pixels.copy()
    expected[1, 2] = 255
    assert equal(decode(saved(Image.fromarray(pixels), "PNG", transparency=key)), planes(expected))


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_sixteen_bit_gray_is_divided_by_257(kind):
    values = np.arange(65536, dtype=np.uint16).reshape(256, 256)
    expected = torch.tensor([round(v / 257) for v in range(65536)], dtype=torch.uint8).view(1, 256, 256)
    assert equal(decode(saved(Image.fromarray(values), kind), channels=1), expected)


def test_sixteen_bit_pgm():
    values = [0, 128, 129, 257, 32768, 65535]
    data = b"P5 6 1 65535\n" + struct.pack(">6H", *values)
    assert decode(data, channels=1).flatten().tolist() == [round(v / 257) for v in values]


def test_sixteen_bit_color_is_at_most_one_level_away():
    values = noise(5, 5, 3, top=65536)
    pixels = decode(png(5, 5, 16, 2, values.astype(">u2").tobytes()))
    assert (pixels.int() - planes(np.round(values / 257)).int()).abs().max() <= 1


def test_cmyk():
    pixels = noise(6, 6, 4)
    ink = pixels.astype(float)
    expected = (255 - ink[..., :3]) * (255 - ink[..., 3:]) / 255
    got = decode(saved(Image.fromarray(pixels, "CMYK"), "TIFF")).permute(1, 2, 0).numpy()
    assert np.abs(got - expected).max() <= 1
    cyan = decode(saved(Image.new("CMYK", (16, 16), (255, 0, 0, 0)), "JPEG", quality=100))
    assert (cyan.int() - torch.tensor([0, 255, 255]).view(3, 1, 1)).abs().max() <= 3


@pytest.mark.parametrize("mode", ["I", "F", "LAB"])
def test_pixels_without_an_agreed_range_are_refused(mode):
    assert "no agreed range" in refused(saved(Image.new(mode, (4, 4)), "TIFF"))


def stored_at(orientation: int, r: int, c: int, height: int, width: int) -> tuple[int, int]:
    """Row and column in the file of the upright pixel (r, c): EXIF 2.3, figure 3, for a file of height x width."""
    return {
        1: (r, c),
        2: (r, width - 1 - c),
        3: (height - 1 - r, width - 1 - c),
        4: (height - 1 - r, c),
        5: (c, r),
        6: (height - 1 - c, r),
        7: (height - 1 - c, width - 1 - r),
        8: (c, width - 1 - r),
    }[orientation]


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize(
    ("kind", "options"), [("PNG", {}), ("WEBP", {"lossless": True}), ("TIFF", {}), ("JPEG", {}), ("MPO", {})]
)
def test_images_are_upright(kind, options, orientation, tmp_path):
    image = Image.fromarray(noise(3, 5, 3))
    stored = decode(saved(image, kind, **options))
    exif = Image.Exif()
    exif[0x0112] = orientation
    file = tmp_path / "turned"
    file.write_bytes(saved(image, kind, exif=exif, **options))
    pixels = decode(file)
    height, width = (3, 5) if orientation < 5 else (5, 3)
    assert pixels.shape == (3, height, width)
    assert size(file) == (height, width)
    for r in range(height):
        for c in range(width):
            row, column = stored_at(orientation, r, c, 3, 5)
            assert equal(pixels[:, r, c], stored[:, row, column])


def test_sixteen_bits_are_turned_too():
    exif = Image.Exif()
    exif[0x0112] = 6
    values = noise(3, 5, top=65536)
    pixels = decode(saved(Image.fromarray(values), "PNG", exif=exif), channels=1)
    assert equal(pixels, decode(saved(Image.fromarray(np.rot90(values, -1).copy()), "PNG"), channels=1))


@pytest.mark.parametrize(
    "block", [b"", b"Exif", b"MM\0*\0\0\0\x08\xff\xff", b"II*\0\x08\0\0\0\x01\0\x12\x01\x03\0", b"\xff" * 40]
)
@pytest.mark.filterwarnings("ignore")
def test_a_broken_exif_block_leaves_the_pixels_alone(block):
    image = Image.fromarray(noise(3, 5, 3))
    for kind in ("JPEG", "PNG"):
        assert equal(decode(saved(image, kind, exif=b"Exif\0\0" + block)), decode(saved(image, kind)))


def test_the_first_frame_counts(tmp_path):
    frames = [Image.new("RGB", (4, 4), color) for color in ("red", "lime", "blue")] * 400
    red = torch.tensor([255, 0, 0], dtype=torch.uint8).view(3, 1, 1).expand(3, 4, 4)
    for kind in ("GIF", "PNG", "TIFF"):
        some = frames[1:] if kind == "GIF" else frames[1:3]
        assert equal(decode(saved(frames[0], kind, save_all=True, append_images=some)), red)
    webp = saved(frames[0], "WEBP", save_all=True, append_images=frames[1:3], lossless=True)
    assert equal(decode(webp), red)


KINDS = [
    ("JPEG", {}),
    ("JPEG", {"progressive": True}),
    ("MPO", {}),
    ("PNG", {}),
    ("WEBP", {}),
    ("WEBP", {"lossless": True}),
    ("GIF", {}),
    ("BMP", {}),
    ("TIFF", {}),
    ("TIFF", {"compression": "tiff_adobe_deflate"}),
    ("PPM", {}),
]


@pytest.mark.parametrize(("kind", "options"), KINDS)
@pytest.mark.filterwarnings("ignore")
def test_a_truncated_file_is_refused_and_never_half_gray(kind, options):
    data = saved(Image.fromarray(noise(24, 20, 3)), kind, **options)
    whole = decode(data)
    kept = 0
    for cut in sorted({0, 1, 2, 10, *range(0, len(data), max(1, len(data) // 50)), *range(len(data) - 16, len(data))}):
        try:
            assert equal(decode(data[:cut]), whole)  # PNG and GIF end with bytes that hold no pixel
            kept += 1
            assert cut >= len(data) - 16
        except Unreadable:
            pass
    assert kept == 0 or kind in ("PNG", "GIF")


def test_truncation_is_named():
    data = saved(Image.fromarray(noise(24, 20, 3)), "JPEG")
    assert "truncated" in refused(data[: len(data) // 2]).lower()
    assert "truncated" in refused(data[:-2]).lower()  # only the end marker is gone


@pytest.mark.parametrize(("kind", "options"), [k for k in KINDS if k[0] != "TIFF"])
@pytest.mark.filterwarnings("ignore")
def test_damaged_bytes_give_pixels_or_a_sentence(kind, options):
    data = saved(Image.fromarray(noise(24, 20, 3)), kind, **options)
    rng = np.random.default_rng(5)
    for _ in range(60):
        hurt = bytearray(data)
        for place in rng.integers(0, len(data), rng.integers(1, 6)):
            hurt[place] = rng.integers(256)
        try:
            assert decode(bytes(hurt), max_pixels=1_000_000).dtype == torch.uint8
        except Unreadable:
            refused(bytes(hurt), max_pixels=1_000_000)


def test_empty_file_text_and_wrong_extension(tmp_path):
    empty, text, wrong = tmp_path / "empty.jpg", tmp_path / "text.jpg", tmp_path / "really_png.jpg"
    empty.touch()
    text.write_text("this is no picture\n" * 100)
    pixels = noise(4, 4, 3)
    wrong.write_bytes(saved(Image.fromarray(pixels), "PNG"))
    assert refused(empty) == "the file is empty"
    assert refused(text).startswith("its content is not JPEG, PNG")
    assert equal(decode(wrong), planes(pixels))
    assert "not JPEG, PNG" in refused(b"")


@pytest.mark.parametrize("kind", ["ICO", "TGA", "JPEG2000", "PDF", "EPS", "SGI", "PCX", "DDS"])
def test_kinds_outside_the_list_are_refused_however_named(kind, tmp_path):
    assert kind not in FORMATS
    file = tmp_path / "picture.jpg"
    file.write_bytes(saved(Image.fromarray(noise(16, 16, 3)), kind))
    assert "not JPEG, PNG" in refused(file)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_the_size_is_checked_before_decoding(tmp_path):
    for width, height in [(30_000, 30_000), (10_000, 10_000), (25_000, 10), (1, 20_001)]:
        file = tmp_path / "bomb.png"
        file.write_bytes(png(width, height, 8, 2, b""))
        assert "scale it down" in refused(file)
        with pytest.raises(Unreadable, match="scale it down"):
            size(file)
    assert "truncated" in refused(png(8_000, 8_000, 1, 0, b""))  # 64,000,000 pixels: allowed, so decoding began


def test_bomb_warnings_of_pillow_do_not_escape_as_errors():
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert refused(png(10_000, 10_000, 8, 2, b""))


def vp8x(width: int, height: int) -> bytes:
    sides = (width - 1).to_bytes(3, "little") + (height - 1).to_bytes(3, "little")
    return b"RIFF" + struct.pack("<I", 200) + b"WEBPVP8X" + struct.pack("<I", 10) + b"\0" * 4 + sides + b"\0" * 180


@pytest.mark.parametrize("lossless", [True, False])
def test_the_canvas_of_webp_is_checked_before_pillow_allocates_it(lossless):
    image = Image.fromarray(noise(30, 50, 3))
    data = saved(image, "WEBP", lossless=lossless)
    assert refused(data, max_side=49).startswith("50 x 30 pixels exceed")
    assert refused(data, max_pixels=1499).startswith("50 x 30 pixels are more than the 1,499")
    assert decode(data, max_side=50, max_pixels=1500).shape == (3, 30, 50)
    with_alpha = saved(Image.fromarray(noise(30, 50, 4)), "WEBP", lossless=lossless, exif=b"Exif\0\0")
    assert refused(with_alpha, max_side=49).startswith("50 x 30 pixels exceed")
    assert refused(vp8x(16_000, 9_000)).startswith("16000 x 9000 pixels are more than the 64,000,000")


def test_limits_are_arguments(tmp_path):
    file = tmp_path / "a.png"
    file.write_bytes(saved(Image.fromarray(noise(10, 20, 3)), "PNG"))
    length = file.stat().st_size
    assert "more than the 199 allowed" in refused(file, max_pixels=199)
    assert "longest side allowed, 19" in refused(file, max_side=19)
    assert f"{length} bytes are more than the {length - 1} allowed" in refused(file, max_bytes=length - 1)
    assert "bytes are more than" in refused(file.read_bytes(), max_bytes=length - 1)
    assert decode(file, max_pixels=200, max_side=20, max_bytes=length).shape == (3, 10, 20)


@pytest.mark.timeout(20)
def test_only_regular_files_are_opened(tmp_path):
    pipe, folder, dangling, loop = (tmp_path / f"{name}.jpg" for name in ("pipe", "folder", "dangling", "loop"))
    os.mkfifo(pipe)
    folder.mkdir()
    dangling.symlink_to("nowhere.jpg")
    loop.symlink_to(loop)
    for read in (decode, size):
        for path, reason in [
            (pipe, "a pipe, socket or device"),
            (folder, "a folder, not a file"),
            (dangling, "No such file"),
            (loop, "symbolic links"),
            (Path("/dev/zero"), "a pipe, socket or device"),
            (tmp_path / "gone.jpg", "No such file"),
            (tmp_path / "nul\0.jpg", "null"),
            (tmp_path / ("x" * 300), "too long"),
        ]:
            with pytest.raises(Unreadable, match=reason):
                read(path)


def test_no_descriptor_is_left_open(tmp_path):
    if not Path("/proc/self/fd").exists():
        pytest.skip("counts open files in /proc")
    bad, folder = tmp_path / "bad.jpg", tmp_path / "folder"
    bad.write_bytes(b"\xff\xd8\xff\xe0 broken")
    folder.mkdir()
    before = len(os.listdir("/proc/self/fd"))
    for path in (bad, folder, Path("/dev/zero")):
        for read in (decode, size):
            with pytest.raises(Unreadable):
                read(path)
    assert len(os.listdir("/proc/self/fd")) == before


def test_a_file_without_permission(unprivileged):
    file = unprivileged / "secret.png"
    file.write_bytes(saved(Image.fromarray(noise(2, 2, 3)), "PNG"))
    file.chmod(0)
    assert refused(file) == "Permission denied"


def test_the_header_alone_tells_the_size(tmp_path):
    for kind, options in KINDS:
        file = tmp_path / "image"
        file.write_bytes(saved(Image.fromarray(noise(6, 9, 3)), kind, **options))
        assert size(file) == (6, 9) == decode(file).shape[1:]
    file.write_bytes(png(900, 700, 8, 2, b""))
    assert size(file) == (700, 900)


def test_odd_names_stay_on_one_line(tmp_path):
    error = Unreadable("a\nb\udc80.jpg", "the file is empty")
    assert str(error) == r"'a\nb\udc80.jpg' cannot be read: the file is empty"
    assert str(Unreadable("Zürich 北京.jpg", "x")) == "Zürich 北京.jpg cannot be read: x"
    assert str(Unreadable("a\x1b[2J.jpg", "x")).isprintable()


def test_the_error_crosses_process_borders():
    error = copy.copy(Unreadable("a.jpg", "why"))  # by the protocol that carries errors between processes
    assert (error.path, error.reason, str(error)) == ("a.jpg", "why", "a.jpg cannot be read: why")


def photo(width: int, height: int, **options) -> bytes:
    """A smooth picture, as a JPEG."""
    small = Image.fromarray(noise(height // 40, width // 40, 3))
    return saved(small.resize((width, height), Image.Resampling.BICUBIC), "JPEG", quality=95, **options)


@pytest.mark.parametrize(
    ("scaled_to", "shape"), [(None, (480, 640)), (400, (480, 640)), (240, (240, 320)), (100, (120, 160)), (7, (60, 80))]
)
def test_a_jpeg_may_be_decoded_small_down_to_a_shorter_side(scaled_to, shape):
    data = photo(640, 480)
    pixels = decode(data, scaled_to=scaled_to)
    assert pixels.shape == (3, *shape)
    assert size(data, scaled_to=scaled_to) == shape
    exact = Image.open(io.BytesIO(data)).resize(shape[::-1], Image.Resampling.BOX)
    assert (pixels.permute(1, 2, 0).float() - torch.from_numpy(np.array(exact))).abs().mean() < 1


def test_scaling_minds_the_turn_and_leaves_other_formats_and_small_images_alone():
    exif = Image.Exif()
    exif[0x0112] = 6
    turned = photo(640, 480, exif=exif)
    assert decode(turned, scaled_to=120).shape == (3, 160, 120)
    assert size(turned, scaled_to=120) == (160, 120)
    png = saved(Image.fromarray(noise(64, 64, 3)), "PNG")
    assert equal(decode(png, scaled_to=8), decode(png))
    small = photo(80, 40)
    assert equal(decode(small, scaled_to=40), decode(small))
    gray = saved(Image.fromarray(noise(64, 64)), "JPEG")
    assert decode(gray, scaled_to=16, channels=1).shape == (1, 16, 16)


def test_a_side_that_does_not_divide_is_scaled_too():
    assert decode(photo(1360, 1000), scaled_to=500).shape == (3, 500, 680)
    assert size(photo(1333, 1000), scaled_to=500) == (500, 667)
