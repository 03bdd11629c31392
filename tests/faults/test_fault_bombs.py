"""Photos whose few bytes unfold into gigabytes: refused from the header, in no more memory than without them."""

from __future__ import annotations

import io
import struct
import subprocess
import sys
import zlib
from functools import cache

import pytest
from PIL import Image
from raw_shop import COMMAND, RawShop, encoded, picture
from stage_server import ROOT, StageServer

KIB = 1024
# a process starts with the peak of the one that started it: this one's would hide everything
MEASURE = """
import resource, subprocess, sys
code = subprocess.call(sys.argv[1:])
print(resource.getrusage(resource.RUSAGE_CHILDREN).ru_maxrss)
sys.exit(code)
"""


def chunk(name: bytes, body: bytes) -> bytes:
    return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))


def png_bomb(width: int, height: int) -> bytes:
    """A whole and valid black-and-white PNG: every pixel is there."""
    packer = zlib.compressobj(9)
    row = b"\0" * (1 + (width + 7) // 8)
    body = b"".join(packer.compress(row * 500) for _ in range(height // 500)) + packer.flush()
    header = struct.pack(">IIBBBBB", width, height, 1, 0, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", body) + chunk(b"IEND", b"")


@cache
def text_bomb() -> bytes:
    """A small PNG with a compressed comment of 200 MB."""
    packer = zlib.compressobj(9)
    comment = b"".join(packer.compress(b" " * 10**6) for _ in range(200)) + packer.flush()
    small = encoded(picture(1), "PNG")
    return small[:33] + chunk(b"zTXt", b"Comment\0\0" + comment) + small[33:]


def with_size(data: bytes, place: int, form: str, *size: int) -> bytes:
    """The file with another width and height in its header."""
    return data[:place] + struct.pack(form, *size) + data[place + struct.calcsize(form) :]


@cache
def bombs() -> dict[str, bytes]:
    jpeg, png, bmp = (encoded(picture(2), form) for form in ("JPEG", "PNG", "BMP"))
    gif = encoded(picture(2).quantize(16), "GIF")
    return {
        "png of 144 MP": png_bomb(12_000, 12_000),
        "png of 400 MP": png_bomb(20_000, 20_000),
        "tiff of 144 MP": encoded(Image.new("1", (12_000, 12_000)), "TIFF", compression="group4"),
        "jpeg header": with_size(jpeg, jpeg.index(b"\xff\xc0") + 5, ">HH", 20_000, 20_000),
        "gif header": with_size(gif, 6, "<HH", 20_000, 20_000),
        "bmp header": with_size(bmp, 18, "<ii", 20_000, 20_000),
        "png header": png[:12] + chunk(b"IHDR", struct.pack(">II", 2**31 - 1, 2**31 - 1) + png[24:29])[4:] + png[33:],
    }


def peak_kib(shop: RawShop) -> int:
    """Peak memory of `process_data` on the shop; it has to succeed."""
    shop.write()
    done = subprocess.run(
        [sys.executable, "-c", MEASURE, sys.executable, "-m", f"stages.{COMMAND[0]}", *COMMAND[1:]],
        cwd=shop.folder,
        env={"PATH": "", "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert done.returncode == 0, done.stderr
    return int(done.stdout.splitlines()[-1])


@pytest.fixture(scope="module")
def exploded(
    stages: StageServer, tmp_path_factory: pytest.TempPathFactory
) -> tuple[RawShop, dict[str, bytes], int, int]:
    """A shop with every bomb in it; its good photos without them; peak memory without and with them."""
    shop = RawShop(tmp_path_factory.mktemp("bombs"), stages)
    shop.fill()
    without = peak_kib(shop)
    good = shop.items()
    for name, data in bombs().items():
        shop.add(name, photo=data)
    shop.add("text", photo=text_bomb())
    return shop, good, without, peak_kib(shop)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
def test_bombs_are_small() -> None:
    sizes = {name: len(data) for name, data in bombs().items()}
    assert sizes["png of 144 MP"] < 20 * KIB and max(sizes.values()) < 64 * KIB
    assert len(text_bomb()) < 256 * KIB
    with Image.open(io.BytesIO(bombs()["png of 144 MP"])) as image:
        assert image.size == (12_000, 12_000)


def test_bombs_are_refused_and_neighbours_unaffected(exploded: tuple[RawShop, dict[str, bytes], int, int]) -> None:
    shop, good, _, _ = exploded
    reasons = shop.reasons()
    assert {name: reasons.pop(name) for name in bombs()} == dict.fromkeys(bombs(), "too_many_pixels")
    assert reasons == {"text": "broken_image"}
    assert shop.items() == good


def test_memory_stays_where_it_was(exploded: tuple[RawShop, dict[str, bytes], int, int]) -> None:
    """144 MP take 144 MB at one byte a pixel, the comment 200 MB."""
    _, _, without, with_bombs = exploded
    assert with_bombs - without < 48 * KIB, f"{without} KiB without, {with_bombs} KiB with"
