"""Photos that are none, in a real catalogue: each in quarantine with its own reason, its neighbours as they were."""

from __future__ import annotations

import io
import os
import shutil
import socket
import struct
import zlib
from pathlib import Path

import numpy as np
import pytest
from PIL import Image
from raw_shop import RawShop, encoded, picture
from stage_server import StageServer

from lib.base.artifacts import read_parquet
from lib.catalog.images import normalise_image

RED = (210, 40, 30)


@pytest.fixture
def shop(stages: StageServer, tmp_path: Path) -> RawShop:
    made = RawShop(tmp_path, stages)
    made.fill()
    return made


def undamaged(shop: RawShop) -> dict[str, bytes]:
    """What the catalogue gives as it stands."""
    shop.write()
    assert shop.process().code == 0
    return shop.items()


def check(shop: RawShop, good: dict[str, bytes], bad: dict[str, str]) -> None:
    """The stage succeeds, nothing is lost, every bad row has its reason, and every good one its old bytes."""
    shop.write()
    ended = shop.process()
    assert ended.code == 0, ended.said
    report = shop.report()
    assert report["ok"] + report["quarantined"] == report["rows"] == len(shop.rows)
    assert shop.reasons() == bad
    assert {item_id: shop.items()[item_id] for item_id in good} == good
    assert set(shop.items()) == {row["id"] for row in shop.rows} - set(bad)
    table = read_parquet(shop.folder / "hf" / "quarantine.parquet").set_index("item_id")
    lines = {row["id"]: line for line, row in enumerate(shop.rows, start=2)}
    paths = {row["id"]: row["image"] for row in shop.rows}
    for item_id in bad:
        assert table.loc[item_id, ["row", "path"]].tolist() == [lines[item_id], paths[item_id]]
    assert all(len(detail) > 5 for detail in table["detail"])
    assert sum(count for reason, count in report["quarantined_by_reason"].items()) == len(bad)


def cut(form: str) -> bytes:
    whole = encoded(picture(99, (60, 60)), form)
    return whole[: len(whole) * 2 // 3]


def test_useless_files_have_distinct_reasons_and_harm_no_neighbour(shop: RawShop) -> None:
    good = undamaged(shop)
    shop.add("zero", photo=b"")
    shop.add("html", photo=b"<!DOCTYPE html><html><body>404</body></html>")
    shop.add("jpeg cut", photo=cut("JPEG"))
    shop.add("png cut", photo=cut("PNG"))
    shop.add("noise", photo=np.random.default_rng(0).bytes(4000))
    broken = bytearray(encoded(picture(98), "PNG"))
    broken[60] ^= 255  # inside the pixels: the checksum of the chunk tells
    shop.add("png broken", photo=bytes(broken))
    shop.rows[3:3] = [shop.rows.pop(), shop.rows.pop()]  # not only at the end
    check(
        shop,
        good,
        {
            "zero": "zero_bytes",
            "html": "not_an_image",
            "noise": "not_an_image",
            "jpeg cut": "truncated",
            "png cut": "truncated",
            "png broken": "broken_image",
        },
    )


def test_a_whole_batch_of_bad_photos_goes_through(shop: RawShop) -> None:
    """More in a row than are decoded, or written, at once, and good ones on both sides."""
    good = undamaged(shop)
    last = shop.rows.pop()
    whole = cut("JPEG")
    for number in range(600):
        shop.add(f"bad{number:03d}", photo=b"" if number % 7 == 0 else whole)
    shop.rows.append(last)
    shop.set_data(max_bad_fraction=0.99)
    reasons = {f"bad{number:03d}": "zero_bytes" if number % 7 == 0 else "truncated" for number in range(600)}
    check(shop, good, reasons)


def test_what_is_no_file_is_set_aside_and_nothing_hangs(shop: RawShop) -> None:
    good = undamaged(shop)
    os.mkfifo(shop.images / "pipe.jpg")
    (shop.images / "folder.jpg").mkdir()
    place = os.open(shop.images, os.O_RDONLY)  # the path of a socket has room for 108 characters
    try:
        with socket.socket(socket.AF_UNIX) as server:
            server.bind(f"/proc/self/fd/{place}/socket.jpg")
    finally:
        os.close(place)
    (shop.images / "endless.jpg").symlink_to("/dev/zero")
    bad = {"pipe": "not_a_file", "folder": "not_a_file", "socket": "not_a_file", "endless": "path_escape"}
    for name in bad:
        shop.add(name, image=f"{name}.jpg")
    shop.add("gone", image="gone.jpg")
    check(shop, good, bad | {"gone": "missing_file"})  # `stages` gives up after two minutes


def halves(mode: str = "RGB") -> Image.Image:
    """Red on the left; on the right white, or nothing at all where the mode has alpha."""
    image = Image.new("RGBA", (48, 32), (*RED, 255))
    image.paste((0, 0, 0, 0), (24, 0, 48, 32))
    if "A" in mode:
        return image.convert(mode)
    flat = Image.new("RGB", image.size, "white")
    flat.paste(image, mask=image.getchannel("A"))
    return flat.convert(mode)


def png16(kind: int, pixels: np.ndarray) -> bytes:
    """A PNG of 16 bits per channel: kind 0 grey, 2 RGB, 4 grey and alpha, 6 RGB and alpha."""

    def chunk(name: bytes, body: bytes) -> bytes:
        return struct.pack(">I", len(body)) + name + body + struct.pack(">I", zlib.crc32(name + body))

    height, width = pixels.shape[:2]
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in pixels)
    header = struct.pack(">IIBBBBB", width, height, 16, kind, 0, 0, 0)
    return b"\x89PNG\r\n\x1a\n" + chunk(b"IHDR", header) + chunk(b"IDAT", zlib.compress(rows)) + chunk(b"IEND", b"")


def sixteen(*left: float, alpha: bool) -> np.ndarray:
    """`halves`, (32, 48, channels) of 16 bits: on the left these shares of 65,535, the right white or transparent."""
    pixels = np.zeros((32, 48, len(left) + alpha), dtype=np.uint16)
    pixels[:, :24, : len(left)] = [round(65535 * share) for share in left]
    if alpha:
        pixels[:, :24, -1] = 65535
    else:
        pixels[:, 24:] = 65535
    return pixels


def palette_with_alpha() -> bytes:
    """Three entries: red, black that is transparent, and blue that is half transparent (in a corner)."""
    image = Image.new("P", (48, 32), 0)
    image.putpalette([*RED, 0, 0, 0, 0, 0, 255] + [0] * 759)
    image.paste(1, (24, 0, 48, 32))
    image.paste(2, (44, 28, 48, 32))
    return encoded(image, "PNG", transparency=bytes([255, 0, 128]))


def animation() -> bytes:
    later = [Image.new("RGB", (48, 32), colour) for colour in ("blue", "lime")]
    return encoded(halves("RGBA"), "GIF", save_all=True, append_images=later, loop=0, duration=20)


def sideways() -> bytes:
    """Stored lying on its side, CMYK, with the EXIF word that says so."""
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(halves("CMYK").transpose(Image.Transpose.ROTATE_90), exif=exif, quality=95)


SHARES = tuple(channel / 255 for channel in RED)
GREY = round(0.299 * RED[0] + 0.587 * RED[1] + 0.114 * RED[2])
FORMS: dict[str, tuple[bytes, tuple[int, ...]]] = {
    "rgba.png": (encoded(halves("RGBA"), "PNG"), RED),
    "la.png": (encoded(halves("LA"), "PNG"), (GREY,) * 3),
    "palette.png": (palette_with_alpha(), RED),
    "animation.gif": (animation(), RED),
    "cmyk.jpg": (encoded(halves("CMYK"), quality=95), RED),
    "sideways.jpg": (sideways(), RED),
    "grey16.png": (png16(0, sixteen(0.25, alpha=False)), (64,) * 3),
    "rgb16.png": (png16(2, sixteen(*SHARES, alpha=False)), RED),
    "la16.png": (png16(4, sixteen(0.25, alpha=True)), (64,) * 3),
    "rgba16.png": (png16(6, sixteen(*SHARES, alpha=True)), RED),
    "grey16.tiff": (encoded(Image.fromarray(sixteen(0.25, alpha=False)[..., 0]), "TIFF"), (64,) * 3),
    "rgba.webp": (encoded(halves("RGBA"), "WEBP", lossless=True), RED),
}


def test_the_forms_are_what_they_are_called() -> None:
    """Or the test below would show nothing: Adobe's inverted CMYK, several frames, 16 bits, alpha in a palette."""
    opened = {name: Image.open(io.BytesIO(data)) for name, (data, _) in FORMS.items()}
    for name in ("cmyk.jpg", "sideways.jpg"):
        assert (opened[name].mode, opened[name].info["adobe"]) == ("CMYK", 100)
    assert opened["sideways.jpg"].size == (32, 48) and opened["sideways.jpg"].getexif()[0x0112] == 6
    assert opened["animation.gif"].n_frames == 3
    assert opened["grey16.png"].mode == opened["grey16.tiff"].mode == "I;16"
    assert all(FORMS[name][0][24] == 16 for name in FORMS if name.endswith("16.png"))
    assert opened["palette.png"].mode == "P" and opened["la.png"].mode == "LA"
    assert np.asarray(opened["grey16.png"].convert("RGB")).min() == 255, "Pillow alone clips it to white"


def test_every_form_comes_out_upright_on_white_and_in_its_colours(shop: RawShop) -> None:
    good = undamaged(shop)
    for name, (data, _) in FORMS.items():
        (shop.images / name).write_bytes(data)
        shop.add(name, image=name)
    check(shop, good, {})
    for name, (_, left) in FORMS.items():
        image = Image.open(io.BytesIO(shop.items()[name]))
        assert image.size == (48, 32) and image.mode in ("RGB", "L"), name
        pixels = np.asarray(image.convert("RGB")).astype(int)
        assert abs(pixels[4:28, 4:20] - left).max() <= 12, name
        assert pixels[4:24, 28:40].min() >= 243, name


def test_corrupt_exif_is_used_as_it_stands_and_noted(shop: RawShop) -> None:
    good = undamaged(shop)
    exif = Image.Exif()
    exif[0x0112] = 6
    whole = encoded(picture(77), exif=exif)
    start = whole.index(b"Exif\0\0") + 6
    for name, broken in (("no header", b"XX"), ("endless", whole[start : start + 4] + b"\xff\xff\xff\xff")):
        shop.add(name, photo=whole[:start] + broken + whole[start + len(broken) :])
    nonsense = Image.Exif()
    nonsense[0x0112] = 77
    shop.add("nonsense", photo=encoded(picture(76), exif=nonsense))
    check(shop, good, {})
    assert shop.report()["photos"]["notes"] == {
        "corrupt_exif": {"count": 3, "first": ["no header", "endless", "nonsense"]}
    }
    for name in ("no header", "endless", "nonsense"):
        image = Image.open(io.BytesIO(shop.items()[name]))
        assert image.size == (24, 32) and "exif" not in image.info


def test_a_photo_that_is_cut_anywhere_is_never_taken_for_whole() -> None:
    """Pillow's `verify` passes most of these; every cut through the pixels is refused."""
    whole = encoded(picture(5, (60, 60)))
    start = whole.index(b"\xff\xda")
    for end in range(start + 20, len(whole) - 2, 97):
        with pytest.raises(ValueError, match=r"truncated|image file"):
            normalise_image(whole[:end], max_side=64, max_pixels=10**6)
    assert normalise_image(whole, max_side=64, max_pixels=10**6).data == whole


def test_nothing_is_left_beside_the_outs(shop: RawShop) -> None:
    undamaged(shop)
    shutil.rmtree(shop.folder / ".cache")
    assert sorted(path.name for path in shop.folder.iterdir()) == ["hf", "params.yaml", "raw"]
