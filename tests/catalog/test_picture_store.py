"""Photos of pairs in one file: the bytes that were kept, any of them at once, none of them in memory."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import pyarrow as pa
import pytest
from tiny_towers import add_row, draw_shop, keep_pictures, tiny_two_tower

from lib.base.artifacts import read_manifest
from lib.base.errors import DataError, IntegrityError
from lib.catalog.picture_store import (
    BATCH,
    PICTURES,
    Pictures,
    PictureTables,
    PictureWriter,
    load_picture_tables,
    write_tables,
)


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    draw_shop(tmp_path / "raw", n_products=12, n_asked=4)
    keep_pictures(tmp_path / "raw", tmp_path / "photos", tiny_two_tower())
    return tmp_path / "photos"


def opened(folder: Path) -> PictureTables:
    tables = load_picture_tables(folder)
    assert tables is not None
    return tables


def bytes_of(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


def many(folder: Path, n: int, *, size: int = 100) -> Pictures:
    """A folder of n pictures, which are no images: nothing here looks into them."""
    folder.mkdir()
    rng = np.random.default_rng(0)
    with PictureWriter(folder) as writer:
        for number in range(n):
            writer.add(f"photo {number}", number.to_bytes(32, "big"), rng.bytes(size + number % 7))
    none = np.zeros((0, 2), dtype=np.int64)
    write_tables(folder, {"pairs": none, "candidates": none[:, 0], "query_gt": none}, {}, root="raw")
    return opened(folder).pictures


def test_what_was_kept_is_what_is_read(photos: Path) -> None:
    tables = opened(photos)
    raw = photos.parent / "raw"
    assert tables.root == raw.as_posix() and len(tables.pictures) == 36
    for number in np.random.default_rng(0).permutation(36).tolist():
        assert tables.pictures.read(number) == (raw / tables.pictures.names[number]).read_bytes()
    for array, shape in ((tables.pairs, (16, 2)), (tables.candidates, (24,)), (tables.truths, (8, 2))):
        assert array.shape == shape and array.dtype == np.int64 and array.flags.c_contiguous
    assert set(read_manifest(photos)["files"]) == set(bytes_of(photos)) - {"manifest.json"}


def test_the_same_tables_give_the_same_bytes(photos: Path) -> None:
    before = bytes_of(photos)
    keep_pictures(photos.parent / "raw", photos, tiny_two_tower())
    assert bytes_of(photos) == before


@pytest.mark.parametrize("n", [0, 1, BATCH, 2 * BATCH + 3])
def test_any_number_of_pictures(tmp_path: Path, n: int) -> None:
    pictures = many(tmp_path / "photos", n)
    assert len(pictures) == n and pictures.images.num_chunks == -(-n // BATCH)
    rng = np.random.default_rng(0)
    expected = [rng.bytes(100 + number % 7) for number in range(n)]
    assert [pictures.images[number].as_py() for number in range(n)] == expected


def test_an_image_is_kept_once_under_its_first_name(tmp_path: Path) -> None:
    with PictureWriter(tmp_path) as writer:
        for name, image in (("a", b"x"), ("b", b"y"), ("copy of a", b"x")):
            writer.add(name, image.ljust(32), image)
    assert writer.numbers == {b"x".ljust(32): 0, b"y".ljust(32): 1}


def test_pictures_stay_in_the_file(tmp_path: Path) -> None:
    """Opening and reading one of them takes no memory that arrow knows of, and moves nothing else into it."""
    many(tmp_path / "photos", 600, size=10_000)
    before = pa.total_allocated_bytes()
    pictures = opened(tmp_path / "photos").pictures
    assert len(pictures.images[599].as_py()) == 10_000 + 599 % 7
    assert pa.total_allocated_bytes() - before < 1_000_000 < pictures.images.nbytes


def test_without_tables_the_folder_says_why(photos: Path) -> None:
    assert keep_pictures(photos.parent / "raw", photos, tiny_two_tower(pairs="")) is None
    assert load_picture_tables(photos) is None
    assert read_manifest(photos) == {"files": {}, "skipped": "two_tower.pairs names no table of pairs"}


def test_a_flipped_bit_is_seen_when_the_folder_is_opened(photos: Path) -> None:
    for name, before in bytes_of(photos).items():
        damaged = bytearray(before)
        damaged[len(before) // 2] ^= 1
        (photos / name).write_bytes(damaged)
        with pytest.raises(IntegrityError, match=f"{name}: damaged"):
            load_picture_tables(photos)
        (photos / name).write_bytes(before)


def test_a_picture_that_changes_meanwhile_is_noticed(photos: Path) -> None:
    pictures = opened(photos).pictures
    image = pictures.read(5)
    with (photos / PICTURES).open("r+b") as file:
        file.seek(file.read().index(image) + len(image) // 2)
        file.write(b"\0\0\0\0")
    with pytest.raises(IntegrityError, match=r"pictures.arrow: .* changed while .* run `dvc repro process_data`"):
        pictures.read(5)
    assert pictures.read(6)


def test_tables_that_cannot_be_used_leave_the_old_photos(photos: Path) -> None:
    before, raw = bytes_of(photos), photos.parent / "raw"
    tables = shutil.copytree(raw / "two_tower", photos.parent / "tables")
    add_row(raw, "pairs", "street/q0.png", "shop/c7_0.png")
    with pytest.raises(DataError, match=r"leakage: 2 of 8 rows of query_gt.csv"):
        keep_pictures(raw, photos, tiny_two_tower())
    shutil.copytree(tables, raw / "two_tower", dirs_exist_ok=True)
    add_row(raw, "pairs", "street/none.png", "shop/c7_0.png")
    with pytest.raises(DataError, match="max_bad_fraction"):
        keep_pictures(raw, photos, tiny_two_tower(max_bad_fraction=0.0))
    assert bytes_of(photos) == before
    assert sorted(path.name for path in photos.parent.iterdir()) == ["photos", "raw", "tables"]
