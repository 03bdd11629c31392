"""Photos as they come: every form the field sends, made upright and 8-bit, or refused with its reason."""

import io
import os
import struct
import tracemalloc
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib.catalog import images
from lib.catalog.images import ImageError, normalise_image, read_file, read_orientation

# pytest undoes the filter that lib.catalog.images sets for Pillow's warnings
pytestmark = pytest.mark.filterwarnings("ignore")


def normal(data, max_side=64, max_pixels=1_000_000):
    return normalise_image(data, max_side=max_side, max_pixels=max_pixels)


def pixels(result) -> np.ndarray:
    return np.asarray(Image.open(io.BytesIO(result.data)).convert("RGB")).astype(int)


def bomb(width: int, height: int) -> bytes:
    """A PNG of a few dozen bytes whose header promises width × height pixels."""

    def chunk(kind: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + kind + body + struct.pack(">I", zlib.crc32(kind + body))

    header = struct.pack(">IIBBBBB", width, height, 8, 2, 0, 0, 0)
    return (
        b"\x89PNG\r\n\x1a\n"
        + chunk(b"IHDR", header)
        + chunk(b"IDAT", zlib.compress(b"\0" * 99))
        + chunk(b"IEND", b"")
    )


def test_good_jpeg_and_png_keep_their_bytes(encode, draw):
    for data in (encode(draw(1)), encode(draw(1).convert("L")), encode(draw(1), "PNG")):
        assert normal(data).data is data


@pytest.mark.parametrize(
    ("data", "reason"),
    [
        (b"", "zero_bytes"),
        (b"<!DOCTYPE html><html>404</html>", "not_an_image"),
        (b"\0\1\2\3 whatever", "not_an_image"),
        (bomb(12_000, 12_000), "too_many_pixels"),
        (bomb(20_000, 20_000), "too_many_pixels"),
    ],
)
def test_useless_bytes_have_their_own_reason(data, reason):
    with pytest.raises(ImageError) as error:
        normal(data)
    assert error.value.reason == reason


@pytest.mark.parametrize("form", ["JPEG", "PNG"])
def test_truncated_although_verify_passes(encode, draw, form):
    data = encode(draw(1, (60, 60)), form)
    with pytest.raises(ImageError) as error:
        normal(data[: len(data) * 2 // 3])
    assert error.value.reason == "truncated"


@pytest.mark.parametrize("orientation", range(1, 9))
@pytest.mark.parametrize("form", ["JPEG", "PNG", "TIFF", "WEBP"])
def test_exif_orientation_is_applied(encode, orientation, form):
    # upright: red left, blue right, top half darker; every orientation must come back to that
    upright = np.zeros((32, 48, 3), np.uint8)
    upright[:, :24, 0], upright[:, 24:, 2] = 250, 250
    upright[:16] //= 2
    back = {2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
            5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_90, 7: Image.Transpose.TRANSVERSE,
            8: Image.Transpose.ROTATE_270}  # fmt: skip
    stored = Image.fromarray(upright)
    stored = stored.transpose(back[orientation]) if orientation in back else stored
    exif = Image.Exif()
    exif[0x0112] = orientation
    options = {"tiffinfo": {0x0112: orientation}} if form == "TIFF" else {"exif": exif}
    result = normal(encode(stored, form, **options))
    assert (result.width, result.height) == (48, 32)
    assert abs(pixels(result)[4:12, 4:20].mean((0, 1)) - [125, 0, 0]).max() < 12
    assert abs(pixels(result)[20:28, 28:44].mean((0, 1)) - [0, 0, 250]).max() < 12


def test_corrupt_exif_is_used_untransposed_and_noted(encode, draw):
    exif = Image.Exif()
    exif[0x0112] = 6
    data = encode(draw(1), exif=exif)
    start = data.index(b"Exif\0\0") + 6
    for broken in (b"XX", data[start : start + 4] + b"\xff\xff\xff\xff"):
        result = normal(data[:start] + broken + data[start + len(broken) :])
        assert result.notes == ("corrupt_exif",)
        assert (result.width, result.height) == (24, 32)
        assert b"Exif" not in result.data  # so that no later reader trips over it


def test_read_orientation_by_hand():
    entry = struct.pack("<HHIHH", 0x0112, 3, 1, 8, 0)
    block = b"Exif\0\0II*\0" + struct.pack("<IH", 8, 1) + entry
    assert read_orientation(block) == 8
    assert read_orientation(b"MM\0*" + struct.pack(">IH", 8, 0)) == 1
    with pytest.raises(struct.error):
        read_orientation(block[:-3])
    with pytest.raises(ValueError):
        read_orientation(b"nonsense")


def test_alpha_lies_on_white(encode):
    clear = Image.new("RGBA", (20, 20), (0, 0, 0, 0))
    grey = Image.new("LA", (20, 20), (0, 0))
    palette = Image.new("P", (20, 20), 0)
    palette.putpalette([10, 10, 10] * 256)
    plain_with_key = Image.new("RGB", (20, 20), (9, 9, 9))
    for data in (
        encode(clear, "PNG"),
        encode(grey, "PNG"),
        encode(palette, "PNG", transparency=0),
        encode(plain_with_key, "PNG", transparency=(9, 9, 9)),
        encode(clear, "WEBP", lossless=True),
    ):
        assert pixels(normal(data)).min() >= 253


def test_cmyk_and_palette_keep_their_colours(encode, draw):
    red = Image.new("RGB", (20, 20), (220, 30, 40))
    for data in (encode(red.convert("CMYK")), encode(red.quantize(4), "PNG"), encode(red.quantize(4), "GIF")):
        assert abs(pixels(normal(data)).mean((0, 1)) - [220, 30, 40]).max() < 6


def test_sixteen_bits_are_scaled_not_clipped(encode):
    ramp = np.linspace(0, 65535, 24 * 24).astype(np.uint16).reshape(24, 24)
    result = pixels(normal(encode(Image.fromarray(ramp), "PNG")))[..., 0]
    assert abs(result - ramp / 257).max() < 4
    grey = pixels(normal(encode(Image.fromarray(np.full((9, 9), 0.5, np.float32)), "TIFF")))
    assert abs(grey - 127).max() <= 1


def test_an_animation_gives_its_first_frame(encode):
    first, second = (Image.new("RGB", (20, 20), colour).quantize(2) for colour in ("#ff0000", "#0000ff"))
    for form in ("GIF", "PNG", "WEBP"):
        frames = [first, second] if form == "GIF" else [first.convert("RGB"), second.convert("RGB")]
        result = normal(encode(frames[0], form, save_all=True, append_images=frames[1:]))
        assert pixels(result)[..., 0].min() > 240
        assert Image.open(io.BytesIO(result.data)).format == "JPEG"


def test_large_photos_are_scaled_once_and_stay_in_shape(encode, draw):
    result = normal(encode(draw(1, (900, 300))))
    assert (result.width, result.height) == (64, 21)
    assert normal(encode(draw(1, (900, 1)), "PNG")).height == 1
    assert normal(encode(draw(1, (900, 300)))).data == result.data


def test_broken_bytes_never_raise_anything_else(encode, draw):
    rng = np.random.default_rng(5)
    forms = ("JPEG", "PNG", "WEBP", "GIF", "BMP", "TIFF")
    originals = [encode(draw(1), form) for form in forms]
    for trial in range(600):
        data = bytearray(originals[trial % len(originals)])
        for _ in range(int(rng.integers(1, 6))):
            data[int(rng.integers(0, min(len(data), 300)))] = int(rng.integers(0, 256))
        try:
            result = normal(bytes(data), max_pixels=100_000)
        except ImageError:
            continue
        assert Image.open(io.BytesIO(result.data)).mode in ("RGB", "L")


def reason_of(root: Path, name: str) -> str:
    with pytest.raises(ImageError) as error:
        read_file(root, name)
    return error.value.reason


def test_names_that_must_be_refused(tmp_path):
    root = tmp_path / "images"
    (root / "folder.jpg").mkdir(parents=True)
    (tmp_path / "secret.jpg").write_bytes(b"secret")
    (root / "link.jpg").symlink_to(tmp_path / "secret.jpg")
    (root / "loop.jpg").symlink_to(root / "loop.jpg")
    (root / "empty.jpg").touch()
    os.mkfifo(root / "pipe.jpg")
    (root / "in.jpg").write_bytes(b"in")
    (root / "good_link.jpg").symlink_to(root / "in.jpg")
    assert (
        read_file(root, "in.jpg")
        == read_file(root, "good_link.jpg")
        == read_file(root, "folder.jpg/../in.jpg")
        == b"in"
    )
    assert reason_of(root, "../secret.jpg") == "path_escape"
    assert reason_of(root, str(tmp_path / "secret.jpg")) == "path_escape"
    assert reason_of(root, "link.jpg") == "path_escape"
    assert reason_of(root, "loop.jpg") == "unreadable"
    assert reason_of(root, "none.jpg") == "missing_file"
    assert reason_of(root, "in.jpg/deeper.jpg") == "missing_file"
    assert reason_of(root, "folder.jpg") == "not_a_file"
    assert reason_of(root, "pipe.jpg") == "not_a_file"
    assert reason_of(root, "empty.jpg") == "zero_bytes"
    assert reason_of(root, "x" * 300 + ".jpg") == "name_too_long"
    assert reason_of(root, "a\0b.jpg") == "bad_path"


@pytest.mark.parametrize("form", ["uint16", "float32", "int32"])
def test_wide_pixels_are_scaled_block_by_block_as_at_once(form, monkeypatch):
    values = np.random.default_rng(4).integers(0, 60_000, (50, 30)).astype(form)
    image = Image.fromarray(values)
    whole = images._scaled_to_eight_bit(image)
    monkeypatch.setattr(images, "_BLOCK_PIXELS", 100)
    assert images._scaled_to_eight_bit(image).tobytes() == whole.tobytes()
    assert whole.mode == "L" and abs(np.asarray(whole) - values * (255.0 / 65535.0)).max() <= 0.5


def test_wide_pixels_are_not_all_widened_at_once():
    """Four million pixels of 16 bits: 32 MB for each copy of 64 bits, of which there would be several."""
    image = Image.fromarray(np.full((2000, 2000), 9000, dtype=np.uint16))
    tracemalloc.start()
    images._scaled_to_eight_bit(image)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert peak < 50e6
