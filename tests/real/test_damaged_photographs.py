"""Real catalogues, a twentieth of their photos damaged in every way of tests/faults: each lands where it belongs."""

from __future__ import annotations

import csv
import io
import os
import shutil
import struct
import zlib
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from lib.base.artifacts import read_parquet
from lib.base.params import Data, load_params
from lib.catalog.process import process_catalog
from lib.catalog.processed import read_images, read_rows
from lib.catalog.schema import STRING_COLUMNS

ROOT = Path(__file__).parents[2]
DATA = Path(os.environ.get("REAL_DATA_DIR", ROOT.parent / "shared" / "data"))
SHARE = 0.05

pytestmark = [
    pytest.mark.real_data,
    pytest.mark.skipif(not DATA.is_dir(), reason="needs ../shared/data or $REAL_DATA_DIR"),
]

# --- damage that leaves nothing to use: reason and the bytes, or what is put in the photo's place -------


def html(data: bytes) -> bytes:
    return b"<!DOCTYPE html><html><body>404</body></html>"


def cut(data: bytes) -> bytes:
    return data[: len(data) * 2 // 3]


def noise(data: bytes) -> bytes:
    return np.random.default_rng(len(data)).bytes(len(data))


def broken_png(data: bytes) -> bytes:
    pixels = bytearray(encoded(opened(data), "PNG"))
    pixels[len(pixels) // 2] ^= 255
    return bytes(pixels)


def bomb(data: bytes) -> bytes:
    """A whole black-and-white PNG of 144 million pixels."""
    packer = zlib.compressobj(1)
    body = b"".join(packer.compress(bytes(1501 * 500)) for _ in range(24)) + packer.flush()
    parts = ((b"IHDR", struct.pack(">IIBBBBB", 12_000, 12_000, 1, 0, 0, 0, 0)), (b"IDAT", body), (b"IEND", b""))
    chunks = [struct.pack(">I", len(b)) + n + b + struct.pack(">I", zlib.crc32(n + b)) for n, b in parts]
    return b"\x89PNG\r\n\x1a\n" + b"".join(chunks)


def huge_header(data: bytes) -> bytes:
    image = encoded(opened(data))
    place = image.index(b"\xff\xc0") + 5
    return image[:place] + struct.pack(">HH", 20_000, 20_000) + image[place + 4 :]


USELESS: dict[str, tuple[str, Callable[[bytes], bytes]]] = {
    "zero bytes": ("zero_bytes", lambda data: b""),
    "html": ("not_an_image", html),
    "noise": ("not_an_image", noise),
    "cut": ("truncated", cut),
    "broken png": ("broken_image", broken_png),
    "bomb": ("too_many_pixels", bomb),
    "huge header": ("too_many_pixels", huge_header),
}
ELSEWHERE: dict[str, tuple[str, Callable[[Path], None]]] = {
    "missing": ("missing_file", lambda path: None),
    "folder": ("not_a_file", lambda path: path.mkdir()),
    "pipe": ("not_a_file", os.mkfifo),
    "link out": ("path_escape", lambda path: path.symlink_to("/etc/hostname")),
    "link to itself": ("unreadable", lambda path: path.symlink_to(path.name)),
}

# --- odd but usable: another form of the same picture ---------------------------------------------------


def opened(data: bytes) -> Image.Image:
    with Image.open(io.BytesIO(data)) as image:
        return image.convert("RGB")


def encoded(image: Image.Image, form: str = "JPEG", **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, form, **options)
    return buffer.getvalue()


def sideways(data: bytes) -> bytes:
    exif = Image.Exif()
    exif[0x0112] = 6
    return encoded(opened(data).transpose(Image.Transpose.ROTATE_90), exif=exif, quality=95)


def corrupt_exif(data: bytes) -> bytes:
    return encoded(opened(data), exif=b"Exif\0\0XX*\0garbage", quality=95)


def palette(data: bytes) -> bytes:
    """Of 255 colours; the last entry, which no pixel has, is transparent."""
    return encoded(opened(data).quantize(255), "PNG", transparency=255)


def grey_with_alpha(data: bytes) -> bytes:
    return encoded(opened(data).convert("L").convert("LA"), "PNG")


def sixteen_bits(data: bytes) -> bytes:
    return encoded(Image.fromarray(np.asarray(opened(data).convert("L")).astype(np.uint16) * 257), "PNG")


def animation(data: bytes) -> bytes:
    first = opened(data)
    return encoded(first, "GIF", save_all=True, append_images=[Image.new("RGB", first.size, "red")])


ODD: dict[str, Callable[[bytes], bytes]] = {
    "sideways": sideways,
    "corrupt exif": corrupt_exif,
    "cmyk": lambda data: encoded(opened(data).convert("CMYK"), quality=95),
    "palette": palette,
    "grey with alpha": grey_with_alpha,
    "sixteen bits": sixteen_bits,
    "animation": animation,
}


@dataclass
class Damaged:
    """What was done: kind of damage by item id, and the rows that were added to the table by id."""

    kinds: dict[str, str] = field(default_factory=dict)
    added: dict[str, str] = field(default_factory=dict)
    n_rows: int = 0


def damage(raw: Path, out: Path, data: Data, photos: dict[str, str]) -> Damaged:
    """Copy a catalogue and damage a twentieth of its photos, in every way, besides a run of neighbours."""
    shutil.copytree(raw, out, symlinks=True)
    done = Damaged()
    rng = np.random.default_rng(5)
    ids = list(photos)
    kinds = [*USELESS, *ELSEWHERE, *ODD]
    n = int(SHARE * len(ids))
    chosen = rng.choice(len(ids), size=n, replace=False).tolist()
    start = int(rng.integers(len(ids) - 20))
    run = range(start, start + 20)  # neighbours in the table, decoded together
    for number, place in enumerate(dict.fromkeys([*run, *chosen])):
        item_id = ids[place]
        kind = kinds[number % len(kinds)]
        path = out / data.image_root / photos[item_id]
        before = path.read_bytes()
        path.unlink()
        if kind in ELSEWHERE:
            ELSEWHERE[kind][1](path)
        else:
            path.write_bytes(USELESS[kind][1](before) if kind in USELESS else ODD[kind](before))
        done.kinds[item_id] = kind
    add_rows(out / data.metadata, data, done)
    return done


def add_rows(table: Path, data: Data, done: Damaged) -> None:
    """Rows that lead out of the folder or nowhere, a ragged one, one without an id, and an exact copy."""
    with open(table, encoding="utf-8-sig", newline="") as file:
        header, *rows = list(csv.reader(file))
    template = data.columns.image or ""
    key = header.index(data.columns.item_id or template)
    like = next(row for row in rows if len(row) == len(header))
    names = {"../../outside": "path_escape", "/etc/hostname": "path_escape", "x" * 300: "name_too_long"}
    names |= {"no\0name": "bad_path", "nowhere": "missing_file"}
    for name, reason in names.items():
        # a template adds the ending itself
        cell = name if "{" in template else f"{name}.jpg"
        rows.append([cell if place == key else value for place, value in enumerate(like)])
        done.added[cell if "{" in template else Path(cell).stem] = reason
    rows.append(["" if place == key else value for place, value in enumerate(like)])
    rows.append(["ragged", "row"])
    rows.append(list(rows[0]))
    with open(table, "w", encoding="utf-8", newline="") as file:
        csv.writer(file).writerows([header, *rows])
    done.n_rows = len(rows)


def grey(data: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(data)) as image:
        return np.asarray(image.convert("L")).astype(float)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("name", "folder"),
    [("tshirts", "tshirts"), pytest.param("fashion_products", "fashion-products", marks=pytest.mark.slow)],
)
def test_every_damage_lands_where_it_belongs(name: str, folder: str, tmp_path: Path) -> None:
    data = load_params(ROOT / "tests" / "real" / f"{name}.yaml").data
    schema = ROOT / data.attribute_schema
    before = process_catalog(DATA / folder, schema, tmp_path / "whole", data, workers=2)
    rows = read_rows(tmp_path / "whole").set_index("item_id")
    whole = read_images(tmp_path / "whole", rows.index)
    images = DATA / folder / data.image_root
    photos = {item_id: f"{item_id}.jpg" for item_id in rows.index if (images / f"{item_id}.jpg").is_file()}
    assert len(photos) > 0.9 * len(rows)
    done = damage(DATA / folder, tmp_path / "raw", data, photos)
    assert set(done.kinds.values()) == {*USELESS, *ELSEWHERE, *ODD} and len(done.kinds) >= SHARE * len(photos) - 1

    free = data.model_copy(update={"max_bad_fraction": 0.2})
    report = process_catalog(tmp_path / "raw", schema, tmp_path / "hf", free, workers=2)
    after = read_rows(tmp_path / "hf").set_index("item_id")
    quarantine = read_parquet(tmp_path / "hf" / "quarantine.parquet")
    assert report["ok"] + report["quarantined"] == report["rows"] == done.n_rows
    assert (report["ok"], report["quarantined"]) == (len(after), len(quarantine))

    reasons = dict(zip(quarantine["item_id"], quarantine["reason"], strict=True))
    useless = {item_id: kind for item_id, kind in done.kinds.items() if kind not in ODD}
    expected = {kind: reason for kind, (reason, _) in (USELESS | ELSEWHERE).items()}
    assert {item_id: reasons.get(item_id) for item_id in useless} == {
        i: expected[kind] for i, kind in useless.items()
    }
    assert {item_id: reasons.get(item_id) for item_id in done.added} == done.added
    counts = dict(before["quarantined_by_reason"])
    for reason in (*(expected[kind] for kind in useless.values()), *done.added.values()):
        counts[reason] = counts.get(reason, 0) + 1
    for reason in ("empty_id", "ragged_row", "duplicate_row"):
        counts[reason] = counts.get(reason, 0) + 1
    assert report["quarantined_by_reason"] == dict(sorted(counts.items()))

    untouched = [item_id for item_id in rows.index if item_id not in done.kinds]
    assert set(after.index) == {*untouched, *(item_id for item_id, kind in done.kinds.items() if kind in ODD)}
    kept = read_images(tmp_path / "hf", after.index)
    assert all(kept[item_id] == whole[item_id] for item_id in untouched), "a neighbour's photo has changed"
    told = [column for column in STRING_COLUMNS if column not in ("item_id", "product_id", "product_key")]
    assert after.loc[untouched, told].equals(rows.loc[untouched, told]), "a neighbour's row has changed"

    for item_id, kind in done.kinds.items():
        if kind in ODD:
            old, new = grey(whole[item_id]), grey(kept[item_id])
            assert old.shape == new.shape, kind
            assert abs(old - new).mean() < 12, kind
    noted = sorted(item_id for item_id, kind in done.kinds.items() if kind == "corrupt exif")
    assert report["photos"]["notes"]["corrupt_exif"]["count"] == len(noted)
